package postgres

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"gmaps-scraper/job"
	"gmaps-scraper/store"
)

const jobColumns = `jobs.id, jobs.spec, jobs.state, jobs.waiting, jobs.reason, jobs.partial,
	jobs.open, jobs.leased, jobs.done, jobs.dead, jobs.skipped, jobs.places, jobs.duplicates, jobs.spawns,
	jobs.created_at, jobs.started_at, jobs.ended_at, jobs.updated_at, jobs.cost_usd`

// scanJob reads jobColumns and whatever follows them.
func scanJob(r scanner, more ...any) (job.Job, error) {
	var j job.Job
	var spec []byte
	var created, started, ended, updated int64
	c := &j.Counts
	err := r.Scan(append([]any{
		&j.ID, &spec, &j.State, &j.Waiting, &j.Reason, &j.Partial,
		&c.Open, &c.Leased, &c.Done, &c.Dead, &c.Skipped, &c.Places, &c.Duplicates, &c.Spawns,
		&created, &started, &ended, &updated, &j.CostUSD,
	}, more...)...)
	if err != nil {
		return job.Job{}, err
	}
	if err := json.Unmarshal(spec, &j.Spec); err != nil {
		return job.Job{}, fmt.Errorf("read spec of job %s: %w", j.ID, err)
	}
	c.Tasks = c.Open + c.Leased + c.Done + c.Dead + c.Skipped
	j.CreatedAt, j.StartedAt, j.EndedAt, j.UpdatedAt = fromMicros(created), fromMicros(started), fromMicros(ended), fromMicros(updated)
	return j, nil
}

func scanHead(r scanner) (job.Job, error) { return scanJob(r) }

func scanFull(r scanner) (job.Job, error) {
	var inputs []byte
	j, err := scanJob(r, &inputs)
	if err != nil {
		return job.Job{}, err
	}
	if err := json.Unmarshal(inputs, &j.Spec.Inputs); err != nil {
		return job.Job{}, fmt.Errorf("read inputs of job %s: %w", j.ID, err)
	}
	return j, nil
}

const (
	jobWithInputs = `SELECT ` + jobColumns + `, inputs FROM jobs JOIN job_inputs ON job_key = key WHERE id = $1`
	jobHead       = `SELECT ` + jobColumns + ` FROM jobs WHERE id = $1`
)

// Job implements store.Store.
func (s *Store) Job(ctx context.Context, id job.ID) (job.Job, error) {
	return s.oneJob(ctx, id, scanFull, jobWithInputs)
}

// JobHead implements store.Store.
func (s *Store) JobHead(ctx context.Context, id job.ID) (job.Job, error) {
	return s.oneJob(ctx, id, scanHead, jobHead)
}

func (s *Store) oneJob(ctx context.Context, id job.ID, scan func(scanner) (job.Job, error), question string) (job.Job, error) {
	var found []job.Job
	err := s.read(ctx, func(r *reading) { read(r, &found, scan, question, id) })
	if err == nil && len(found) == 0 {
		err = store.ErrNotFound
	}
	if err != nil {
		return job.Job{}, fmt.Errorf("job %s: %w", id, err)
	}
	return found[0], nil
}

const statesOfJobs = `SELECT id, state FROM jobs WHERE id = ANY($1)`

// JobStates implements store.Store.
func (s *Store) JobStates(ctx context.Context, ids ...job.ID) (map[job.ID]job.State, error) {
	texts := make([]string, len(ids))
	for i, id := range ids {
		texts[i] = string(id)
	}
	states := make(map[job.ID]job.State, len(ids))
	scan := func(r scanner) (id job.ID, err error) {
		var state job.State
		err = r.Scan(&id, &state)
		states[id] = state
		return id, err
	}
	err := s.read(ctx, func(r *reading) { read(r, new([]job.ID), scan, statesOfJobs, texts) })
	if err != nil {
		return nil, fmt.Errorf("states of jobs: %w", err)
	}
	return states, nil
}

const defaultJobs = 50

// Jobs implements store.Store. A Search reads names, newest first, until the page is full.
func (s *Store) Jobs(ctx context.Context, f store.JobFilter) ([]job.Job, error) {
	limit := cmp.Or(max(f.Limit, 0), defaultJobs)
	states := distinct(f.States)
	pages := make([][]job.Job, max(1, len(states)))
	err := s.read(ctx, func(r *reading) {
		if len(states) == 0 {
			question, args := jobsQuestion(f, "", limit)
			read(r, &pages[0], scanHead, question, args...)
		}
		// A page of each state, merged: one question over several states would sort all their jobs.
		for i, state := range states {
			question, args := jobsQuestion(f, state, limit)
			read(r, &pages[i], scanHead, question, args...)
		}
	})
	if err != nil {
		return nil, fmt.Errorf("list jobs: %w", err)
	}
	jobs := slices.Concat(pages...)
	slices.SortFunc(jobs, func(a, b job.Job) int { return cmp.Compare(b.ID, a.ID) })
	return jobs[:min(limit, len(jobs))], nil
}

func jobsQuestion(f store.JobFilter, state job.State, limit int) (question string, args []any) {
	w := where{conditions: []string{`id IS NOT NULL`}}
	if f.Before != "" {
		w.add(`id < %s`, f.Before)
	}
	if f.Search != "" {
		w.add(`strpos(name, %s) > 0`, strings.ToLower(f.Search))
	}
	if state != "" {
		w.add(`state = %s`, state)
	}
	return w.question(`SELECT `+jobColumns+` FROM jobs`, `ORDER BY id DESC`, limit)
}

// where gathers the conditions of a list.
type where struct {
	conditions []string
	args       []any
}

// add takes a condition with %s for its argument.
func (w *where) add(condition string, arg any) {
	w.args = append(w.args, arg)
	w.conditions = append(w.conditions, fmt.Sprintf(condition, fmt.Sprintf("$%d", len(w.args))))
}

func (w *where) question(from, order string, limit int) (question string, args []any) {
	args = append(slices.Clone(w.args), limit)
	return fmt.Sprintf("%s WHERE %s %s LIMIT $%d", from, strings.Join(w.conditions, ` AND `), order, len(args)), args
}

func distinct[S ~string](states []S) []S {
	return slices.Compact(slices.Sorted(slices.Values(states)))
}

// jobRow is what a transaction needs to know of a job that it changes.
type jobRow struct {
	key                       int64
	id                        job.ID
	state                     job.State
	open, leased, done, dead  int
	skipped, places, maxTries int
	maxResults                int
	startedAt                 int64
}

const jobRowColumns = `jobs.key, jobs.id, jobs.state, jobs.open, jobs.leased, jobs.done, jobs.dead, jobs.skipped, jobs.places, jobs.max_attempts, jobs.max_results, jobs.started_at`

func scanJobRow(r scanner) (j jobRow, err error) {
	err = r.Scan(&j.key, &j.id, &j.state, &j.open, &j.leased, &j.done, &j.dead, &j.skipped, &j.places, &j.maxTries, &j.maxResults, &j.startedAt)
	return j, err
}

// The lock is the one that an update takes: it leaves readers alone.
const lockJob = `SELECT ` + jobRowColumns + ` FROM jobs WHERE id = $1 FOR NO KEY UPDATE`

// lockJob locks the row of a job and reads the clock. ErrNotFound.
func (t *tx) lockJob(ctx context.Context, id job.ID) (jobRow, error) {
	var found []jobRow
	ask(t, &found, scanJobRow, lockJob, id)
	t.clock()
	if err := t.flush(ctx); err != nil {
		return jobRow{}, err
	}
	if len(found) == 0 {
		return jobRow{}, store.ErrNotFound
	}
	return found[0], nil
}

// counts is a change of a job's counts.
type counts struct{ open, leased, done, dead, skipped, places, duplicates int }

// count keeps the counts of a job, in its row and in j.
func (t *tx) count(j *jobRow, c counts) {
	const keepCounts = `UPDATE jobs SET open = open + $1, leased = leased + $2, done = done + $3, dead = dead + $4, skipped = skipped + $5,
		places = places + $6, duplicates = duplicates + $7, updated_at = $8 WHERE key = $9`
	if c == (counts{}) {
		return
	}
	j.open, j.leased, j.done, j.dead, j.skipped, j.places = j.open+c.open, j.leased+c.leased, j.done+c.done, j.dead+c.dead, j.skipped+c.skipped, j.places+c.places
	t.exec(keepCounts, c.open, c.leased, c.done, c.dead, c.skipped, c.places, c.duplicates, t.now, j.key)
}

func plural(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}
