-- +goose Up

-- Where a test's connection led: a hash of the server with how it is reached and
-- known. '' = not kept; only the server in credential is known then.
ALTER TABLE connection_tests ADD COLUMN destination text NOT NULL DEFAULT '';
