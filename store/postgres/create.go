package postgres

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"gmaps-scraper/job"
	"gmaps-scraper/store"
)

// tasksAtOnce bounds the tasks of one statement, so that a job of millions is not one message, and its caller can go away between.
const tasksAtOnce = 5000

const (
	// One statement, hence one round trip for a job of few tasks. Of createJobOfKey no row comes back if there is a job of that key.
	createJob      = createHead + createTail
	createJobOfKey = createHead + onKnownKey + createTail

	onKnownKey = `ON CONFLICT (idempotency_key) WHERE idempotency_key IS NOT NULL DO NOTHING`
	createHead = `WITH clock AS MATERIALIZED (SELECT gmaps_now() AS now),
		made AS (
			INSERT INTO jobs (id, name, spec, state, priority, max_results, max_time, max_workers, max_attempts, open, created_at, updated_at, idempotency_key, request_hash)
			SELECT $1, $2, $3, 'pending', $4::bigint, $5::bigint, $6::bigint, $7::bigint, $8::bigint, $9::bigint, now, now, nullif($10::text, ''), $11 FROM clock
			`
	createTail = ` RETURNING key, created_at),
		inputs AS (INSERT INTO job_inputs (job_key, inputs) SELECT key, $12::text FROM made),
		started AS (INSERT INTO events (job_key, at, kind, text) SELECT key, created_at, $13::text, $14::text FROM made),
		todo AS (
			INSERT INTO tasks (job_key, state, input_id, updated_at, query, cell)
			SELECT key, 'open', new.input_id, created_at, new.query, new.cell
			FROM made, unnest($15::text[], $16::text[], $17::text[]) WITH ORDINALITY AS new (input_id, query, cell, n) ORDER BY n)
		SELECT key, created_at FROM made`
	insertTasks = `INSERT INTO tasks (job_key, state, input_id, updated_at, query, cell)
		SELECT $1::bigint, 'open', input_id, $2::bigint, query, cell FROM unnest($3::text[], $4::text[], $5::text[]) WITH ORDINALITY AS new (input_id, query, cell, n) ORDER BY n`
)

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
	for range tries {
		j, created, err = s.create(ctx, n, string(spec), string(inputs))
		if err != nil || created {
			break
		}
		// Another call was first. If its job is gone by now, the key is free again.
		j, err = s.jobByKey(ctx, n)
		if !errors.Is(err, store.ErrNotFound) {
			return j, false, err
		}
	}
	if err != nil {
		return job.Job{}, false, fmt.Errorf("create job %s: %w", n.ID, err)
	}
	return j, created, nil
}

type madeJob struct{ key, at int64 }

func scanMade(r scanner) (m madeJob, err error) {
	err = r.Scan(&m.key, &m.at)
	return m, err
}

// create stores a job. created is false, and nothing stored, if a job of its key is there.
func (s *Store) create(ctx context.Context, n store.NewJob, spec, inputs string) (j job.Job, created bool, err error) {
	first, err := columnsOf(n.Tasks[:min(tasksAtOnce, len(n.Tasks))])
	if err != nil {
		return job.Job{}, false, err
	}
	question := createJob // an insert that expects a conflict costs more
	if n.IdempotencyKey != "" {
		question = createJobOfKey
	}
	args := []any{
		n.ID, strings.ToLower(n.Spec.Name), spec, n.Spec.Priority, n.Spec.MaxResults, time.Duration(n.Spec.MaxTime).Microseconds(),
		max(1, n.Spec.MaxWorkers), max(1, n.Spec.MaxAttempts), len(n.Tasks), n.IdempotencyKey, n.RequestHash,
		inputs, job.EventCreated, plural(len(n.Tasks), "task") + " to do", first.inputIDs, first.queries, first.cells,
	}
	var made []madeJob
	if len(n.Tasks) <= tasksAtOnce {
		err = s.single(ctx, func(r *reading) { read(r, &made, scanMade, question, args...) })
	} else {
		err = s.write(ctx, func(ctx context.Context, t *tx) error {
			ask(t, &made, scanMade, question, args...)
			if err := t.flush(ctx); err != nil || len(made) == 0 {
				return err
			}
			return t.insertTasks(ctx, made[0], n.Tasks[tasksAtOnce:])
		})
	}
	if err != nil || len(made) == 0 {
		return job.Job{}, false, err
	}
	j = job.Job{ID: n.ID, State: job.Pending, Counts: job.Counts{Tasks: len(n.Tasks), Open: len(n.Tasks)}}
	j.CreatedAt = fromMicros(made[0].at)
	j.UpdatedAt = j.CreatedAt
	if err := json.Unmarshal([]byte(spec), &j.Spec); err != nil { // as it will be read
		return job.Job{}, false, err
	}
	return j, true, json.Unmarshal([]byte(inputs), &j.Spec.Inputs)
}

func (t *tx) insertTasks(ctx context.Context, made madeJob, tasks []job.Task) error {
	for len(tasks) > 0 {
		n := min(tasksAtOnce, len(tasks))
		c, err := columnsOf(tasks[:n])
		if err != nil {
			return err
		}
		t.exec(insertTasks, made.key, made.at, c.inputIDs, c.queries, c.cells)
		if err := t.flush(ctx); err != nil {
			return err
		}
		tasks = tasks[n:]
	}
	return nil
}

// newTasks are new tasks, column by column.
type newTasks struct{ inputIDs, queries, cells []string }

func columnsOf(tasks []job.Task) (newTasks, error) {
	c := newTasks{make([]string, len(tasks)), make([]string, len(tasks)), make([]string, len(tasks))}
	for i := range tasks {
		query, err := json.Marshal(tasks[i].Query)
		if err != nil {
			return newTasks{}, err
		}
		c.inputIDs[i], c.queries[i] = tasks[i].InputID, string(query)
		if tasks[i].Cell == nil {
			continue
		}
		cell, err := json.Marshal(tasks[i].Cell)
		if err != nil {
			return newTasks{}, err
		}
		c.cells[i] = string(cell)
	}
	return c, nil
}

// jobByKey returns the job made earlier under n's idempotency key. ErrNotFound: there is none; ErrIdempotency: it was another request.
func (s *Store) jobByKey(ctx context.Context, n store.NewJob) (job.Job, error) {
	const jobOfKey = `SELECT ` + jobColumns + `, inputs, request_hash = $2 FROM jobs JOIN job_inputs ON job_key = key WHERE idempotency_key = $1`
	type answer struct {
		job.Job
		same bool
	}
	var found []answer
	scan := func(r scanner) (a answer, err error) {
		var inputs []byte
		if a.Job, err = scanJob(r, &inputs, &a.same); err != nil {
			return a, err
		}
		return a, json.Unmarshal(inputs, &a.Spec.Inputs)
	}
	err := s.read(ctx, func(r *reading) { read(r, &found, scan, jobOfKey, n.IdempotencyKey, n.RequestHash) })
	switch {
	case err != nil:
	case len(found) == 0:
		err = store.ErrNotFound
	case !found[0].same:
		err = store.ErrIdempotency
	}
	if err != nil {
		return job.Job{}, fmt.Errorf("create job under the idempotency key of another: %w", err)
	}
	return found[0].Job, nil
}
