-- +goose Up

-- Who asked for the test that is wanted; '' = nobody did, it is due by itself.
-- It has a meaning only while test_wanted.
ALTER TABLE clusters ADD COLUMN test_wanted_by text NOT NULL DEFAULT '';
