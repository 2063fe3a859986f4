package postgres

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"

	"gmaps-scraper/job"
	"gmaps-scraper/store"
)

const taskColumns = `tasks.id, tasks.state, tasks.fence, tasks.input_id, tasks.attempts, tasks.crashes, tasks.not_before, tasks.updated_at,
	tasks.query, tasks.cell, tasks.cursor, tasks.error`

// taskRow is a task and the lease that it had last.
type taskRow struct {
	job.Task
	fence job.Fence
}

func scanTask(r scanner) (taskRow, error) { return scanTaskAnd(r) }

// scanTaskAnd reads taskColumns and whatever follows them.
func scanTaskAnd(r scanner, more ...any) (taskRow, error) {
	var t taskRow
	var notBefore, updated int64
	var query, cell []byte
	err := r.Scan(append([]any{
		&t.ID, &t.State, &t.fence, &t.InputID, &t.Attempts, &t.Crashes, &notBefore, &updated, &query, &cell, &t.Cursor, &t.Error,
	}, more...)...)
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

const (
	defaultTasks = 100
	keyOfJob     = `SELECT key FROM jobs WHERE id = $1`
	tasksOfState = `SELECT ` + taskColumns + ` FROM tasks WHERE job_key = (SELECT key FROM jobs WHERE id = $1) AND state = $2 AND id > $3 ORDER BY id LIMIT $4`
)

// Tasks implements store.Store.
func (s *Store) Tasks(ctx context.Context, id job.ID, f store.TaskFilter) ([]job.Task, error) {
	limit := cmp.Or(max(f.Limit, 0), defaultTasks)
	states := distinct(f.States)
	if len(states) == 0 {
		states = []job.TaskState{job.TaskOpen, job.TaskLeased, job.TaskDone, job.TaskDead, job.TaskSkipped}
	}
	scan := func(r scanner) (job.Task, error) {
		t, err := scanTask(r)
		t.JobID = id
		return t.Task, err
	}
	var known []int64
	pages := make([][]job.Task, len(states))
	err := s.read(ctx, func(r *reading) {
		read(r, &known, scanInt, keyOfJob, id)
		for i, state := range states { // a page of each, merged: the index by state serves all questions
			read(r, &pages[i], scan, tasksOfState, id, state, int64(f.After), limit)
		}
	})
	if err == nil && len(known) == 0 {
		err = store.ErrNotFound
	}
	if err != nil {
		return nil, fmt.Errorf("tasks of job %s: %w", id, err)
	}
	tasks := slices.Concat(pages...)
	slices.SortFunc(tasks, func(a, b job.Task) int { return cmp.Compare(a.ID, b.ID) })
	return tasks[:min(limit, len(tasks))], nil
}
