package sqlite

import (
	"cmp"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"gmaps-scraper/job"
	"gmaps-scraper/store"
)

const taskColumns = `id, state, fence, input_id, attempts, crashes, not_before, updated_at, query, cell, cursor, error`

// taskRow is a task and the lease that it had last.
type taskRow struct {
	job.Task
	fence job.Fence
}

func scanTask(r scanner) (taskRow, error) {
	var t taskRow
	var notBefore, updated int64
	var query, cell []byte
	err := r.Scan(&t.ID, &t.State, &t.fence, &t.InputID, &t.Attempts, &t.Crashes, &notBefore, &updated, &query, &cell, &t.Cursor, &t.Error)
	if err != nil {
		return taskRow{}, err
	}
	if err := json.Unmarshal(query, &t.Query); err != nil {
		return taskRow{}, fmt.Errorf("read query of task %d: %w", t.ID, err)
	}
	if len(cell) > 0 {
		if err := json.Unmarshal(cell, &t.Cell); err != nil {
			return taskRow{}, fmt.Errorf("read cell of task %d: %w", t.ID, err)
		}
	}
	t.NotBefore, t.UpdatedAt = fromMicros(notBefore), fromMicros(updated)
	return t, nil
}

func (t *tx) insertTask(ctx context.Context, key int64, task *job.Task) error {
	const insertTask = `INSERT INTO tasks (job_key, state, input_id, updated_at, query, cell) VALUES (?, 'open', ?, ?, ?, ?)`
	query, err := json.Marshal(task.Query)
	if err != nil {
		return err
	}
	var cell []byte
	if task.Cell != nil {
		if cell, err = json.Marshal(task.Cell); err != nil {
			return err
		}
	}
	_, err = t.exec(ctx, insertTask, key, task.InputID, t.now, string(query), string(cell))
	return err
}

const (
	defaultTasks = 100
	tasksOfState = `SELECT ` + taskColumns + ` FROM tasks WHERE job_key = ? AND state = ? AND id > ? ORDER BY id LIMIT ?`
)

// Tasks implements store.Store.
func (s *Store) Tasks(ctx context.Context, id job.ID, f store.TaskFilter) ([]job.Task, error) {
	limit := cmp.Or(max(f.Limit, 0), defaultTasks)
	states := f.States
	if len(states) == 0 {
		states = []job.TaskState{job.TaskOpen, job.TaskLeased, job.TaskDone, job.TaskDead, job.TaskSkipped}
	}
	scan := func(r scanner) (job.Task, error) {
		t, err := scanTask(r)
		t.JobID = id
		return t.Task, err
	}
	var tasks []job.Task
	err := s.read(ctx, func(q querier) error {
		key, err := jobKey(ctx, q, id)
		if err != nil {
			return err
		}
		for _, state := range distinct(states) { // a page of each, merged: the index by state serves all questions
			page, err := collect(ctx, q, scan, tasksOfState, key, state, f.After, limit)
			if err != nil {
				return err
			}
			tasks = append(tasks, page...)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("tasks of job %s: %w", id, err)
	}
	slices.SortFunc(tasks, func(a, b job.Task) int { return cmp.Compare(a.ID, b.ID) })
	return tasks[:min(limit, len(tasks))], nil
}

const (
	// The two questions are which job has an open task that is due: healthy, or if ?2 one that has crashed a worker.
	dueTask = `grantable = 1 AND (deadline = 0 OR deadline > ?1) AND (
			EXISTS (SELECT 1 FROM tasks WHERE job_key = jobs.key AND state = 'open' AND suspect = 0 AND not_before <= ?1)
			OR (?2 AND EXISTS (SELECT 1 FROM tasks WHERE job_key = jobs.key AND state = 'open' AND suspect = 1 AND not_before <= ?1)))`
	firstDueJob = `SELECT id FROM jobs INDEXED BY jobs_by_rank WHERE ` + dueTask + ` ORDER BY rank, key LIMIT 1`
	ownDueJob   = `SELECT id FROM jobs WHERE id = ?3 AND ` + dueTask

	insertLease = `INSERT INTO leases (job_key, spawn_id, granted_at, expires_at) VALUES (?, ?, ?, ?)`
	// Tasks that were never tried are due since 1970, hence first, in id order.
	leaseTasks = `UPDATE tasks SET state = 'leased', fence = ?1, attempts = attempts + 1, updated_at = ?2 WHERE id IN (
			SELECT id FROM tasks WHERE job_key = ?3 AND state = 'open' AND suspect = ?4 AND not_before <= ?2 ORDER BY not_before, id LIMIT ?5)
		RETURNING ` + taskColumns
	startJob = `UPDATE jobs SET state = 'running', waiting = '', started_at = iif(started_at = 0, ?1, started_at),
			deadline = iif(deadline = 0 AND max_time > 0, ?1 + max_time, deadline), updated_at = ?1 WHERE key = ?2`
	headOfJob = `SELECT ` + jobColumns + ` FROM jobs WHERE id = ?`
)

// Grant implements store.Store. Among the due tasks of a job, those that have crashed a worker come last.
func (s *Store) Grant(ctx context.Context, spawn job.SpawnID, max int, ttl time.Duration) (lease job.Lease, err error) {
	err = s.write(ctx, func(ctx context.Context, t *tx) error {
		bound, leases, suspect, err := t.granted(ctx, spawn)
		if err != nil {
			return err
		}
		if suspect {
			return store.ErrNoWork
		}
		j, err := t.dueJob(ctx, bound, leases == 0)
		if err != nil {
			return err
		}
		fence, err := t.insert(ctx, insertLease, j.key, spawn, t.now, t.now+ttl.Microseconds())
		if err != nil {
			return err
		}
		tasks, err := t.lease(ctx, j, fence, max)
		if err != nil {
			return err
		}
		if err := t.count(ctx, &j, counts{open: -len(tasks), leased: len(tasks)}); err != nil {
			return err
		}
		if _, err := t.exec(ctx, startJob, t.now, j.key); err != nil {
			return err
		}
		if j.state == job.Pending {
			if err := t.event(ctx, j.key, job.EventStarted, "started by "+job.Spawn{ID: spawn}.Name(), map[string]any{"spawn": spawn}); err != nil {
				return err
			}
		}
		head, err := scanJob(t.QueryRowContext(ctx, headOfJob, j.id))
		lease = job.Lease{Fence: job.Fence(fence), JobID: j.id, Spec: head.Spec, Tasks: tasks, TTL: ttl, Expires: fromMicros(t.now + ttl.Microseconds())}
		return err
	})
	if err != nil {
		return job.Lease{}, fmt.Errorf("grant a lease to spawn %s: %w", spawn, err)
	}
	return lease, nil
}

// granted finds the job that a spawn is bound to, how many leases it holds, and whether one of them is of a task that has crashed a worker.
func (t *tx) granted(ctx context.Context, spawn job.SpawnID) (bound job.ID, leases int, suspect bool, err error) {
	const (
		liveSpawn  = `SELECT job_id FROM spawns WHERE id = ? AND state NOT IN ('ended', 'stopping')`
		liveLeases = `SELECT count(*), count(*) FILTER (WHERE EXISTS (SELECT 1 FROM tasks WHERE tasks.fence = leases.fence AND state = 'leased' AND suspect = 1)) > 0
			FROM leases WHERE spawn_id = ? AND ended_at = 0`
	)
	err = t.QueryRowContext(ctx, liveSpawn, spawn).Scan(&bound)
	if errors.Is(err, sql.ErrNoRows) {
		err = store.ErrUnknownSpawn
	}
	if err != nil {
		return "", 0, false, err
	}
	err = t.QueryRowContext(ctx, liveLeases, spawn).Scan(&leases, &suspect)
	return bound, leases, suspect, err
}

// dueJob finds the job to grant tasks of. ErrNoWork.
func (t *tx) dueJob(ctx context.Context, bound job.ID, alone bool) (jobRow, error) {
	question, args := firstDueJob, []any{t.now, alone}
	if bound != "" {
		question, args = ownDueJob, append(args, bound)
	}
	var id job.ID
	err := t.QueryRowContext(ctx, question, args...).Scan(&id)
	if errors.Is(err, sql.ErrNoRows) {
		return jobRow{}, store.ErrNoWork
	}
	if err != nil {
		return jobRow{}, err
	}
	return t.job(ctx, id)
}

// lease takes healthy tasks, or if there are none one that has crashed a worker: dueJob has seen to it that the spawn holds nothing else.
func (t *tx) lease(ctx context.Context, j jobRow, fence int64, limit int) ([]job.Task, error) {
	rows, err := collect(ctx, t, scanTask, leaseTasks, fence, t.now, j.key, 0, max(1, limit))
	if err == nil && len(rows) == 0 {
		rows, err = collect(ctx, t, scanTask, leaseTasks, fence, t.now, j.key, 1, 1)
	}
	if err != nil {
		return nil, err
	}
	if len(rows) == 0 {
		return nil, store.ErrNoWork
	}
	tasks := make([]job.Task, len(rows))
	for i, r := range rows {
		tasks[i] = r.Task
		tasks[i].JobID = j.id
	}
	slices.SortFunc(tasks, func(a, b job.Task) int { return cmp.Compare(a.ID, b.ID) })
	return tasks, nil
}

const (
	boundJob  = `SELECT job_id FROM spawns WHERE id = ? AND state <> 'ended'`
	nextOfOwn = `SELECT coalesce(min(not_before), 0) FROM tasks
		WHERE job_key = (SELECT key FROM jobs WHERE id = ? AND grantable = 1) AND state = 'open' AND suspect IN (0, 1) AND not_before > ?`
	nextOfAny = `SELECT coalesce((SELECT not_before FROM tasks INDEXED BY tasks_backoff JOIN jobs ON key = job_key
		WHERE tasks.state = 'open' AND not_before > 0 AND not_before > ? AND grantable = 1 ORDER BY not_before LIMIT 1), 0)`
)

// NextOpen implements store.Store.
func (s *Store) NextOpen(ctx context.Context, spawn job.SpawnID) (in time.Duration, some bool, err error) {
	var next int64
	now := s.now().UnixMicro()
	err = s.read(ctx, func(q querier) error {
		var bound job.ID
		err := q.QueryRowContext(ctx, boundJob, spawn).Scan(&bound)
		if errors.Is(err, sql.ErrNoRows) {
			return store.ErrUnknownSpawn
		}
		if err != nil {
			return err
		}
		if bound == "" {
			next, err = scanInt(q.QueryRowContext(ctx, nextOfAny, now))
			return err
		}
		next, err = scanInt(q.QueryRowContext(ctx, nextOfOwn, bound, now))
		return err
	})
	if err != nil {
		return 0, false, fmt.Errorf("next task of spawn %s: %w", spawn, err)
	}
	if next == 0 {
		return 0, false, nil
	}
	return time.Duration(next-now) * time.Microsecond, true, nil
}
