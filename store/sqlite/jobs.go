package sqlite

import (
	"cmp"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

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

// CreateJob implements store.Store. An idempotency key is kept as long as its job.
func (s *Store) CreateJob(ctx context.Context, n store.NewJob) (j job.Job, created bool, err error) {
	if len(n.Tasks) == 0 {
		return job.Job{}, false, errors.New("create job: it has no tasks")
	}
	if n.ID == "" {
		n.ID = job.NewID()
	}
	inputs, err := json.Marshal(n.Spec.Inputs)
	if err != nil {
		return job.Job{}, false, fmt.Errorf("create job: %w", err)
	}
	head := n.Spec
	head.Inputs = nil
	spec, err := json.Marshal(head)
	if err != nil {
		return job.Job{}, false, fmt.Errorf("create job: %w", err)
	}
	caller := ctx // a job may have millions of tasks: its caller's going away ends even a transaction that has begun
	err = s.write(ctx, func(ctx context.Context, t *tx) error {
		earlier, err := jobByKey(ctx, t, n)
		if err != nil {
			return err
		}
		if earlier != "" {
			j, err = fullJob(ctx, t, earlier)
			return err
		}
		const insertJob = `INSERT INTO jobs (id, name, spec, state, priority, max_results, max_time, max_workers, max_attempts, open, created_at, updated_at, idempotency_key, request_hash)
			VALUES (?, ?, ?, 'pending', ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`
		key, err := t.insert(ctx, insertJob, n.ID, strings.ToLower(n.Spec.Name), string(spec), n.Spec.Priority, n.Spec.MaxResults,
			time.Duration(n.Spec.MaxTime).Microseconds(), max(1, n.Spec.MaxWorkers), max(1, n.Spec.MaxAttempts), len(n.Tasks), t.now, t.now,
			sql.NullString{String: n.IdempotencyKey, Valid: n.IdempotencyKey != ""}, n.RequestHash)
		if err != nil {
			return err
		}
		const insertInputs = `INSERT INTO job_inputs (job_key, inputs) VALUES (?, ?)`
		if _, err := t.exec(ctx, insertInputs, key, string(inputs)); err != nil {
			return err
		}
		for i := range n.Tasks {
			if i%1024 == 0 && caller.Err() != nil {
				return context.Cause(caller)
			}
			if err := t.insertTask(ctx, key, &n.Tasks[i]); err != nil {
				return err
			}
		}
		if err := t.event(ctx, key, job.EventCreated, plural(len(n.Tasks), "task")+" to do", nil); err != nil {
			return err
		}
		created = true
		j, err = fullJob(ctx, t, n.ID)
		return err
	})
	if err != nil {
		return job.Job{}, false, fmt.Errorf("create job %s: %w", n.ID, err)
	}
	return j, created, nil
}

// jobByKey returns the id of the job made earlier under n's idempotency key, "" if there is none.
func jobByKey(ctx context.Context, t *tx, n store.NewJob) (id job.ID, err error) {
	if n.IdempotencyKey == "" {
		return "", nil
	}
	const jobOfKey = `SELECT id, request_hash FROM jobs WHERE idempotency_key = ?`
	var hash string
	err = t.QueryRowContext(ctx, jobOfKey, n.IdempotencyKey).Scan(&id, &hash)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return "", nil
	case err == nil && hash != n.RequestHash:
		return "", store.ErrIdempotency
	default:
		return id, err
	}
}

// Job implements store.Store.
func (s *Store) Job(ctx context.Context, id job.ID) (j job.Job, err error) {
	err = s.read(ctx, func(q querier) error {
		j, err = fullJob(ctx, q, id)
		return err
	})
	if err != nil {
		return job.Job{}, fmt.Errorf("job %s: %w", id, err)
	}
	return j, nil
}

func fullJob(ctx context.Context, q querier, id job.ID) (job.Job, error) {
	const jobWithInputs = `SELECT ` + jobColumns + `, inputs FROM jobs JOIN job_inputs ON job_key = key WHERE id = ?`
	var inputs []byte
	j, err := scanJob(q.QueryRowContext(ctx, jobWithInputs, id), &inputs)
	if errors.Is(err, sql.ErrNoRows) {
		return job.Job{}, store.ErrNotFound
	}
	if err != nil {
		return job.Job{}, err
	}
	return j, json.Unmarshal(inputs, &j.Spec.Inputs)
}

// JobHead implements store.Store.
func (s *Store) JobHead(ctx context.Context, id job.ID) (j job.Job, err error) {
	err = s.read(ctx, func(q querier) error {
		j, err = jobAlone(ctx, q, id)
		return err
	})
	if err != nil {
		return job.Job{}, fmt.Errorf("job %s: %w", id, err)
	}
	return j, nil
}

func jobAlone(ctx context.Context, q querier, id job.ID) (job.Job, error) {
	const jobHead = `SELECT ` + jobColumns + ` FROM jobs WHERE id = ?`
	j, err := scanJob(q.QueryRowContext(ctx, jobHead, id))
	if errors.Is(err, sql.ErrNoRows) {
		return job.Job{}, store.ErrNotFound
	}
	return j, err
}

// JobStates implements store.Store.
func (s *Store) JobStates(ctx context.Context, ids ...job.ID) (map[job.ID]job.State, error) {
	const statesOfJobs = `SELECT id, state FROM jobs WHERE id IN (SELECT value FROM json_each(?))`
	list, err := json.Marshal(ids)
	if err != nil {
		return nil, fmt.Errorf("states of jobs: %w", err)
	}
	states := make(map[job.ID]job.State, len(ids))
	err = s.read(ctx, func(q querier) error {
		_, err := collect(ctx, q, func(r scanner) (id job.ID, err error) {
			var state job.State
			err = r.Scan(&id, &state)
			states[id] = state
			return id, err
		}, statesOfJobs, string(list))
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("states of jobs: %w", err)
	}
	return states, nil
}

const defaultJobs = 50

// Jobs implements store.Store. A Search reads names, newest first, until the page is full.
func (s *Store) Jobs(ctx context.Context, f store.JobFilter) ([]job.Job, error) {
	limit := cmp.Or(max(f.Limit, 0), defaultJobs)
	where, args := []string{`id IS NOT NULL`}, []any(nil)
	if f.Before != "" {
		where, args = append(where, `id < ?`), append(args, f.Before)
	}
	if f.Search != "" {
		where, args = append(where, `instr(name, ?) > 0`), append(args, strings.ToLower(f.Search))
	}
	scan := func(r scanner) (job.Job, error) { return scanJob(r) }
	var jobs []job.Job
	err := s.read(ctx, func(q querier) error {
		list := func(where []string, args []any) error {
			page, err := collect(ctx, q, scan, jobsQuestion(where), append(args, limit)...)
			jobs = append(jobs, page...)
			return err
		}
		if len(f.States) == 0 {
			return list(where, args)
		}
		// A page of each state, merged: one query over several states would sort all their jobs.
		for _, state := range distinct(f.States) {
			if err := list(append(slices.Clip(where), `state = ?`), append(slices.Clip(args), state)); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("list jobs: %w", err)
	}
	slices.SortFunc(jobs, func(a, b job.Job) int { return cmp.Compare(b.ID, a.ID) })
	return jobs[:min(limit, len(jobs))], nil
}

func jobsQuestion(where []string) string {
	return `SELECT ` + jobColumns + ` FROM jobs WHERE ` + strings.Join(where, ` AND `) + ` ORDER BY id DESC LIMIT ?`
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

func (j *jobRow) dest() []any {
	return []any{&j.key, &j.id, &j.state, &j.open, &j.leased, &j.done, &j.dead, &j.skipped, &j.places, &j.maxTries, &j.maxResults, &j.startedAt}
}

// job reads the row of a job. ErrNotFound.
func (t *tx) job(ctx context.Context, id job.ID) (j jobRow, err error) {
	const rowOfJob = `SELECT ` + jobRowColumns + ` FROM jobs WHERE id = ?`
	err = t.QueryRowContext(ctx, rowOfJob, id).Scan(j.dest()...)
	if errors.Is(err, sql.ErrNoRows) {
		err = store.ErrNotFound
	}
	return j, err
}

// jobKey reads the key of a job. ErrNotFound.
func jobKey(ctx context.Context, q querier, id job.ID) (int64, error) {
	const keyOfJob = `SELECT key FROM jobs WHERE id = ?`
	key, err := scanInt(q.QueryRowContext(ctx, keyOfJob, id))
	if errors.Is(err, sql.ErrNoRows) {
		err = store.ErrNotFound
	}
	return key, err
}

// counts is a change of a job's counts.
type counts struct{ open, leased, done, dead, skipped, places, duplicates, spawns int }

// count keeps the counts of a job, in its row and in j.
func (t *tx) count(ctx context.Context, j *jobRow, c counts) error {
	const keepCounts = `UPDATE jobs SET open = open + ?, leased = leased + ?, done = done + ?, dead = dead + ?, skipped = skipped + ?,
		places = places + ?, duplicates = duplicates + ?, spawns = spawns + ?, updated_at = ? WHERE key = ?`
	if c == (counts{}) {
		return nil
	}
	j.open, j.leased, j.done, j.dead, j.skipped, j.places = j.open+c.open, j.leased+c.leased, j.done+c.done, j.dead+c.dead, j.skipped+c.skipped, j.places+c.places
	_, err := t.exec(ctx, keepCounts, c.open, c.leased, c.done, c.dead, c.skipped, c.places, c.duplicates, c.spawns, t.now, j.key)
	return err
}

func plural(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}
