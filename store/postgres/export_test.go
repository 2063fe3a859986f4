package postgres

import (
	"context"
	"io/fs"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"

	"gmaps-scraper/job"
	"gmaps-scraper/store"
)

// HoldJob stops inside a transaction that has locked a job's row, as a process that is stopped does, until going is closed.
func (s *Store) HoldJob(ctx context.Context, id job.ID, holding chan<- struct{}, going <-chan struct{}) error {
	return s.write(ctx, func(ctx context.Context, t *tx) error {
		j, err := t.lockJob(ctx, id)
		close(holding)
		<-going
		t.setState(&j, job.Paused)
		return err
	})
}

// CountRows counts what is in tables.
func (s *Store) CountRows(t *testing.T, tables ...string) map[string]int {
	t.Helper()
	n := make(map[string]int)
	for _, table := range tables {
		var rows int
		if err := s.pool.QueryRow(t.Context(), `SELECT count(*) FROM `+table).Scan(&rows); err != nil {
			t.Fatal(err)
		}
		n[table] = rows
	}
	return n
}

// Question is a text that is asked again and again, and arguments for it.
type Question struct {
	SQL  string
	Args []any
}

// Questions are those that must cost the same however much is stored.
func Questions() map[string]Question {
	all := true
	jobs, jobArgs := jobsQuestion(store.JobFilter{Before: "id"}, "", 10)
	byState, byStateArgs := jobsQuestion(store.JobFilter{Before: "id"}, job.Running, 10)
	results, resultArgs := resultsQuestion("id", store.ResultFilter{After: 1, Website: &all})
	return map[string]Question{
		"lease tasks":    {leaseTasks, []any{"spawn", 1, 1, "", "", ""}},
		"any due job":    {anyDueJob, []any{"spawn"}},
		"candidates":     {candidates(time.Minute), []any{1, 0, 0, 10, 8}},
		"live spawns":    {countedOfBackend, []any{"process"}},
		"expired leases": {expiredLeases, nil},
		"overdue jobs":   {overdueJobs, nil},
		"next of own":    {nextOfOwn, []any{"id"}},
		"next of any":    {nextOfAny, nil},
		"jobs":           {jobs, jobArgs},
		"jobs by state":  {byState, byStateArgs},
		"job":            {jobWithInputs, []any{"id"}},
		"states of jobs": {statesOfJobs, []any{[]string{"id"}}},
		"tasks":          {tasksOfState, []any{"id", "open", 1, 10}},
		"results":        {results, resultArgs},
		"events":         {eventsAfter, []any{"id", 1, 10}},
		"oldest open":    {oldestOpen, nil},
		"live leases":    {liveLeases, nil},
		"of a spawn":     {leasesOfSpawn, []any{"id"}},
		"job of a lease": {lockJobOfLease, []any{1}},
		"held tasks":     {heldTasks, []any{1, []int64{1}}},
		"old submits":    {forgetSubmits, []any{1, 10}},
		"deleted job":    {deletedJob, nil},
	}
}

// MigrateTo brings the tables of a schema to a version, as a program that knew no later one did.
func MigrateTo(t *testing.T, dsn string, version int64) {
	t.Helper()
	cc, err := pgx.ParseConfig(dsn)
	if err != nil {
		t.Fatal(err)
	}
	db := stdlib.OpenDB(*cc)
	defer db.Close()
	files, err := fs.Sub(migrations, "migrations")
	if err != nil {
		t.Fatal(err)
	}
	p, err := goose.NewProvider(goose.DialectPostgres, db, files, goose.WithDisableGlobalRegistry(true))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.UpTo(t.Context(), version); err != nil {
		t.Fatal(err)
	}
}
