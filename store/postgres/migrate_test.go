package postgres_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"gmaps-scraper/job"
	"gmaps-scraper/store"
	"gmaps-scraper/store/postgres"
)

// The Manager of version 1 has its statements prepared, and goes on while another brings the tables up to date.
func TestTablesOfVersion1AreMigratedWithTheirRowsUnderItsManager(t *testing.T) {
	t.Parallel()
	const (
		insertJob = `WITH made AS (
				INSERT INTO jobs (id, name, spec, state, priority, max_results, max_time, max_workers, max_attempts, open, created_at, updated_at)
				VALUES ($1, '', '{}', 'pending', 0, 0, 0, 1, 3, 2, gmaps_now(), gmaps_now()) RETURNING key),
			inputs AS (INSERT INTO job_inputs (job_key, inputs) SELECT key, '[]' FROM made)
			INSERT INTO tasks (job_key, state, input_id, updated_at, query, cell) SELECT key, 'open', '', 1, '{}', '' FROM made, generate_series(1, 2)`
		insertSpawn = `INSERT INTO spawns (id, job_id, backend, state, concurrency, nonce, created_at) VALUES ($1, $2, 'docker', 'running', 1, 'n', gmaps_now())`
		finishTask  = `WITH done AS (UPDATE tasks SET state = 'done' WHERE id = (
				SELECT min(id) FROM tasks WHERE state = 'open' AND job_key = (SELECT key FROM jobs WHERE id = $1)) RETURNING job_key)
			UPDATE jobs SET open = open - 1, done = done + 1, state = 'running' FROM done WHERE key = job_key`
		endSpawn = `UPDATE spawns SET state = 'ended', outcome = 'exited', cost_usd = 0.5, ended_at = gmaps_now() WHERE id = $1`
		oldest   = `SELECT id FROM jobs WHERE grantable AND leased = 0
			AND NOT EXISTS (SELECT 1 FROM spawns WHERE job_id = jobs.id AND state <> 'ended') ORDER BY created_at LIMIT 1`
	)
	dsn := virginSchema(t)
	postgres.MigrateTo(t, dsn, 1)
	conn, err := pgx.Connect(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.WithoutCancel(t.Context()))
	earlier := func() (job.ID, job.SpawnID) {
		t.Helper()
		id, spawn := job.NewID(), job.NewSpawnID()
		for _, do := range []struct {
			statement string
			args      []any
		}{{insertJob, []any{string(id)}}, {insertSpawn, []any{string(spawn), string(id)}}, {finishTask, []any{string(id)}}, {endSpawn, []any{string(spawn)}}} {
			if _, err := conn.Exec(t.Context(), do.statement, do.args...); err != nil {
				t.Fatalf("%s: %v", do.statement, err)
			}
		}
		var first job.ID
		if err := conn.QueryRow(t.Context(), oldest).Scan(&first); err != nil {
			t.Fatal(err)
		}
		return first, spawn
	}
	before, spawn := earlier()

	s := openStore(t, dsn, postgres.Config{})
	j := head(t, s, before)
	if j.Counts.Open != 1 || j.Counts.Done != 1 || j.CostUSD != 0 || j.State != job.Running {
		t.Errorf("the job became %+v", j)
	}
	if w, err := s.Spawn(t.Context(), spawn); err != nil || w.State != job.SpawnEnded || !w.MayRunUntil.IsZero() {
		t.Errorf("the spawn became %+v, %v", w, err)
	}
	if st, err := s.Stats(t.Context()); err != nil || !st.OldestOpen.Equal(j.CreatedAt) {
		t.Errorf("oldest open job is of %v, %v: want %v", st.OldestOpen, err, j.CreatedAt)
	}
	if first, _ := earlier(); first != before {
		t.Errorf("the earlier Manager found %s for the oldest, want %s", first, before)
	}
	l, err := s.Grant(t.Context(), standing(t, s, "n"), 10, time.Minute)
	if err != nil || l.JobID != before || len(l.Tasks) != 1 {
		t.Fatalf("granted %+v, %v: want the task that was left of %s", l, err, before)
	}
	planned, err := s.PlanSpawns(t.Context(), store.Plan{Backend: "docker", Cap: 1, Concurrency: 1})
	if err != nil || len(planned) != 1 {
		t.Errorf("planned %+v, %v: want a worker beside those that have ended", planned, err)
	}
	recount(t, s)
}

// One that has written to a job and goes on to its spawns waits for the migration, which waits for it: the server ends either.
func TestMigrationThatIsEndedForADeadlockIsTriedAgain(t *testing.T) {
	t.Parallel()
	dsn := virginSchema(t)
	postgres.MigrateTo(t, dsn, 2) // the third is of two tables
	conn, err := pgx.Connect(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.WithoutCancel(t.Context()))
	tx, err := conn.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec(t.Context(), `LOCK TABLE jobs IN ROW EXCLUSIVE MODE`); err != nil {
		t.Fatal(err)
	}
	opened := make(chan error, 1)
	go func() {
		s, err := postgres.Open(t.Context(), dsn, postgres.Config{})
		if err == nil {
			err = s.Close()
		}
		opened <- err
	}()
	waitFor(t, "a migration that waits", func() bool { return blocks(t, conn) })
	_, err = tx.Exec(t.Context(), `LOCK TABLE spawns IN ROW EXCLUSIVE MODE`)
	var said *pgconn.PgError
	if err != nil && (!errors.As(err, &said) || said.Code != "40P01") {
		t.Fatal(err)
	}
	if err := tx.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := <-opened; err != nil {
		t.Errorf("Open beside a transaction that it deadlocked with: %v", err)
	}
}
