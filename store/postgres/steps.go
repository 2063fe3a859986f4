package postgres

import (
	"context"
	"fmt"
	"time"

	"gmaps-scraper/job"
)

// moves are the changes of a lease's tasks, gathered so that each kind is one statement.
type moves struct {
	ids, notBefore          []int64
	states, cursors, errors []string
	children                []job.Task
	sum                     counts
}

func (m *moves) add(t *job.Task, notBefore int64) {
	m.ids, m.notBefore = append(m.ids, int64(t.ID)), append(m.notBefore, notBefore)
	m.states, m.cursors, m.errors = append(m.states, string(t.State)), append(m.cursors, string(t.Cursor)), append(m.errors, t.Error)
}

// move queues the changes of the tasks.
func (t *tx) move(m *moves) {
	const moveTasks = `UPDATE tasks SET state = new.state, cursor = new.cursor, error = new.error, not_before = new.not_before, updated_at = $1
		FROM unnest($2::bigint[], $3::text[], $4::text[], $5::text[], $6::bigint[]) AS new (id, state, cursor, error, not_before) WHERE tasks.id = new.id`
	if len(m.ids) > 0 {
		t.exec(moveTasks, t.now, m.ids, m.states, m.cursors, m.errors, m.notBefore)
	}
}

// steps moves the tasks that a lease holds, counts what was handed in, and ends lease and job if they are over. A step of a task that
// the lease does not hold any more changes nothing: it was applied before, or came too late.
func (t *tx) steps(ctx context.Context, l *leaseRow, held []taskRow, steps []job.TaskStep, sum counts) error {
	// endLeaseOver ends a lease that holds no task any more.
	const endLeaseOver = `UPDATE leases SET ended_at = $1 WHERE fence = $2 AND NOT EXISTS (SELECT 1 FROM tasks WHERE fence = $2 AND state = 'leased')`
	tasks := make(map[job.TaskID]*job.Task, len(held))
	for i := range held {
		tasks[held[i].ID] = &held[i].Task
	}
	m := moves{sum: sum}
	kept := make(map[job.TaskID]bool) // those whose cursor alone moves
	for _, step := range steps {
		task := tasks[step.TaskID]
		if task == nil {
			continue
		}
		if step.Cursor != "" { // an empty one is no place to go on from: the task keeps what it has
			task.Cursor = step.Cursor
			kept[task.ID] = true
		}
		switch {
		case step.Done:
			m.sum.leased--
			m.sum.done++
			task.State = job.TaskDone
			m.add(task, micros(task.NotBefore))
			if step.Saturated {
				t.split(l, task, &m)
			}
		case step.Error != "":
			m.sum.leased--
			t.failTask(l, task, step.Error, time.Duration(step.RetryAfter), &m)
		default:
			continue
		}
		delete(tasks, step.TaskID)
		delete(kept, step.TaskID)
	}
	for id := range kept {
		m.add(tasks[id], micros(tasks[id].NotBefore))
	}
	t.move(&m)
	if len(m.children) > 0 {
		if err := t.insertTasks(ctx, madeJob{key: l.job.key, at: t.now}, m.children); err != nil {
			return err
		}
	}
	t.count(&l.job, m.sum)
	if m.sum.leased < 0 {
		t.exec(endLeaseOver, t.now, int64(l.fence))
	}
	if l.job.maxResults > 0 && l.job.places >= l.job.maxResults {
		_, err := t.endJob(ctx, &l.job, job.Succeeded, limitReached, true)
		return err
	}
	return t.finish(ctx, &l.job)
}

func (t *tx) split(l *leaseRow, task *job.Task, m *moves) {
	children := job.SplitTask(*task)
	if len(children) == 0 {
		return
	}
	m.children = append(m.children, children...)
	m.sum.open += len(children)
	text := fmt.Sprintf("task %d hid places: its cell was cut into %s", task.ID, plural(len(children), "task"))
	t.event(l.job.key, job.EventTaskSplit, text, map[string]any{"task": task.ID, "tasks": len(children)})
}

// failTask opens a task again later, or buries it after its last attempt.
func (t *tx) failTask(l *leaseRow, task *job.Task, why string, after time.Duration, m *moves) {
	task.Error = why
	if task.Attempts < l.job.maxTries {
		task.State = job.TaskOpen
		m.sum.open++
		m.add(task, t.now+max(0, after.Microseconds()))
		return
	}
	task.State = job.TaskDead
	m.sum.dead++
	m.add(task, micros(task.NotBefore))
	text := fmt.Sprintf("task %d is dead after %s: %s", task.ID, plural(task.Attempts, "attempt"), why)
	t.event(l.job.key, job.EventTaskDead, text, map[string]any{"task": task.ID, "query": task.Query.Keyword, "error": why})
}
