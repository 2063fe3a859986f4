package postgres

import (
	"context"
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
	return s.change(ctx, "pause", id, func(_ context.Context, t *tx, j *jobRow) error {
		switch {
		case j.state.Terminal():
			return store.ErrState
		case j.state == job.Paused:
			return nil
		}
		t.setState(j, job.Paused)
		t.event(j.key, job.EventPaused, "paused: no task is given out", nil)
		return nil
	})
}

// Resume implements store.Store.
func (s *Store) Resume(ctx context.Context, id job.ID) (job.Job, error) {
	return s.change(ctx, "resume", id, func(_ context.Context, t *tx, j *jobRow) error {
		switch {
		case j.state.Terminal():
			return store.ErrState
		case j.state != job.Paused:
			return nil
		}
		t.setState(j, j.going())
		t.event(j.key, job.EventResumed, "resumed", nil)
		return nil
	})
}

// Retry implements store.Store. A job that has ended, whose deadline is gone with its end, gets its MaxTime anew from the next lease on.
func (s *Store) Retry(ctx context.Context, id job.ID) (job.Job, error) {
	return s.change(ctx, "retry", id, func(_ context.Context, t *tx, j *jobRow) error {
		const (
			// Crashes stay: a task that killed its worker goes on being leased alone.
			openAgain = `UPDATE tasks SET state = 'open', attempts = 0, not_before = 0, error = '', updated_at = $1 WHERE job_key = $2 AND state IN ('dead', 'skipped')`
			liveAgain = `UPDATE jobs SET state = $1, reason = '', partial = false, ended_at = 0, updated_at = $2 WHERE key = $3`
		)
		n := j.dead + j.skipped
		if n == 0 {
			return store.ErrState
		}
		t.allow(n)
		t.exec(openAgain, t.now, j.key)
		t.count(j, counts{open: n, dead: -j.dead, skipped: -j.skipped})
		if j.state.Terminal() {
			t.exec(liveAgain, j.going(), t.now, j.key)
		}
		t.event(j.key, job.EventRetried, plural(n, "task")+" opened again", nil)
		return nil
	})
}

// going is the state of a job that is neither paused nor over.
func (j *jobRow) going() job.State {
	if j.startedAt == 0 {
		return job.Pending
	}
	return job.Running
}

func (s *Store) change(ctx context.Context, verb string, id job.ID, do func(ctx context.Context, t *tx, j *jobRow) error) (job.Job, error) {
	var after []job.Job
	err := s.write(ctx, func(ctx context.Context, t *tx) error {
		j, err := t.lockJob(ctx, id)
		if err != nil {
			return err
		}
		if err := do(ctx, t, &j); err != nil {
			return err
		}
		ask(t, &after, scanHead, jobHead, id)
		return nil
	})
	if err != nil {
		return job.Job{}, fmt.Errorf("%s job %s: %w", verb, id, err)
	}
	return after[0], nil
}

func (t *tx) setState(j *jobRow, to job.State) {
	const setState = `UPDATE jobs SET state = $1, waiting = '', updated_at = $2 WHERE key = $3`
	j.state = to
	t.exec(setState, to, t.now, j.key)
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
	const lastError = `SELECT error FROM tasks WHERE job_key = $1 AND state = 'dead' ORDER BY id DESC LIMIT 1`
	var why []string
	ask(t, &why, scanText, lastError, j.key)
	if err := t.flush(ctx); err != nil {
		return err
	}
	if len(why) == 0 {
		return fmt.Errorf("job %s counts %d dead tasks and has none", j.id, j.dead)
	}
	state := job.Succeeded
	if j.done == 0 {
		state = job.Failed
	}
	reason := fmt.Sprintf("%d of %s failed: %s", j.dead, plural(j.done+j.dead+j.skipped, "task"), why[0])
	_, err := t.endJob(ctx, j, state, reason, true)
	return err
}

// endJob makes a job terminal: what is not over is skipped. It returns how many live leases that ended.
func (t *tx) endJob(ctx context.Context, j *jobRow, state job.State, reason string, partial bool) (leases int, err error) {
	const (
		skipTasks = `UPDATE tasks SET state = 'skipped', updated_at = $1 WHERE job_key = $2 AND state IN ('open', 'leased')`
		// Locked in order, as ExtendLeases does: heartbeats and it lock leases without their job.
		lockLeases = `SELECT fence FROM leases WHERE job_key = $1 AND ended_at = 0 ORDER BY fence FOR NO KEY UPDATE`
		endLeases  = `UPDATE leases SET ended_at = $1 WHERE job_key = $2 AND ended_at = 0`
		endJob     = `UPDATE jobs SET state = $1, reason = $2, partial = $3, waiting = '', deadline = 0, ended_at = $4, updated_at = $4 WHERE key = $5`
	)
	var live []int64
	ask(t, &live, scanInt, lockLeases, j.key)
	if j.open+j.leased > 0 {
		t.allow(j.open + j.leased)
		t.exec(skipTasks, t.now, j.key)
		t.count(j, counts{open: -j.open, leased: -j.leased, skipped: j.open + j.leased})
	}
	t.changed(&leases, endLeases, t.now, j.key)
	if err := t.flush(ctx); err != nil {
		return 0, err
	}
	j.state = state
	t.exec(endJob, state, reason, partial, t.now, j.key)
	text := fmt.Sprintf("%s with %s", state, plural(j.places, "place"))
	if reason != "" && state != job.Cancelled {
		text += ": " + reason
	}
	t.event(j.key, job.EventEnded, text, map[string]any{"state": state, "places": j.places, "partial": partial})
	return leases, nil
}

// purgeRows bounds the rows that one transaction deletes, so that it is short.
const purgeRows = 5000

// DeleteJob implements store.Store. The job is gone at once. What belongs to it is gone with it if that is little;
// a job of millions of rows is purged by and by, by the calls of Expire.
func (s *Store) DeleteJob(ctx context.Context, id job.ID) error {
	const (
		// Without an id no question finds the job. Its key stays, so that no other job inherits its rows.
		forgetJob = `UPDATE jobs SET id = NULL, idempotency_key = NULL, state = 'deleted', waiting = '',
			open = 0, leased = 0, done = 0, dead = 0, skipped = 0, places = 0, duplicates = 0 WHERE key = $1`
		// A worker that still lives, or may still run, is counted by its row.
		forgetSpawns = `DELETE FROM spawns WHERE job_id = $1 AND state = 'ended' AND may_run_until <= (SELECT gmaps_now())`
	)
	err := s.write(ctx, func(ctx context.Context, t *tx) error {
		j, err := t.lockJob(ctx, id)
		if err != nil {
			return err
		}
		if !j.state.Terminal() {
			return store.ErrState
		}
		t.exec(forgetSpawns, id)
		t.exec(forgetJob, j.key)
		return nil
	})
	if err != nil {
		return fmt.Errorf("delete job %s: %w", id, err)
	}
	if err := s.purge(ctx); err != nil {
		s.log.Warn("a deleted job's rows were not purged yet", "job", id, "err", err)
	}
	return nil
}

const (
	// Of several Managers each purges another job.
	deletedJob = `SELECT key FROM jobs WHERE id IS NULL ORDER BY key LIMIT 1 FOR UPDATE SKIP LOCKED`
	// A row is found again by where it lies: nobody else writes to what belongs to a deleted job.
	purgeJob = `WITH
		r AS (DELETE FROM results WHERE ctid = ANY(ARRAY(SELECT ctid FROM results WHERE job_key = $1 LIMIT $2)) RETURNING 1),
		e AS (DELETE FROM events  WHERE ctid = ANY(ARRAY(SELECT ctid FROM events  WHERE job_key = $1 LIMIT $2)) RETURNING 1),
		t AS (DELETE FROM tasks   WHERE ctid = ANY(ARRAY(SELECT ctid FROM tasks   WHERE job_key = $1 LIMIT $2)) RETURNING 1)
		SELECT (SELECT count(*) FROM r) + (SELECT count(*) FROM e) + (SELECT count(*) FROM t)`
	purgeSubmits = `DELETE FROM submits WHERE fence IN (SELECT fence FROM leases WHERE job_key = $1)`
	purgeLeases  = `DELETE FROM leases WHERE job_key = $1`
	purgeInputs  = `DELETE FROM job_inputs WHERE job_key = $1`
	purgeRow     = `DELETE FROM jobs WHERE key = $1`
)

// purge deletes a little of one deleted job, and the last of it with its row.
func (s *Store) purge(ctx context.Context) error {
	return s.write(ctx, func(ctx context.Context, t *tx) error {
		t.exec(forgetSubmits, submitsKept.Microseconds(), purgeRows)
		var key, n []int64
		ask(t, &key, scanInt, deletedJob)
		if err := t.flush(ctx); err != nil || len(key) == 0 {
			return err
		}
		ask(t, &n, scanInt, purgeJob, key[0], purgeRows)
		if err := t.flush(ctx); err != nil || n[0] >= purgeRows {
			return err
		}
		t.exec(purgeSubmits, key[0])
		t.exec(purgeLeases, key[0])
		t.exec(purgeInputs, key[0])
		t.exec(purgeRow, key[0])
		return nil
	})
}
