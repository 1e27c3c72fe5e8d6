-- +goose Up

-- Who asked for the test that is wanted; '' = nobody did, it is due by itself.
-- It has a meaning only while test_wanted.
ALTER TABLE clusters ADD COLUMN test_wanted_by text NOT NULL DEFAULT '';

-- What became of invitations, so that the record can tell a link that was used
-- from one that never was there. Those that only ran out stay in invites.
CREATE TABLE ended_invites (
    token_hash bytea PRIMARY KEY,
    email      text NOT NULL,
    ending     text NOT NULL CHECK (ending IN ('used', 'withdrawn', 'replaced', 'expired')),
    at         timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX ended_invites_at_idx ON ended_invites (at);

-- What the kubeconfig itself says of the credential: kind, subject, end.
ALTER TABLE clusters ADD COLUMN credential jsonb NOT NULL DEFAULT '{}';
-- The end is that of the present credential from now on. What a test has seen of
-- another configuration may be that of one that has been replaced.
UPDATE clusters SET credential_ends_at = NULL WHERE test_fingerprint IS DISTINCT FROM fingerprint;
