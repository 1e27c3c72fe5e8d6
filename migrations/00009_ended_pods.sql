-- +goose Up

-- How many pods that have ended are left out of pods: thousands of evicted ones
-- stay in a cluster until its garbage collector removes them.
ALTER TABLE observations ADD COLUMN pods_omitted integer NOT NULL DEFAULT 0;
