-- +goose Up

-- From what tokens for a managed cluster are made, where it is not what the
-- machine has: sealed like kubeconfigs, whichever way the kubeconfig is kept.
CREATE TABLE cluster_cloud_credentials (
    cluster_id text COLLATE "C" PRIMARY KEY REFERENCES clusters (id) ON DELETE CASCADE,
    key_id     text NOT NULL,
    sealed     bytea NOT NULL,
    updated_at timestamptz NOT NULL DEFAULT now()
);

-- What may be shown of it, and the hash by which a change is noticed.
ALTER TABLE clusters ADD COLUMN cloud jsonb NOT NULL DEFAULT '{}';
