-- +goose Up
-- Times are microseconds since 1970 by the Manager's clock, 0 for never. Keys are integers, since a job's rows may be millions.

CREATE TABLE jobs (
    key             INTEGER PRIMARY KEY AUTOINCREMENT,
    id              TEXT UNIQUE,            -- NULL: deleted, and its rows wait to be purged
    name            TEXT    NOT NULL,       -- case-folded, for search
    spec            TEXT    NOT NULL,       -- JSON without inputs
    state           TEXT    NOT NULL,
    waiting         TEXT    NOT NULL DEFAULT '',
    reason          TEXT    NOT NULL DEFAULT '',
    partial         INTEGER NOT NULL DEFAULT 0,
    priority        INTEGER NOT NULL,
    max_results     INTEGER NOT NULL,
    max_time        INTEGER NOT NULL,       -- microseconds
    max_workers     INTEGER NOT NULL,
    max_attempts    INTEGER NOT NULL,
    open            INTEGER NOT NULL DEFAULT 0,
    leased          INTEGER NOT NULL DEFAULT 0,
    done            INTEGER NOT NULL DEFAULT 0,
    dead            INTEGER NOT NULL DEFAULT 0,
    skipped         INTEGER NOT NULL DEFAULT 0,
    places          INTEGER NOT NULL DEFAULT 0,
    duplicates      INTEGER NOT NULL DEFAULT 0,
    spawns          INTEGER NOT NULL DEFAULT 0,
    created_at      INTEGER NOT NULL,
    started_at      INTEGER NOT NULL DEFAULT 0,
    ended_at        INTEGER NOT NULL DEFAULT 0,
    updated_at      INTEGER NOT NULL,
    deadline        INTEGER NOT NULL DEFAULT 0,
    idempotency_key TEXT UNIQUE,
    request_hash    TEXT    NOT NULL DEFAULT '',
    grantable       INTEGER NOT NULL GENERATED ALWAYS AS (open > 0 AND state IN ('pending', 'running')) VIRTUAL,
    -- The order of priority with ageing of one a minute: (now - created) / minute + priority compares as this does, at any now.
    rank            INTEGER NOT NULL GENERATED ALWAYS AS (created_at - priority * 60000000) VIRTUAL
) STRICT;

CREATE INDEX jobs_by_state    ON jobs (state, id);
CREATE INDEX jobs_by_rank     ON jobs (rank, key)   WHERE grantable = 1;
CREATE INDEX jobs_by_age      ON jobs (created_at)  WHERE grantable = 1;
CREATE INDEX jobs_by_deadline ON jobs (deadline)    WHERE deadline > 0;
CREATE INDEX jobs_waiting     ON jobs (key)         WHERE waiting <> '';

CREATE TABLE job_inputs (
    job_key INTEGER PRIMARY KEY REFERENCES jobs ON DELETE CASCADE,
    inputs  TEXT NOT NULL                   -- JSON
) STRICT;

CREATE TABLE tasks (
    id         INTEGER PRIMARY KEY AUTOINCREMENT,
    job_key    INTEGER NOT NULL REFERENCES jobs,
    state      TEXT    NOT NULL,
    fence      INTEGER NOT NULL DEFAULT 0,  -- of its last lease
    input_id   TEXT    NOT NULL,
    attempts   INTEGER NOT NULL DEFAULT 0,
    crashes    INTEGER NOT NULL DEFAULT 0,
    not_before INTEGER NOT NULL DEFAULT 0,
    updated_at INTEGER NOT NULL,
    query      TEXT    NOT NULL,            -- JSON
    cell       TEXT    NOT NULL,            -- JSON, '' outside grids
    cursor     TEXT    NOT NULL DEFAULT '',
    error      TEXT    NOT NULL DEFAULT '',
    suspect    INTEGER NOT NULL GENERATED ALWAYS AS (crashes > 0) VIRTUAL
) STRICT;

CREATE INDEX tasks_by_state ON tasks (job_key, state, id);
CREATE INDEX tasks_open     ON tasks (job_key, suspect, not_before, id) WHERE state = 'open';
CREATE INDEX tasks_leased   ON tasks (fence)      WHERE state = 'leased';
CREATE INDEX tasks_backoff  ON tasks (not_before) WHERE state = 'open' AND not_before > 0;

CREATE TABLE leases (
    fence      INTEGER PRIMARY KEY AUTOINCREMENT, -- larger than any before, deleted ones included
    job_key    INTEGER NOT NULL REFERENCES jobs,
    spawn_id   TEXT    NOT NULL,
    granted_at INTEGER NOT NULL,
    expires_at INTEGER NOT NULL,
    ended_at   INTEGER NOT NULL DEFAULT 0
) STRICT;

CREATE INDEX leases_by_job      ON leases (job_key, ended_at);
CREATE INDEX leases_live        ON leases (expires_at) WHERE ended_at = 0;
CREATE INDEX leases_of_spawn    ON leases (spawn_id)   WHERE ended_at = 0;

-- What was acknowledged under a fence, to know a replay by its content.
CREATE TABLE submits (
    fence      INTEGER NOT NULL,
    digest     BLOB    NOT NULL,
    new        INTEGER NOT NULL,
    duplicates INTEGER NOT NULL,
    at         INTEGER NOT NULL,
    PRIMARY KEY (fence, digest)
) STRICT, WITHOUT ROWID;

CREATE INDEX submits_by_age ON submits (at);

CREATE TABLE results (
    seq       INTEGER PRIMARY KEY,
    job_key   INTEGER NOT NULL REFERENCES jobs,
    place_key TEXT    NOT NULL,
    task_id   INTEGER NOT NULL,
    found_at  INTEGER NOT NULL,
    rating    REAL    NOT NULL,
    website   INTEGER NOT NULL,             -- 1: has one
    phone     INTEGER NOT NULL,
    country   TEXT    NOT NULL,             -- upper case
    city      TEXT    NOT NULL,             -- case-folded, as category and search
    category  TEXT    NOT NULL,
    search    TEXT    NOT NULL,
    place     TEXT    NOT NULL,             -- JSON; last, so that filters need not read past it
    UNIQUE (job_key, place_key)
) STRICT;

CREATE INDEX results_by_seq ON results (job_key, seq);

CREATE TABLE spawns (
    id          TEXT PRIMARY KEY,
    job_id      TEXT    NOT NULL,           -- '' for a standing worker; not a reference: a live worker outlasts its deleted job
    backend     TEXT    NOT NULL,
    external_id TEXT    NOT NULL DEFAULT '',
    state       TEXT    NOT NULL,
    outcome     TEXT    NOT NULL DEFAULT '',
    reason      TEXT    NOT NULL DEFAULT '',
    exit_code   INTEGER,
    log_tail    TEXT    NOT NULL DEFAULT '',
    concurrency INTEGER NOT NULL,
    nonce       TEXT    NOT NULL DEFAULT '',
    created_at  INTEGER NOT NULL,
    started_at  INTEGER NOT NULL DEFAULT 0,
    joined_at   INTEGER NOT NULL DEFAULT 0,
    seen_at     INTEGER NOT NULL DEFAULT 0,
    ended_at    INTEGER NOT NULL DEFAULT 0,
    cost_usd    REAL    NOT NULL DEFAULT 0
) STRICT;

CREATE INDEX spawns_by_job ON spawns (job_id, id);
CREATE INDEX spawns_live_of_job ON spawns (job_id) WHERE state <> 'ended';
CREATE INDEX spawns_live   ON spawns (backend, id) WHERE state <> 'ended';
CREATE INDEX spawns_ended  ON spawns (ended_at)    WHERE ended_at > 0;
CREATE UNIQUE INDEX spawns_standing ON spawns (nonce) WHERE backend = 'none' AND state <> 'ended';

CREATE TABLE events (
    id      INTEGER PRIMARY KEY AUTOINCREMENT,
    job_key INTEGER NOT NULL REFERENCES jobs,
    at      INTEGER NOT NULL,
    kind    TEXT    NOT NULL,
    text    TEXT    NOT NULL,
    data    TEXT    NOT NULL DEFAULT ''     -- JSON
) STRICT;

CREATE INDEX events_by_job ON events (job_key, id);

CREATE TABLE settings (
    key   TEXT PRIMARY KEY,
    value TEXT NOT NULL
) STRICT, WITHOUT ROWID;

-- The sums over all jobs, kept by the triggers below so that no writer can forget them.
CREATE TABLE totals (
    one       INTEGER PRIMARY KEY CHECK (one = 1),
    pending   INTEGER NOT NULL DEFAULT 0,
    running   INTEGER NOT NULL DEFAULT 0,
    paused    INTEGER NOT NULL DEFAULT 0,
    succeeded INTEGER NOT NULL DEFAULT 0,
    failed    INTEGER NOT NULL DEFAULT 0,
    cancelled INTEGER NOT NULL DEFAULT 0,
    open      INTEGER NOT NULL DEFAULT 0,
    leased    INTEGER NOT NULL DEFAULT 0,
    done      INTEGER NOT NULL DEFAULT 0,
    dead      INTEGER NOT NULL DEFAULT 0,
    skipped   INTEGER NOT NULL DEFAULT 0,
    places    INTEGER NOT NULL DEFAULT 0
) STRICT;
INSERT INTO totals (one) VALUES (1);

-- How spawns ended, ever.
CREATE TABLE outcomes (
    outcome TEXT    NOT NULL,
    failure INTEGER NOT NULL,
    n       INTEGER NOT NULL,
    PRIMARY KEY (outcome, failure)
) STRICT, WITHOUT ROWID;

-- +goose StatementBegin
CREATE TRIGGER totals_insert AFTER INSERT ON jobs BEGIN
    UPDATE totals SET pending = pending + 1, open = open + NEW.open;
END;
-- +goose StatementEnd

-- +goose StatementBegin
CREATE TRIGGER totals_state AFTER UPDATE OF state ON jobs WHEN NEW.state <> OLD.state BEGIN
    UPDATE totals SET
        pending   = pending   + (NEW.state = 'pending')   - (OLD.state = 'pending'),
        running   = running   + (NEW.state = 'running')   - (OLD.state = 'running'),
        paused    = paused    + (NEW.state = 'paused')    - (OLD.state = 'paused'),
        succeeded = succeeded + (NEW.state = 'succeeded') - (OLD.state = 'succeeded'),
        failed    = failed    + (NEW.state = 'failed')    - (OLD.state = 'failed'),
        cancelled = cancelled + (NEW.state = 'cancelled') - (OLD.state = 'cancelled');
END;
-- +goose StatementEnd

-- +goose StatementBegin
CREATE TRIGGER totals_counts AFTER UPDATE OF open, leased, done, dead, skipped, places ON jobs BEGIN
    UPDATE totals SET
        open    = open    + NEW.open    - OLD.open,
        leased  = leased  + NEW.leased  - OLD.leased,
        done    = done    + NEW.done    - OLD.done,
        dead    = dead    + NEW.dead    - OLD.dead,
        skipped = skipped + NEW.skipped - OLD.skipped,
        places  = places  + NEW.places  - OLD.places;
END;
-- +goose StatementEnd
