-- +goose Up

-- A test of a credential that is to replace the present one. It decides nothing
-- about the cluster unless the credential is taken, and then it is no trial.
ALTER TABLE connection_tests ADD COLUMN trial boolean NOT NULL DEFAULT false;
