-- +goose Up

-- The end of a test changes nothing of its cluster that an index is about. No
-- query reads the one about test_wanted; without it, and with room in the page,
-- most such writes leave the indexes alone. A round of all tests writes every row
-- twice, when its test is wanted and when it has ended: hence so much room.
DROP INDEX clusters_test_wanted_idx;
ALTER TABLE clusters SET (fillfactor = 50);
