-- +goose Up

-- A test is wanted from the moment it begins until its result is stored, and
-- whenever a mounted kubeconfig has changed: whoever polls then tests, even if
-- the process that was to do it has ended.
ALTER TABLE clusters ADD COLUMN test_wanted boolean NOT NULL DEFAULT false;
CREATE INDEX clusters_test_wanted_idx ON clusters (id) WHERE test_wanted;
