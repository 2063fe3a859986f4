-- +goose Up
-- An ended spawn whose end nobody saw counts against the cap until then: 0 if it was seen.
ALTER TABLE spawns ADD COLUMN may_run_until INTEGER NOT NULL DEFAULT 0;
CREATE INDEX spawns_unseen_end ON spawns (backend, may_run_until) WHERE may_run_until > 0;

-- The sum over a job's spawns.
ALTER TABLE jobs ADD COLUMN cost_usd REAL NOT NULL DEFAULT 0;
