package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"gmaps-scraper/job"
	"gmaps-scraper/store"
)

// limitReached is the Reason of a job that has all the places that it may have.
const limitReached = "max results reached"

// Submit implements store.Store. A replay is known by its content: it is answered as the first time, and counts nothing twice,
// also when its lease has ended since. A place is taken from any task of the lease's job, a step only from a task that f still holds.
func (s *Store) Submit(ctx context.Context, f job.Fence, b job.Batch) (ack job.Ack, err error) {
	places, digest, err := store.Encode(b)
	if err != nil {
		return job.Ack{}, fmt.Errorf("submit under lease %d: %w", f, err)
	}
	err = s.write(ctx, func(ctx context.Context, t *tx) error {
		l, err := t.leaseRow(ctx, f)
		if err != nil {
			return err
		}
		const replayed = `SELECT new, duplicates FROM submits WHERE fence = ? AND digest = ?`
		err = t.QueryRowContext(ctx, replayed, f, digest).Scan(&ack.New, &ack.Duplicates)
		if err == nil {
			ack.Order = l.order()
			return nil
		}
		if !errors.Is(err, sql.ErrNoRows) {
			return err
		}
		if !l.live(t.now) {
			return l.stale()
		}
		ack, err = t.submit(ctx, &l, places, b.Tasks)
		if err != nil {
			return err
		}
		const acknowledge = `INSERT INTO submits (fence, digest, new, duplicates, at) VALUES (?, ?, ?, ?, ?)`
		_, err = t.exec(ctx, acknowledge, f, digest, ack.New, ack.Duplicates, t.now)
		return err
	})
	if err != nil {
		return job.Ack{}, fmt.Errorf("submit under lease %d: %w", f, err)
	}
	return ack, nil
}

func (t *tx) submit(ctx context.Context, l *leaseRow, places []store.PlaceRow, steps []job.TaskStep) (ack job.Ack, err error) {
	if err := t.checkTasks(ctx, l.job.key, places); err != nil {
		return job.Ack{}, err
	}
	ack.New, ack.Duplicates, err = t.insertPlaces(ctx, &l.job, places)
	if err != nil {
		return job.Ack{}, err
	}
	sum := counts{places: ack.New, duplicates: ack.Duplicates}
	for _, step := range steps {
		if err := t.step(ctx, l, step, &sum); err != nil {
			return job.Ack{}, err
		}
	}
	if err := t.count(ctx, &l.job, sum); err != nil {
		return job.Ack{}, err
	}
	if sum.leased < 0 {
		if err := t.endIfOver(ctx, l.fence); err != nil {
			return job.Ack{}, err
		}
	}
	if l.job.maxResults > 0 && l.job.places >= l.job.maxResults {
		_, err = t.endJob(ctx, &l.job, job.Succeeded, limitReached, true)
	} else {
		err = t.finish(ctx, &l.job)
	}
	ack.Order = l.order()
	return ack, err
}

// checkTasks refuses places of tasks that are not of the job.
func (t *tx) checkTasks(ctx context.Context, key int64, places []store.PlaceRow) error {
	const taskOfJob = `SELECT 1 FROM tasks WHERE id = ? AND job_key = ?`
	known := make(map[job.TaskID]bool)
	for i := range places {
		id := places[i].Task
		if known[id] {
			continue
		}
		_, err := scanInt(t.QueryRowContext(ctx, taskOfJob, id, key))
		if errors.Is(err, sql.ErrNoRows) {
			return fmt.Errorf("task %d is not of the lease's job: %w", id, store.ErrStaleFence)
		}
		if err != nil {
			return err
		}
		known[id] = true
	}
	return nil
}

// endIfOver ends a lease that holds no task any more.
func (t *tx) endIfOver(ctx context.Context, f job.Fence) error {
	const endLeaseOver = `UPDATE leases SET ended_at = ?1 WHERE fence = ?2 AND NOT EXISTS (SELECT 1 FROM tasks WHERE fence = ?2 AND state = 'leased')`
	_, err := t.exec(ctx, endLeaseOver, t.now, f)
	return err
}

const heldTask = `SELECT ` + taskColumns + ` FROM tasks WHERE id = ? AND fence = ? AND state = 'leased'`

// step moves one task. A task that the lease does not hold any more stays as it is: the step was applied before, or came too late.
func (t *tx) step(ctx context.Context, l *leaseRow, step job.TaskStep, sum *counts) error {
	const (
		moveCursor = `UPDATE tasks SET cursor = ?, updated_at = ? WHERE id = ?`
		doneTask   = `UPDATE tasks SET state = 'done', updated_at = ? WHERE id = ?`
	)
	task, err := scanTask(t.QueryRowContext(ctx, heldTask, step.TaskID, l.fence))
	if errors.Is(err, sql.ErrNoRows) {
		return nil
	}
	if err != nil {
		return err
	}
	if step.Cursor != "" { // an empty one is no place to go on from: the task keeps what it has
		if _, err := t.exec(ctx, moveCursor, step.Cursor, t.now, task.ID); err != nil {
			return err
		}
	}
	switch {
	case step.Done:
		sum.leased--
		sum.done++
		if _, err := t.exec(ctx, doneTask, t.now, task.ID); err != nil {
			return err
		}
		if step.Saturated {
			return t.split(ctx, l, task.Task, sum)
		}
	case step.Error != "":
		sum.leased--
		return t.failTask(ctx, l, task.Task, step.Error, time.Duration(step.RetryAfter), sum)
	}
	return nil
}

func (t *tx) split(ctx context.Context, l *leaseRow, task job.Task, sum *counts) error {
	children := job.SplitTask(task)
	for i := range children {
		if err := t.insertTask(ctx, l.job.key, &children[i]); err != nil {
			return err
		}
	}
	if len(children) == 0 {
		return nil
	}
	sum.open += len(children)
	text := fmt.Sprintf("task %d hid places: its cell was cut into %s", task.ID, plural(len(children), "task"))
	return t.event(ctx, l.job.key, job.EventTaskSplit, text, map[string]any{"task": task.ID, "tasks": len(children)})
}

// failTask opens a task again later, or buries it after its last attempt.
func (t *tx) failTask(ctx context.Context, l *leaseRow, task job.Task, why string, after time.Duration, sum *counts) error {
	const openLater = `UPDATE tasks SET state = 'open', error = ?, not_before = ?, updated_at = ? WHERE id = ?`
	if task.Attempts >= l.job.maxTries {
		return t.bury(ctx, l, task, why, sum)
	}
	sum.open++
	_, err := t.exec(ctx, openLater, why, t.now+max(0, after.Microseconds()), t.now, task.ID)
	return err
}

// bury makes a task dead.
func (t *tx) bury(ctx context.Context, l *leaseRow, task job.Task, why string, sum *counts) error {
	const killTask = `UPDATE tasks SET state = 'dead', error = ?, updated_at = ? WHERE id = ?`
	if _, err := t.exec(ctx, killTask, why, t.now, task.ID); err != nil {
		return err
	}
	sum.dead++
	text := fmt.Sprintf("task %d is dead after %s: %s", task.ID, plural(task.Attempts, "attempt"), why)
	return t.event(ctx, l.job.key, job.EventTaskDead, text, map[string]any{"task": task.ID, "query": task.Query.Keyword, "error": why})
}

// insertPlaces stores what the job does not have yet, up to its limit.
func (t *tx) insertPlaces(ctx context.Context, j *jobRow, places []store.PlaceRow) (fresh, duplicates int, err error) {
	const insertPlace = `INSERT INTO results (job_key, place_key, task_id, found_at, rating, website, phone, country, city, category, search, place)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (job_key, place_key) DO NOTHING`
	for i := range places {
		if j.maxResults > 0 && j.places+fresh >= j.maxResults {
			break
		}
		p := &places[i]
		n, err := t.exec(ctx, insertPlace, j.key, p.Key, p.Task, t.now, p.Rating, p.Website, p.Phone, p.Country, p.City, p.Category, p.Search, p.JSON)
		if err != nil {
			return 0, 0, err
		}
		fresh += n
		duplicates += 1 - n
	}
	return fresh, duplicates, nil
}
