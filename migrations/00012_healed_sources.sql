-- +goose Up

-- When a watch that had failed was heard again: a reason to test its cluster.
ALTER TABLE observation_sources ADD COLUMN healed_at timestamptz;
