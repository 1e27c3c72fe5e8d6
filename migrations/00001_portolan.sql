-- +goose Up

-- One row: what belongs to this installation as a whole.
CREATE TABLE settings (
    only_row         boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    installation_id  uuid NOT NULL DEFAULT gen_random_uuid(),
    setup_token_hash bytea
);
INSERT INTO settings DEFAULT VALUES;

-- People.

CREATE TABLE users (
    id            uuid PRIMARY KEY,
    email         text NOT NULL CONSTRAINT users_email_key UNIQUE CHECK (email = lower(email)),
    role          text NOT NULL CHECK (role IN ('viewer', 'operator', 'admin')),
    password_hash text NOT NULL,
    disabled      boolean NOT NULL DEFAULT false,
    epoch         bigint NOT NULL DEFAULT 1,
    created_at    timestamptz NOT NULL DEFAULT now()
);

-- Its columns are those that the session library expects.
CREATE TABLE sessions (
    token  text PRIMARY KEY,
    data   bytea NOT NULL,
    expiry timestamptz NOT NULL
);
CREATE INDEX sessions_expiry_idx ON sessions (expiry);

CREATE TABLE login_failures (
    id  bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    key text NOT NULL,
    at  timestamptz NOT NULL
);
CREATE INDEX login_failures_key_idx ON login_failures (key, at);
CREATE INDEX login_failures_at_idx ON login_failures (at);

CREATE TABLE audit (
    id      bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at      timestamptz NOT NULL,
    actor   text NOT NULL,
    action  text NOT NULL,
    target  text NOT NULL,
    outcome text NOT NULL,
    reason  text NOT NULL,
    address text NOT NULL,
    diff    jsonb
);
CREATE INDEX audit_target_idx ON audit (target, id);
CREATE INDEX audit_actor_idx ON audit (actor, id);

-- The registry.

CREATE TABLE clusters (
    id                 text COLLATE "C" PRIMARY KEY CHECK (id ~ '^[a-z0-9][a-z0-9-]{0,61}[a-z0-9]$'),
    label              text NOT NULL,
    provider           text NOT NULL,
    cluster_name       text NOT NULL,
    credential_mode    text NOT NULL CHECK (credential_mode IN ('mounted', 'encrypted')),
    kubeconfig_path    text NOT NULL,
    context            text NOT NULL,
    credential_hash    text NOT NULL,
    namespace          text NOT NULL,
    runtime_namespaces jsonb NOT NULL,
    exposure           jsonb NOT NULL,
    image_pull_secrets text[] NOT NULL,
    labels             jsonb NOT NULL,
    region             text NOT NULL,
    enabled            boolean NOT NULL,
    version            bigint NOT NULL DEFAULT 1,
    created_at         timestamptz NOT NULL DEFAULT now(),
    updated_at         timestamptz NOT NULL DEFAULT now(),

    -- What is tested, computed by the program whenever one of its parts changes.
    fingerprint        text NOT NULL,
    -- The latest test that has ended; that one row also stands in connection_tests.
    test_id            bigint,
    test_state         text CHECK (test_state IN ('ok', 'failed')),
    test_fingerprint   text,
    tested_at          timestamptz,
    credential_ends_at timestamptz,

    -- The state that decides whether the cluster is a target: a test of another
    -- configuration counts for nothing.
    verdict text NOT NULL GENERATED ALWAYS AS (
        CASE WHEN test_fingerprint = fingerprint THEN test_state ELSE 'untested' END
    ) STORED,
    -- The one list of the registry that the cluster is on.
    standing text NOT NULL GENERATED ALWAYS AS (
        CASE WHEN NOT enabled THEN 'disabled'
             WHEN test_fingerprint IS NULL OR test_fingerprint <> fingerprint THEN 'untested'
             WHEN test_state = 'failed' THEN 'failed'
             WHEN credential_hash = '' THEN 'untested'
             ELSE 'available'
        END
    ) STORED
);
CREATE INDEX clusters_label_idx ON clusters (lower(label), id);
CREATE INDEX clusters_standing_idx ON clusters (standing, lower(label), id);
CREATE INDEX clusters_credential_ends_at_idx ON clusters (credential_ends_at);

CREATE TABLE cluster_credentials (
    cluster_id text COLLATE "C" PRIMARY KEY REFERENCES clusters (id) ON DELETE CASCADE,
    key_id     text NOT NULL,
    sealed     bytea NOT NULL,
    updated_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE connection_tests (
    id              bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    cluster_id      text COLLATE "C" NOT NULL REFERENCES clusters (id) ON DELETE CASCADE,
    fingerprint     text NOT NULL,
    credential_mode text NOT NULL,
    state           text NOT NULL CHECK (state IN ('running', 'ok', 'failed')),
    trigger         text NOT NULL,
    actor           text NOT NULL,
    started_at      timestamptz NOT NULL,
    finished_at     timestamptz CHECK ((finished_at IS NULL) = (state = 'running')),
    deadline        interval NOT NULL,
    checks          jsonb NOT NULL,
    server_version  text NOT NULL,
    identity        text NOT NULL,
    cluster_uid     text NOT NULL,
    uid_namespace   text NOT NULL,
    permissions     jsonb NOT NULL,
    credential      jsonb NOT NULL
);
CREATE INDEX connection_tests_cluster_idx ON connection_tests (cluster_id, id DESC);
CREATE UNIQUE INDEX connection_tests_running_key ON connection_tests (cluster_id) WHERE state = 'running';

-- Workloads.

CREATE TABLE workloads (
    id         uuid PRIMARY KEY,
    name       text COLLATE "C" NOT NULL,
    cluster_id text COLLATE "C" NOT NULL CONSTRAINT workloads_cluster_fkey REFERENCES clusters (id) ON DELETE RESTRICT,
    namespace  text COLLATE "C" NOT NULL,
    runtime    text COLLATE "C" NOT NULL,
    kind       text NOT NULL CHECK (kind IN ('Deployment', 'StatefulSet')),
    release    integer NOT NULL,
    replicas   integer NOT NULL,
    stopped    boolean NOT NULL,
    created_by text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),

    -- What lists show and search, kept in step by every write that changes it.
    image        text NOT NULL DEFAULT '', -- of the release
    phase        text COLLATE "C" NOT NULL DEFAULT 'unknown', -- as of the latest write; age is judged when it is read
    phase_reason text NOT NULL DEFAULT '',
    phase_since  timestamptz NOT NULL DEFAULT now(),
    busy         boolean NOT NULL DEFAULT false, -- has an unfinished operation
    observed_at  timestamptz, -- of the observation; null = never
    search       text NOT NULL GENERATED ALWAYS AS (lower(name || ' ' || cluster_id || ' ' || namespace || ' ' || image)) STORED,

    CONSTRAINT workloads_name_key UNIQUE (cluster_id, namespace, name)
) WITH (fillfactor = 80);
CREATE INDEX workloads_list_idx ON workloads (name, id);
CREATE INDEX workloads_cluster_list_idx ON workloads (cluster_id, name, id);
CREATE INDEX workloads_phase_list_idx ON workloads (phase, name, id);

CREATE TABLE releases (
    workload_id    uuid NOT NULL REFERENCES workloads (id) ON DELETE CASCADE,
    number         integer NOT NULL CHECK (number > 0),
    spec           jsonb NOT NULL,
    sealed_secrets bytea,
    sealed_key_id  text NOT NULL,
    from_release   integer NOT NULL,
    succeeded      boolean NOT NULL DEFAULT false,
    created_by     text NOT NULL,
    created_at     timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (workload_id, number)
);

-- Operations outlive their workload and its cluster: nothing refers to those.
CREATE TABLE operations (
    id               uuid PRIMARY KEY,
    number           bigint GENERATED ALWAYS AS IDENTITY, -- the order in which they began
    workload_id      uuid NOT NULL,
    workload_name    text NOT NULL,
    cluster_id       text NOT NULL,
    namespace        text NOT NULL,
    runtime          text NOT NULL,
    verb             text NOT NULL,
    state            text NOT NULL CHECK (state IN ('queued', 'running', 'succeeded', 'failed', 'cancelled')),
    release          integer NOT NULL,
    params           jsonb NOT NULL,
    actor            text NOT NULL,
    cancel_requested boolean NOT NULL DEFAULT false,
    failure          jsonb,
    created_at       timestamptz NOT NULL DEFAULT now(),
    started_at       timestamptz,
    finished_at      timestamptz CHECK ((finished_at IS NULL) = (state IN ('queued', 'running'))),
    last_seq         bigint NOT NULL DEFAULT 0, -- of its newest event

    -- Who may work at it: the bearer of token, who holds it while heartbeat_at
    -- is set. Let go of, it waits for the job that is due at wake_at.
    token            bigint NOT NULL DEFAULT 1,
    heartbeat_at     timestamptz,
    wake_at          timestamptz NOT NULL DEFAULT now()
) WITH (fillfactor = 80);
CREATE UNIQUE INDEX operations_unfinished_key ON operations (workload_id) WHERE state IN ('queued', 'running');
CREATE UNIQUE INDEX operations_number_key ON operations (number);
CREATE INDEX operations_workload_idx ON operations (workload_id, number DESC);
CREATE INDEX operations_state_idx ON operations (state, number DESC);

CREATE TABLE operation_steps (
    operation_id uuid NOT NULL REFERENCES operations (id) ON DELETE CASCADE,
    name         text NOT NULL,
    position     integer NOT NULL,
    state        text NOT NULL CHECK (state IN ('pending', 'running', 'succeeded', 'failed', 'skipped')),
    message      text NOT NULL,
    started_at   timestamptz,
    finished_at  timestamptz,
    PRIMARY KEY (operation_id, name)
) WITH (fillfactor = 80);

CREATE TABLE operation_events (
    operation_id uuid NOT NULL REFERENCES operations (id) ON DELETE CASCADE,
    seq          bigint NOT NULL CHECK (seq > 0),
    at           timestamptz NOT NULL,
    type         text NOT NULL,
    step         text NOT NULL,
    state        text NOT NULL,
    reason       text NOT NULL,
    object       text NOT NULL,
    message      text NOT NULL,
    PRIMARY KEY (operation_id, seq)
);

-- What is seen in the clusters.

CREATE TABLE observations (
    workload_id         uuid PRIMARY KEY REFERENCES workloads (id) ON DELETE CASCADE,
    seen_at             timestamptz NOT NULL,
    changed_at          timestamptz NOT NULL,
    present             boolean NOT NULL,
    uid                 text NOT NULL,
    generation          bigint NOT NULL,
    observed_generation bigint NOT NULL,
    desired             integer NOT NULL,
    current             integer NOT NULL,
    ready               integer NOT NULL,
    available           integer NOT NULL,
    updated             integer NOT NULL,
    release             integer NOT NULL,
    health              text NOT NULL,
    message             text NOT NULL,
    reason              text NOT NULL,
    conditions          jsonb NOT NULL,
    pods                jsonb NOT NULL,
    endpoints           jsonb NOT NULL
) WITH (fillfactor = 70);

-- A watch of one namespace. Its proof of life is the proof for every
-- observation made there, so that a quiet watch costs one row a beat. A row is
-- there from the first workload of the namespace on.
CREATE TABLE observation_sources (
    cluster_id text COLLATE "C" NOT NULL REFERENCES clusters (id) ON DELETE CASCADE,
    namespace  text COLLATE "C" NOT NULL,
    alive_at   timestamptz,
    error      text NOT NULL DEFAULT '',
    error_at   timestamptz,
    PRIMARY KEY (cluster_id, namespace)
) WITH (fillfactor = 50);

CREATE TABLE observer_leases (
    cluster_id text COLLATE "C" PRIMARY KEY REFERENCES clusters (id) ON DELETE CASCADE,
    holder     text NOT NULL,
    expires_at timestamptz NOT NULL
) WITH (fillfactor = 50);
CREATE INDEX observer_leases_holder_idx ON observer_leases (holder);
