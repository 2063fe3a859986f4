package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"gmaps-scraper/job"
	"gmaps-scraper/store"
)

// Cancel implements store.Store.
func (s *Store) Cancel(ctx context.Context, id job.ID) (job.Job, error) {
	return s.change(ctx, "cancel", id, func(ctx context.Context, t *tx, j *jobRow) error {
		if j.state.Terminal() {
			return nil
		}
		_, err := t.endJob(ctx, j, job.Cancelled, "cancelled", true)
		return err
	})
}

// Pause implements store.Store.
func (s *Store) Pause(ctx context.Context, id job.ID) (job.Job, error) {
	return s.change(ctx, "pause", id, func(ctx context.Context, t *tx, j *jobRow) error {
		switch {
		case j.state.Terminal():
			return store.ErrState
		case j.state == job.Paused:
			return nil
		}
		if err := t.setState(ctx, j, job.Paused); err != nil {
			return err
		}
		return t.event(ctx, j.key, job.EventPaused, "paused: no task is given out", nil)
	})
}

// Resume implements store.Store.
func (s *Store) Resume(ctx context.Context, id job.ID) (job.Job, error) {
	return s.change(ctx, "resume", id, func(ctx context.Context, t *tx, j *jobRow) error {
		switch {
		case j.state.Terminal():
			return store.ErrState
		case j.state != job.Paused:
			return nil
		}
		if err := t.setState(ctx, j, j.going()); err != nil {
			return err
		}
		return t.event(ctx, j.key, job.EventResumed, "resumed", nil)
	})
}

// Retry implements store.Store. A job that has ended, whose deadline is gone with its end, gets its MaxTime anew from the next lease on.
func (s *Store) Retry(ctx context.Context, id job.ID) (job.Job, error) {
	return s.change(ctx, "retry", id, func(ctx context.Context, t *tx, j *jobRow) error {
		const (
			// Crashes stay: a task that killed its worker goes on being leased alone.
			openAgain = `UPDATE tasks SET state = 'open', attempts = 0, not_before = 0, error = '', updated_at = ? WHERE job_key = ? AND state IN ('dead', 'skipped')`
			liveAgain = `UPDATE jobs SET state = ?, reason = '', partial = 0, ended_at = 0, updated_at = ? WHERE key = ?`
		)
		n, err := t.exec(ctx, openAgain, t.now, j.key)
		if err != nil {
			return err
		}
		if n == 0 {
			return store.ErrState
		}
		if err := t.count(ctx, j, counts{open: n, dead: -j.dead, skipped: -j.skipped}); err != nil {
			return err
		}
		if j.state.Terminal() {
			if _, err := t.exec(ctx, liveAgain, j.going(), t.now, j.key); err != nil {
				return err
			}
		}
		return t.event(ctx, j.key, job.EventRetried, plural(n, "task")+" opened again", nil)
	})
}

// going is the state of a job that is neither paused nor over.
func (j *jobRow) going() job.State {
	if j.startedAt == 0 {
		return job.Pending
	}
	return job.Running
}

func (s *Store) change(ctx context.Context, verb string, id job.ID, do func(ctx context.Context, t *tx, j *jobRow) error) (after job.Job, err error) {
	err = s.write(ctx, func(ctx context.Context, t *tx) error {
		j, err := t.job(ctx, id)
		if err != nil {
			return err
		}
		if err := do(ctx, t, &j); err != nil {
			return err
		}
		after, err = jobAlone(ctx, t, id)
		return err
	})
	if err != nil {
		return job.Job{}, fmt.Errorf("%s job %s: %w", verb, id, err)
	}
	return after, nil
}

func (t *tx) setState(ctx context.Context, j *jobRow, to job.State) error {
	const setState = `UPDATE jobs SET state = ?, waiting = '', updated_at = ? WHERE key = ?`
	j.state = to
	_, err := t.exec(ctx, setState, to, t.now, j.key)
	return err
}

// finish ends the job if its last task is over.
func (t *tx) finish(ctx context.Context, j *jobRow) error {
	if j.state.Terminal() || j.open+j.leased > 0 {
		return nil
	}
	if j.dead == 0 {
		_, err := t.endJob(ctx, j, job.Succeeded, "", j.skipped > 0)
		return err
	}
	const lastError = `SELECT error FROM tasks WHERE job_key = ? AND state = 'dead' ORDER BY id DESC LIMIT 1`
	var why string
	if err := t.QueryRowContext(ctx, lastError, j.key).Scan(&why); err != nil {
		return err
	}
	state := job.Succeeded
	if j.done == 0 {
		state = job.Failed
	}
	reason := fmt.Sprintf("%d of %s failed: %s", j.dead, plural(j.done+j.dead+j.skipped, "task"), why)
	_, err := t.endJob(ctx, j, state, reason, true)
	return err
}

// endJob makes a job terminal: what is not over is skipped. It returns how many live leases that ended.
func (t *tx) endJob(ctx context.Context, j *jobRow, state job.State, reason string, partial bool) (leases int, err error) {
	const (
		skipTasks = `UPDATE tasks SET state = 'skipped', updated_at = ? WHERE job_key = ? AND state IN ('open', 'leased')`
		endLeases = `UPDATE leases SET ended_at = ? WHERE job_key = ? AND ended_at = 0`
		endJob    = `UPDATE jobs SET state = ?, reason = ?, partial = ?, waiting = '', deadline = 0, ended_at = ?, updated_at = ? WHERE key = ?`
	)
	if j.open+j.leased > 0 {
		if _, err := t.exec(ctx, skipTasks, t.now, j.key); err != nil {
			return 0, err
		}
		if err := t.count(ctx, j, counts{open: -j.open, leased: -j.leased, skipped: j.open + j.leased}); err != nil {
			return 0, err
		}
	}
	leases, err = t.exec(ctx, endLeases, t.now, j.key)
	if err != nil {
		return 0, err
	}
	j.state = state
	if _, err := t.exec(ctx, endJob, state, reason, partial, t.now, t.now, j.key); err != nil {
		return 0, err
	}
	text := fmt.Sprintf("%s with %s", state, plural(j.places, "place"))
	if reason != "" && state != job.Cancelled {
		text += ": " + reason
	}
	return leases, t.event(ctx, j.key, job.EventEnded, text, map[string]any{"state": state, "places": j.places, "partial": partial})
}

const (
	// purgeRows bounds the rows that one transaction deletes, so that leases are renewed in time beside it.
	purgeRows  = 5000
	deletedJob = `SELECT key FROM jobs WHERE id IS NULL ORDER BY key LIMIT 1`
)

// DeleteJob implements store.Store. The job is gone at once. What belongs to it is gone with it if that is little;
// a job of millions of rows is purged by and by, by the calls of Expire.
func (s *Store) DeleteJob(ctx context.Context, id job.ID) error {
	const (
		// Without an id no question finds the job. Its key stays, so that no other job inherits its rows.
		forgetJob = `UPDATE jobs SET id = NULL, idempotency_key = NULL, state = 'deleted', waiting = '',
			open = 0, leased = 0, done = 0, dead = 0, skipped = 0, places = 0, duplicates = 0 WHERE key = ?`
		// A worker that still lives, or may still run, is counted by its row.
		forgetSpawns = `DELETE FROM spawns WHERE job_id = ? AND state = 'ended' AND may_run_until <= ?`
	)
	err := s.write(ctx, func(ctx context.Context, t *tx) error {
		j, err := t.job(ctx, id)
		if err != nil {
			return err
		}
		if !j.state.Terminal() {
			return store.ErrState
		}
		if _, err := t.exec(ctx, forgetSpawns, id, t.now); err != nil {
			return err
		}
		if _, err := t.exec(ctx, forgetJob, j.key); err != nil {
			return err
		}
		return t.purge(ctx)
	})
	if err != nil {
		return fmt.Errorf("delete job %s: %w", id, err)
	}
	return nil
}

// purge deletes up to purgeRows rows of deleted jobs, and the last of them the job's.
func (t *tx) purge(ctx context.Context) error {
	left := purgeRows
	for left > 0 {
		key, err := scanInt(t.QueryRowContext(ctx, deletedJob))
		if errors.Is(err, sql.ErrNoRows) {
			return nil
		}
		if err != nil {
			return err
		}
		for _, question := range []string{
			`DELETE FROM results WHERE seq IN (SELECT seq FROM results WHERE job_key = ? LIMIT ?)`,
			`DELETE FROM events WHERE id IN (SELECT id FROM events WHERE job_key = ? LIMIT ?)`,
			`DELETE FROM submits WHERE fence IN (SELECT fence FROM leases WHERE job_key = ? LIMIT ?)`,
			`DELETE FROM leases WHERE fence IN (SELECT fence FROM leases WHERE job_key = ? LIMIT ?)`,
			`DELETE FROM tasks WHERE id IN (SELECT id FROM tasks WHERE job_key = ? LIMIT ?)`,
			`DELETE FROM jobs WHERE key = ? AND ? > 0`,
		} {
			n, err := t.exec(ctx, question, key, left)
			if err != nil {
				return err
			}
			if left -= n; left <= 0 {
				return nil
			}
		}
	}
	return nil
}
