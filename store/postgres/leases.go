package postgres

import (
	"context"
	"errors"
	"fmt"
	"time"

	"gmaps-scraper/job"
	"gmaps-scraper/store"
)

// leaseRow is a lease with its job and the state of its spawn.
type leaseRow struct {
	fence      job.Fence
	spawn      job.SpawnID
	expires    int64
	ended      int64
	job        jobRow
	spawnState job.SpawnState
}

func scanLease(r scanner) (l leaseRow, err error) {
	err = r.Scan(&l.fence, &l.spawn, &l.expires, &l.ended, &l.spawnState)
	return l, err
}

const (
	lockJobOfLease = `SELECT ` + jobRowColumns + ` FROM jobs WHERE key = (SELECT job_key FROM leases WHERE fence = $1) AND id IS NOT NULL FOR NO KEY UPDATE`
	leaseOfFence   = `SELECT fence, spawn_id, expires_at, ended_at, coalesce((SELECT state FROM spawns WHERE id = spawn_id), 'ended') FROM leases WHERE fence = $1`
)

// leaseAnswer is what lockLease asked for, once it is there.
type leaseAnswer struct {
	jobs   []jobRow
	leases []leaseRow
}

// lockLease queues the questions for a lease, ended or not, that lock the row of its job and read the clock.
func (t *tx) lockLease(f job.Fence) *leaseAnswer {
	a := new(leaseAnswer)
	ask(t, &a.jobs, scanJobRow, lockJobOfLease, int64(f))
	ask(t, &a.leases, scanLease, leaseOfFence, int64(f))
	t.clock()
	return a
}

// row is the lease. ErrStaleFence: it is not known, any more.
func (a *leaseAnswer) row() (leaseRow, error) {
	if len(a.jobs) == 0 || len(a.leases) == 0 {
		return leaseRow{}, store.ErrStaleFence
	}
	l := a.leases[0]
	l.job = a.jobs[0]
	return l, nil
}

// leaseRow locks the job of a lease and reads the lease.
func (t *tx) leaseRow(ctx context.Context, f job.Fence) (leaseRow, error) {
	a := t.lockLease(f)
	if err := t.flush(ctx); err != nil {
		return leaseRow{}, err
	}
	return a.row()
}

// live reports whether writes under the lease count.
func (l *leaseRow) live(now int64) bool { return l.ended == 0 && l.expires > now }

// stale is the error of a lease that is not live.
func (l *leaseRow) stale() error {
	if l.ended == 0 {
		return store.ErrOverdue
	}
	return store.ErrStaleFence
}

func (l *leaseRow) order() job.Order { return store.OrderFor(l.job.state, l.spawnState) }

type renewal struct {
	job      job.State
	spawn    job.SpawnState
	extended bool
	overdue  bool
}

func scanRenewal(r scanner) (a renewal, err error) {
	err = r.Scan(&a.job, &a.spawn, &a.extended, &a.overdue)
	return a, err
}

// Renew implements store.Store. The order for any lease of a job that is over is Cancel, so that a worker learns why its fence is stale.
// It locks nothing but the lease: heartbeats do not wait for who hands in results.
func (s *Store) Renew(ctx context.Context, f job.Fence, ttl time.Duration) (job.Order, error) {
	const (
		standing = `SELECT jobs.state, coalesce((SELECT state FROM spawns WHERE id = spawn_id), 'ended') AS spawn, leases.ended_at = 0 AS overdue, gmaps_now() AS now
			FROM leases JOIN jobs ON key = job_key WHERE fence = $1 AND jobs.id IS NOT NULL`
		renewLease = `WITH standing AS MATERIALIZED (` + standing + `),
			extended AS (
				UPDATE leases SET expires_at = standing.now + $2 FROM standing WHERE fence = $1 AND leases.ended_at = 0 AND expires_at > standing.now
				AND standing.state NOT IN ('succeeded', 'failed', 'cancelled') RETURNING 1)
			SELECT state, spawn, EXISTS (SELECT 1 FROM extended), overdue FROM standing`
		standingOfLease = `SELECT state, spawn, false, overdue FROM (` + standing + `) AS standing`
	)
	var found []renewal
	err := s.single(ctx, func(r *reading) { read(r, &found, scanRenewal, renewLease, int64(f), ttl.Microseconds()) })
	if err == nil && len(found) > 0 && !found[0].extended {
		// The job may have ended since the question began, and its leases with it: that is a Cancel, not a stale fence.
		err = s.read(ctx, func(r *reading) { read(r, &found, scanRenewal, standingOfLease, int64(f)) })
	}
	switch {
	case err != nil:
	case len(found) == 0:
		err = store.ErrStaleFence
	case !found[0].extended && !found[0].job.Terminal() && found[0].overdue:
		err = store.ErrOverdue
	case !found[0].extended && !found[0].job.Terminal():
		err = store.ErrStaleFence
	}
	if err != nil {
		return "", fmt.Errorf("renew lease %d: %w", f, err)
	}
	return store.OrderFor(found[0].job, found[0].spawn), nil
}

// LeaseOwner implements store.Store.
func (s *Store) LeaseOwner(ctx context.Context, f job.Fence) (job.SpawnID, error) {
	const ownerOfLease = `SELECT spawn_id FROM leases JOIN jobs ON key = job_key WHERE fence = $1 AND jobs.id IS NOT NULL`
	var owner []string
	err := s.read(ctx, func(r *reading) { read(r, &owner, scanText, ownerOfLease, int64(f)) })
	if err == nil && len(owner) == 0 {
		err = store.ErrStaleFence
	}
	if err != nil {
		return "", fmt.Errorf("owner of lease %d: %w", f, err)
	}
	return job.SpawnID(owner[0]), nil
}

// HandBack implements store.Store. A lease whose time is over is left to Expire: nothing is written under it.
func (s *Store) HandBack(ctx context.Context, f job.Fence, steps []job.TaskStep) error {
	const keepCursors = `UPDATE tasks SET cursor = new.cursor FROM unnest($2::bigint[], $3::text[]) AS new (id, cursor)
		WHERE tasks.id = new.id AND fence = $1 AND state = 'leased'`
	err := s.write(ctx, func(ctx context.Context, t *tx) error {
		l, err := t.leaseRow(ctx, f)
		if errors.Is(err, store.ErrStaleFence) || err == nil && !l.live(t.now) {
			return nil
		}
		if err != nil {
			return err
		}
		last := make(map[job.TaskID]string)
		for _, step := range steps {
			if step.Cursor != "" {
				last[step.TaskID] = string(step.Cursor)
			}
		}
		if len(last) > 0 {
			var ids []int64
			var cursors []string
			for id, cursor := range last {
				ids, cursors = append(ids, int64(id)), append(cursors, cursor)
			}
			t.exec(keepCursors, int64(f), ids, cursors)
		}
		return t.giveBack(ctx, &l)
	})
	if err != nil {
		return fmt.Errorf("hand back lease %d: %w", f, err)
	}
	return nil
}

// giveBack ends a lease as if its attempts had not been.
func (t *tx) giveBack(ctx context.Context, l *leaseRow) error {
	const openUncharged = `UPDATE tasks SET state = 'open', attempts = greatest(0, attempts - 1), not_before = 0, updated_at = $1 WHERE fence = $2 AND state = 'leased'`
	var n int
	t.changed(&n, openUncharged, t.now, int64(l.fence))
	t.endLease(l.fence)
	if err := t.flush(ctx); err != nil {
		return err
	}
	t.count(&l.job, counts{leased: -n, open: n})
	return nil
}

func (t *tx) endLease(f job.Fence) {
	const endLease = `UPDATE leases SET ended_at = $1 WHERE fence = $2`
	t.exec(endLease, t.now, int64(f))
}

// lose ends a lease whose worker is taken for dead: the attempts stay charged.
func (t *tx) lose(ctx context.Context, l *leaseRow, why string) error {
	const countCrash = `UPDATE tasks SET crashes = crashes + 1 WHERE fence = $1 AND state = 'leased' RETURNING ` + taskColumns
	var tasks []taskRow
	ask(t, &tasks, scanTask, countCrash, int64(l.fence))
	if err := t.flush(ctx); err != nil {
		return err
	}
	text := fmt.Sprintf("%s of %s: %s to do again", why, job.Spawn{ID: l.spawn}.Name(), plural(len(tasks), "task"))
	t.event(l.job.key, job.EventLeaseLost, text, map[string]any{"fence": l.fence, "spawn": l.spawn, "tasks": len(tasks)})
	moved := moves{sum: counts{leased: -len(tasks)}}
	for i := range tasks {
		t.failTask(l, &tasks[i].Task, fmt.Sprintf("its worker died %d times", tasks[i].Crashes), 0, &moved)
	}
	t.move(&moved)
	t.endLease(l.fence)
	t.count(&l.job, moved.sum)
	return t.finish(ctx, &l.job)
}

// submitsKept is how long an acknowledged batch is known again. A worker spools for less.
const submitsKept = 24 * time.Hour

const (
	// All live leases are read: they are as few as workers, and an index by time would have to be written with each heartbeat.
	expiredLeases = `SELECT job_key, fence FROM leases WHERE ended_at = 0 AND expires_at <= (SELECT gmaps_now()) ORDER BY job_key, fence`
	overdueJobs   = `SELECT key, 0 FROM jobs WHERE deadline > 0 AND deadline <= (SELECT gmaps_now())`
	forgetSubmits = `DELETE FROM submits WHERE (fence, digest) IN (SELECT fence, digest FROM submits WHERE at < (SELECT gmaps_now()) - $1 LIMIT $2 FOR UPDATE SKIP LOCKED)`
)

type lost struct{ key, fence int64 }

func scanLost(r scanner) (l lost, err error) {
	err = r.Scan(&l.key, &l.fence)
	return l, err
}

// Expire implements store.Store. Each job is a transaction of its own, so that no worker waits for all of them, and several Managers may
// do it at once. A job that cannot be changed holds up no other: that is logged, and an error only if nothing else went through either. It
// purges a little of deleted jobs, too.
func (s *Store) Expire(ctx context.Context) (ended int, err error) {
	var overdue, expired []lost
	err = s.read(ctx, func(r *reading) {
		read(r, &overdue, scanLost, overdueJobs)
		read(r, &expired, scanLost, expiredLeases)
	})
	if err != nil {
		return 0, fmt.Errorf("expire leases: %w", err)
	}
	var failed []error
	through := len(expired)+len(overdue) == 0 // a purge that fails alone is no reason to take the sweep for none
	note := func(what string, n int, err error) bool {
		if err != nil {
			failed = append(failed, fmt.Errorf("%s: %w", what, err))
			return false
		}
		ended, through = ended+n, true
		return true
	}
	stuck := make(map[int64]bool) // jobs, so that who waits for the lock of one waits once
	for _, e := range expired {
		if ctx.Err() != nil {
			break
		}
		if stuck[e.key] {
			continue
		}
		n, err := s.expire(ctx, job.Fence(e.fence))
		stuck[e.key] = !note(fmt.Sprintf("expire lease %d", e.fence), n, err)
	}
	for _, o := range overdue {
		if ctx.Err() != nil {
			break
		}
		n, err := s.endOverdue(ctx, o.key)
		note("end a job whose time is over", n, err)
	}
	note("purge", 0, s.purge(ctx))
	if err := errors.Join(failed...); err != nil && (!through || ctx.Err() != nil) {
		return ended, err
	}
	for _, err := range failed {
		s.log.Warn("not expired yet, it is tried again", "err", err)
	}
	return ended, nil
}

// endOverdue ends a job, if its time is still over once its row is locked.
func (s *Store) endOverdue(ctx context.Context, key int64) (ended int, err error) {
	const lockOverdue = `SELECT ` + jobRowColumns + ` FROM jobs WHERE key = $1 AND id IS NOT NULL AND deadline > 0 AND deadline <= (SELECT gmaps_now()) FOR NO KEY UPDATE`
	err = s.write(ctx, func(ctx context.Context, t *tx) error {
		ended = 0
		var jobs []jobRow
		ask(t, &jobs, scanJobRow, lockOverdue, key)
		t.clock()
		if err := t.flush(ctx); err != nil || len(jobs) == 0 {
			return err
		}
		ended, err = t.endJob(ctx, &jobs[0], job.Succeeded, "max time reached", true)
		return err
	})
	return ended, err
}

// expire ends a lease, if its time is still over once its job is locked.
func (s *Store) expire(ctx context.Context, f job.Fence) (ended int, err error) {
	err = s.write(ctx, func(ctx context.Context, t *tx) error {
		ended = 0
		l, err := t.leaseRow(ctx, f)
		if errors.Is(err, store.ErrStaleFence) || err == nil && (l.ended != 0 || l.expires > t.now) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := t.reread(ctx, &l); err != nil || l.ended != 0 || l.expires > t.now {
			return err
		}
		ended = 1
		return t.lose(ctx, &l, "lost the lease")
	})
	return ended, err
}

// reread locks a lease beside its job: a heartbeat, which locks no job, may be extending it.
func (t *tx) reread(ctx context.Context, l *leaseRow) error {
	const lockLease = leaseOfFence + ` FOR NO KEY UPDATE`
	var again []leaseRow
	ask(t, &again, scanLease, lockLease, int64(l.fence))
	if err := t.flush(ctx); err != nil || len(again) == 0 {
		return err
	}
	l.expires, l.ended = again[0].expires, again[0].ended
	return nil
}

// ExtendLeases implements store.Store.
func (s *Store) ExtendLeases(ctx context.Context, ttl time.Duration) error {
	const (
		lockLive     = `SELECT fence FROM leases WHERE ended_at = 0 ORDER BY fence FOR NO KEY UPDATE`
		extendLeases = `UPDATE leases SET expires_at = $1 WHERE ended_at = 0 AND expires_at < $1`
	)
	err := s.write(ctx, func(ctx context.Context, t *tx) error {
		var live []int64
		ask(t, &live, scanInt, lockLive)
		t.clock()
		if err := t.flush(ctx); err != nil {
			return err
		}
		t.exec(extendLeases, t.now+ttl.Microseconds())
		return nil
	})
	if err != nil {
		return fmt.Errorf("extend leases: %w", err)
	}
	return nil
}
