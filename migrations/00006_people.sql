-- +goose Up

-- What a person is shown of their sessions. The columns are filled beside the
-- ones that the session library writes.
ALTER TABLE sessions
    ADD COLUMN id         uuid NOT NULL DEFAULT gen_random_uuid() CONSTRAINT sessions_id_key UNIQUE,
    ADD COLUMN user_id    uuid REFERENCES users (id) ON DELETE CASCADE,
    ADD COLUMN address    text NOT NULL DEFAULT '',
    ADD COLUMN agent      text NOT NULL DEFAULT '',
    ADD COLUMN started_at timestamptz NOT NULL DEFAULT now(),
    ADD COLUMN seen_at    timestamptz NOT NULL DEFAULT now(),
    ADD COLUMN ended      boolean NOT NULL DEFAULT false;
CREATE INDEX sessions_user_idx ON sessions (user_id);

-- A session that was ended stays so: a request that was under way may still
-- write down what it had read of it.
-- +goose StatementBegin
CREATE FUNCTION keep_ended_session() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RETURN NULL;
END $$;
-- +goose StatementEnd
CREATE TRIGGER sessions_ended BEFORE UPDATE ON sessions
    FOR EACH ROW WHEN (OLD.ended) EXECUTE FUNCTION keep_ended_session();

-- One-time links by which people make their account. Only a hash of what
-- stands in the link is kept.
CREATE TABLE invites (
    id         uuid PRIMARY KEY,
    email      text NOT NULL CONSTRAINT invites_email_key UNIQUE CHECK (email = lower(email)),
    role       text NOT NULL CHECK (role IN ('viewer', 'operator', 'admin')),
    token_hash bytea NOT NULL CONSTRAINT invites_token_hash_key UNIQUE,
    invited_by text NOT NULL,
    created_at timestamptz NOT NULL,
    expires_at timestamptz NOT NULL
);

-- Attempts that anybody can repeat without end are one row that counts them:
-- fold is the same for those that belong together.
ALTER TABLE audit
    ADD COLUMN times integer NOT NULL DEFAULT 1,
    ADD COLUMN fold  text;
CREATE UNIQUE INDEX audit_fold_key ON audit (fold) WHERE fold IS NOT NULL;

-- The record is read newest first, whatever it is filtered by. Texts are
-- compared by their beginning.
DROP INDEX audit_target_idx;
DROP INDEX audit_actor_idx;
CREATE INDEX audit_at_idx ON audit (at, id);
CREATE INDEX audit_actor_idx ON audit (actor text_pattern_ops, at, id);
CREATE INDEX audit_action_idx ON audit (action, at, id);
CREATE INDEX audit_target_idx ON audit (target text_pattern_ops, at, id);
CREATE INDEX audit_not_ok_idx ON audit (outcome, at, id) WHERE outcome <> 'ok';

-- Retention.
ALTER TABLE operations ADD COLUMN events_removed boolean NOT NULL DEFAULT false;
CREATE INDEX operations_finished_idx ON operations (finished_at) WHERE finished_at IS NOT NULL;
CREATE INDEX operations_events_idx ON operations (finished_at) WHERE finished_at IS NOT NULL AND NOT events_removed;
CREATE INDEX connection_tests_finished_idx ON connection_tests (finished_at) WHERE finished_at IS NOT NULL;
