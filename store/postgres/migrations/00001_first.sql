-- +goose Up
-- Times are microseconds since 1970 by the database's clock, 0 for never. Texts of JSON are text, not jsonb: a place must come back as
-- it came, and jsonb refuses \u0000. What belongs to a job has no foreign key: every writer holds the lock of the job's row, and
-- a check for each of a million results costs more than their insert.

-- The clock of leases and of all times in the store. Tests put another in its place.
-- +goose StatementBegin
CREATE FUNCTION gmaps_now() RETURNS bigint LANGUAGE sql VOLATILE AS
    $$ SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint $$;
-- +goose StatementEnd

CREATE TABLE jobs (
    key             bigint  GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    id              text    COLLATE "C" UNIQUE, -- NULL: deleted, and its rows wait to be purged
    name            text    NOT NULL,           -- case-folded, for search
    spec            text    NOT NULL,           -- JSON without inputs
    state           text    NOT NULL,
    waiting         text    NOT NULL DEFAULT '',
    reason          text    NOT NULL DEFAULT '',
    partial         boolean NOT NULL DEFAULT false,
    priority        bigint  NOT NULL,
    max_results     bigint  NOT NULL,
    max_time        bigint  NOT NULL,           -- microseconds
    max_workers     bigint  NOT NULL,
    max_attempts    bigint  NOT NULL,
    open            bigint  NOT NULL DEFAULT 0,
    leased          bigint  NOT NULL DEFAULT 0,
    done            bigint  NOT NULL DEFAULT 0,
    dead            bigint  NOT NULL DEFAULT 0,
    skipped         bigint  NOT NULL DEFAULT 0,
    places          bigint  NOT NULL DEFAULT 0,
    duplicates      bigint  NOT NULL DEFAULT 0,
    spawns          bigint  NOT NULL DEFAULT 0,
    created_at      bigint  NOT NULL,
    started_at      bigint  NOT NULL DEFAULT 0,
    ended_at        bigint  NOT NULL DEFAULT 0,
    updated_at      bigint  NOT NULL,
    deadline        bigint  NOT NULL DEFAULT 0,
    idempotency_key text    COLLATE "C",
    request_hash    text    NOT NULL DEFAULT '',
    -- Stored, so that an update that leaves it as it is touches no index.
    grantable       boolean NOT NULL GENERATED ALWAYS AS (open > 0 AND state IN ('pending', 'running')) STORED,
    -- The order of priority with ageing of one a minute: (now - created) / minute + priority compares as this does, at any now.
    rank            bigint  NOT NULL GENERATED ALWAYS AS (created_at - priority * 60000000) STORED
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 1000);

CREATE UNIQUE INDEX jobs_by_idempotency ON jobs (idempotency_key) WHERE idempotency_key IS NOT NULL;
CREATE INDEX jobs_by_state    ON jobs (state, id DESC);
CREATE INDEX jobs_by_rank     ON jobs (rank, key)   WHERE grantable;
CREATE INDEX jobs_by_age      ON jobs (created_at)  WHERE grantable;
CREATE INDEX jobs_by_deadline ON jobs (deadline)    WHERE deadline > 0;
CREATE INDEX jobs_waiting     ON jobs (key)         WHERE waiting <> '';
CREATE INDEX jobs_deleted     ON jobs (key)         WHERE id IS NULL;

CREATE TABLE job_inputs (
    job_key bigint PRIMARY KEY,
    inputs  text   NOT NULL                     -- JSON
);

CREATE TABLE tasks (
    id         bigint  GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    job_key    bigint  NOT NULL,
    state      text    COLLATE "C" NOT NULL,
    fence      bigint  NOT NULL DEFAULT 0,      -- of its last lease
    input_id   text    NOT NULL,
    attempts   bigint  NOT NULL DEFAULT 0,
    crashes    bigint  NOT NULL DEFAULT 0,
    not_before bigint  NOT NULL DEFAULT 0,
    updated_at bigint  NOT NULL,
    query      text    NOT NULL,                -- JSON
    cell       text    NOT NULL,                -- JSON, '' outside grids
    cursor     text    NOT NULL DEFAULT '',
    error      text    NOT NULL DEFAULT '',
    suspect    boolean NOT NULL GENERATED ALWAYS AS (crashes > 0) STORED
) WITH (fillfactor = 85, autovacuum_vacuum_scale_factor = 0.05);

CREATE INDEX tasks_by_state ON tasks (job_key, state, id);
CREATE INDEX tasks_open     ON tasks (job_key, suspect, not_before, id) WHERE state = 'open';
CREATE INDEX tasks_leased   ON tasks (fence)      WHERE state = 'leased';
CREATE INDEX tasks_backoff  ON tasks (not_before) WHERE state = 'open' AND not_before > 0;

CREATE TABLE leases (
    fence      bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, -- of a sequence: larger than any before, deleted ones included
    job_key    bigint NOT NULL,
    spawn_id   text   COLLATE "C" NOT NULL,
    granted_at bigint NOT NULL,
    expires_at bigint NOT NULL,                 -- in no index, so that to renew a lease writes none
    ended_at   bigint NOT NULL DEFAULT 0
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 500);

CREATE INDEX leases_by_job ON leases (job_key, ended_at);
CREATE INDEX leases_live   ON leases (spawn_id) WHERE ended_at = 0;

-- What was acknowledged under a fence, to know a replay by its content.
CREATE TABLE submits (
    fence      bigint NOT NULL,
    digest     bytea  NOT NULL,
    new        bigint NOT NULL,
    duplicates bigint NOT NULL,
    at         bigint NOT NULL,
    PRIMARY KEY (fence, digest)
);

CREATE INDEX submits_by_age ON submits (at);

CREATE TABLE results (
    -- Given out under the lock of the job's row: who pages by it sees no smaller one appear later.
    seq       bigint  GENERATED ALWAYS AS IDENTITY,
    job_key   bigint  NOT NULL,
    task_id   bigint  NOT NULL,
    found_at  bigint  NOT NULL,
    rating    float8  NOT NULL,
    website   boolean NOT NULL,                 -- has one
    phone     boolean NOT NULL,
    place_key text    COLLATE "C" NOT NULL,
    country   text    NOT NULL,                 -- upper case
    city      text    NOT NULL,                 -- case-folded, as category and search
    category  text    NOT NULL,
    search    text    NOT NULL,
    place     text    NOT NULL,                 -- JSON
    PRIMARY KEY (job_key, seq)
);

CREATE UNIQUE INDEX results_by_place ON results (job_key, place_key);

CREATE TABLE spawns (
    id          text   COLLATE "C" PRIMARY KEY,
    job_id      text   COLLATE "C" NOT NULL,    -- '' for a standing worker; not a reference: a live worker outlasts its deleted job
    backend     text   NOT NULL,
    external_id text   NOT NULL DEFAULT '',
    state       text   NOT NULL,
    outcome     text   NOT NULL DEFAULT '',
    reason      text   NOT NULL DEFAULT '',
    exit_code   bigint,
    log_tail    text   NOT NULL DEFAULT '',
    concurrency bigint NOT NULL,
    nonce       text   NOT NULL DEFAULT '',
    created_at  bigint NOT NULL,
    started_at  bigint NOT NULL DEFAULT 0,
    joined_at   bigint NOT NULL DEFAULT 0,
    seen_at     bigint NOT NULL DEFAULT 0,
    ended_at    bigint NOT NULL DEFAULT 0,
    cost_usd    float8 NOT NULL DEFAULT 0
) WITH (fillfactor = 70);

CREATE INDEX spawns_by_job      ON spawns (job_id, id);
CREATE INDEX spawns_live_of_job ON spawns (job_id)      WHERE state <> 'ended';
CREATE INDEX spawns_live        ON spawns (backend, id) WHERE state <> 'ended';
CREATE INDEX spawns_ended       ON spawns (ended_at)    WHERE ended_at > 0;
CREATE UNIQUE INDEX spawns_standing ON spawns (nonce)   WHERE backend = 'none' AND state <> 'ended';

CREATE TABLE events (
    id      bigint GENERATED ALWAYS AS IDENTITY, -- under the lock of the job's row, as results.seq
    job_key bigint NOT NULL,
    at      bigint NOT NULL,
    kind    text   NOT NULL,
    text    text   NOT NULL,
    data    text   NOT NULL DEFAULT '',         -- JSON
    PRIMARY KEY (job_key, id)
);

CREATE TABLE settings (
    key   text COLLATE "C" PRIMARY KEY,
    value text NOT NULL
);

-- One row, locked by who plans spawns: the cap is counted and used up under it.
CREATE TABLE planning (one bool PRIMARY KEY CHECK (one));
INSERT INTO planning (one) VALUES (true);

-- The Manager that leads, until when.
CREATE TABLE leader (
    one    bool   PRIMARY KEY CHECK (one),
    holder text   NOT NULL,
    until  bigint NOT NULL
);
INSERT INTO leader (one, holder, until) VALUES (true, '', 0);

-- How spawns ended, ever.
CREATE TABLE outcomes (
    outcome text    NOT NULL,
    failure boolean NOT NULL,
    n       bigint  NOT NULL,
    PRIMARY KEY (outcome, failure)
);

-- The sums over all jobs, in many rows that are added up: a transaction adds to one that no other holds, so that none waits for another.
-- There are as many rows as there were ever transactions at once.
CREATE TABLE totals (
    shard     bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    pending   bigint NOT NULL DEFAULT 0,
    running   bigint NOT NULL DEFAULT 0,
    paused    bigint NOT NULL DEFAULT 0,
    succeeded bigint NOT NULL DEFAULT 0,
    failed    bigint NOT NULL DEFAULT 0,
    cancelled bigint NOT NULL DEFAULT 0,
    open      bigint NOT NULL DEFAULT 0,
    leased    bigint NOT NULL DEFAULT 0,
    done      bigint NOT NULL DEFAULT 0,
    dead      bigint NOT NULL DEFAULT 0,
    skipped   bigint NOT NULL DEFAULT 0,
    places    bigint NOT NULL DEFAULT 0
) WITH (fillfactor = 10, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);
INSERT INTO totals (pending) SELECT 0 FROM generate_series(1, 32);

-- Kept by triggers, so that no writer can forget them.
-- +goose StatementBegin
CREATE FUNCTION gmaps_keep_totals() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    o jobs%ROWTYPE;
BEGIN
    IF TG_OP = 'UPDATE' THEN
        o := OLD;
    ELSE
        o.state := ''; o.open := 0; o.leased := 0; o.done := 0; o.dead := 0; o.skipped := 0; o.places := 0;
    END IF;
    LOOP
        UPDATE totals SET
            pending   = pending   + (NEW.state = 'pending')::int   - (o.state = 'pending')::int,
            running   = running   + (NEW.state = 'running')::int   - (o.state = 'running')::int,
            paused    = paused    + (NEW.state = 'paused')::int    - (o.state = 'paused')::int,
            succeeded = succeeded + (NEW.state = 'succeeded')::int - (o.state = 'succeeded')::int,
            failed    = failed    + (NEW.state = 'failed')::int    - (o.state = 'failed')::int,
            cancelled = cancelled + (NEW.state = 'cancelled')::int - (o.state = 'cancelled')::int,
            open      = open    + NEW.open    - o.open,
            leased    = leased  + NEW.leased  - o.leased,
            done      = done    + NEW.done    - o.done,
            dead      = dead    + NEW.dead    - o.dead,
            skipped   = skipped + NEW.skipped - o.skipped,
            places    = places  + NEW.places  - o.places
        -- Each connection begins with a row of its own and takes the next that is free.
        WHERE shard = (SELECT shard FROM totals WHERE shard > pg_backend_pid() % 32 ORDER BY shard LIMIT 1 FOR UPDATE SKIP LOCKED);
        EXIT WHEN FOUND;
        INSERT INTO totals DEFAULT VALUES;
    END LOOP;
    RETURN NULL;
END $$;
-- +goose StatementEnd

CREATE TRIGGER totals_insert AFTER INSERT ON jobs FOR EACH ROW EXECUTE FUNCTION gmaps_keep_totals();
CREATE TRIGGER totals_update AFTER UPDATE OF state, open, leased, done, dead, skipped, places ON jobs FOR EACH ROW
    WHEN ((NEW.state, NEW.open, NEW.leased, NEW.done, NEW.dead, NEW.skipped, NEW.places)
        IS DISTINCT FROM (OLD.state, OLD.open, OLD.leased, OLD.done, OLD.dead, OLD.skipped, OLD.places))
    EXECUTE FUNCTION gmaps_keep_totals();
