-- +goose Up

-- What an admin has knowingly allowed a kubeconfig to say.
ALTER TABLE clusters
    ADD COLUMN allow_tls_skip boolean NOT NULL DEFAULT false,
    ADD COLUMN allow_proxy    boolean NOT NULL DEFAULT false;
