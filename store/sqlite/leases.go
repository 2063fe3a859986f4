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

// leaseRow is a lease with its job and the state of its spawn.
type leaseRow struct {
	fence      job.Fence
	spawn      job.SpawnID
	expires    int64
	ended      int64
	job        jobRow
	spawnState job.SpawnState
}

// leaseRow reads a lease, ended or not. ErrStaleFence: it is not known, any more.
func (t *tx) leaseRow(ctx context.Context, f job.Fence) (l leaseRow, err error) {
	const leaseOfFence = `SELECT fence, spawn_id, expires_at, leases.ended_at, coalesce((SELECT state FROM spawns WHERE id = spawn_id), 'ended'), ` + jobRowColumns + `
		FROM leases JOIN jobs ON jobs.key = job_key WHERE fence = ? AND jobs.id IS NOT NULL`
	dest := append([]any{&l.fence, &l.spawn, &l.expires, &l.ended, &l.spawnState}, l.job.dest()...)
	err = t.QueryRowContext(ctx, leaseOfFence, f).Scan(dest...)
	if errors.Is(err, sql.ErrNoRows) {
		err = store.ErrStaleFence
	}
	return l, err
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

// Renew implements store.Store. The order for any lease of a job that is over is Cancel, so that a worker learns why its fence is stale.
func (s *Store) Renew(ctx context.Context, f job.Fence, ttl time.Duration) (order job.Order, err error) {
	const extendLease = `UPDATE leases SET expires_at = ? WHERE fence = ?`
	err = s.write(ctx, func(ctx context.Context, t *tx) error {
		l, err := t.leaseRow(ctx, f)
		if err != nil {
			return err
		}
		order = l.order()
		if order == job.Cancel {
			return nil
		}
		if !l.live(t.now) {
			return l.stale()
		}
		_, err = t.exec(ctx, extendLease, t.now+ttl.Microseconds(), f)
		return err
	})
	if err != nil {
		return "", fmt.Errorf("renew lease %d: %w", f, err)
	}
	return order, nil
}

// LeaseOwner implements store.Store.
func (s *Store) LeaseOwner(ctx context.Context, f job.Fence) (owner job.SpawnID, err error) {
	const ownerOfLease = `SELECT spawn_id FROM leases JOIN jobs ON key = job_key WHERE fence = ? AND jobs.id IS NOT NULL`
	err = s.read(ctx, func(q querier) error {
		err := q.QueryRowContext(ctx, ownerOfLease, f).Scan(&owner)
		if errors.Is(err, sql.ErrNoRows) {
			return store.ErrStaleFence
		}
		return err
	})
	if err != nil {
		return "", fmt.Errorf("owner of lease %d: %w", f, err)
	}
	return owner, nil
}

// HandBack implements store.Store. A lease whose time is over is left to Expire: nothing is written under it.
func (s *Store) HandBack(ctx context.Context, f job.Fence, steps []job.TaskStep) error {
	const keepCursor = `UPDATE tasks SET cursor = ? WHERE id = ? AND fence = ? AND state = 'leased'`
	err := s.write(ctx, func(ctx context.Context, t *tx) error {
		l, err := t.leaseRow(ctx, f)
		if errors.Is(err, store.ErrStaleFence) || err == nil && !l.live(t.now) {
			return nil
		}
		if err != nil {
			return err
		}
		for _, step := range steps {
			if step.Cursor == "" {
				continue
			}
			if _, err := t.exec(ctx, keepCursor, step.Cursor, step.TaskID, f); err != nil {
				return err
			}
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
	const openUncharged = `UPDATE tasks SET state = 'open', attempts = max(0, attempts - 1), not_before = 0, updated_at = ? WHERE fence = ? AND state = 'leased'`
	n, err := t.exec(ctx, openUncharged, t.now, l.fence)
	if err != nil {
		return err
	}
	if err := t.endLease(ctx, l.fence); err != nil {
		return err
	}
	return t.count(ctx, &l.job, counts{leased: -n, open: n})
}

func (t *tx) endLease(ctx context.Context, f job.Fence) error {
	const endLease = `UPDATE leases SET ended_at = ? WHERE fence = ?`
	_, err := t.exec(ctx, endLease, t.now, f)
	return err
}

// lose ends a lease whose worker is taken for dead: the attempts stay charged.
func (t *tx) lose(ctx context.Context, f job.Fence, why string) error {
	const (
		heldTasks  = `SELECT ` + taskColumns + ` FROM tasks WHERE fence = ? AND state = 'leased' ORDER BY id`
		countCrash = `UPDATE tasks SET crashes = crashes + 1 WHERE fence = ? AND state = 'leased'`
	)
	l, err := t.leaseRow(ctx, f)
	if err != nil {
		return err
	}
	if _, err := t.exec(ctx, countCrash, f); err != nil {
		return err
	}
	tasks, err := collect(ctx, t, scanTask, heldTasks, f)
	if err != nil {
		return err
	}
	text := fmt.Sprintf("%s of %s: %s to do again", why, job.Spawn{ID: l.spawn}.Name(), plural(len(tasks), "task"))
	if err := t.event(ctx, l.job.key, job.EventLeaseLost, text, map[string]any{"fence": f, "spawn": l.spawn, "tasks": len(tasks)}); err != nil {
		return err
	}
	sum := counts{leased: -len(tasks)}
	for _, task := range tasks {
		if err := t.failTask(ctx, &l, task.Task, fmt.Sprintf("its worker died %d times", task.Crashes), 0, &sum); err != nil {
			return err
		}
	}
	if err := t.endLease(ctx, f); err != nil {
		return err
	}
	if err := t.count(ctx, &l.job, sum); err != nil {
		return err
	}
	return t.finish(ctx, &l.job)
}

// submitsKept is how long an acknowledged batch is known again. A worker spools for less.
const submitsKept = 24 * time.Hour

const (
	expiredLeases = `SELECT fence FROM leases WHERE ended_at = 0 AND expires_at <= ? ORDER BY expires_at`
	overdueJobs   = `SELECT ` + jobRowColumns + ` FROM jobs WHERE deadline > 0 AND deadline <= ?`
	forgetSubmits = `DELETE FROM submits WHERE (fence, digest) IN (SELECT fence, digest FROM submits WHERE at < ? LIMIT ?)`
)

// Expire implements store.Store. It purges a little of deleted jobs, too.
func (s *Store) Expire(ctx context.Context) (ended int, err error) {
	err = s.write(ctx, func(ctx context.Context, t *tx) error {
		ended = 0
		overdue, err := collect(ctx, t, scanJobRow, overdueJobs, t.now)
		if err != nil {
			return err
		}
		for _, j := range overdue {
			n, err := t.endJob(ctx, &j, job.Succeeded, "max time reached", true)
			if err != nil {
				return err
			}
			ended += n
		}
		fences, err := collect(ctx, t, scanInt, expiredLeases, t.now)
		if err != nil {
			return err
		}
		for _, f := range fences {
			if err := t.lose(ctx, job.Fence(f), "lost the lease"); err != nil {
				return err
			}
		}
		ended += len(fences)
		if _, err := t.exec(ctx, forgetSubmits, t.now-submitsKept.Microseconds(), purgeRows); err != nil {
			return err
		}
		return t.purge(ctx)
	})
	if err != nil {
		return 0, fmt.Errorf("expire leases: %w", err)
	}
	return ended, nil
}

func scanJobRow(r scanner) (j jobRow, err error) {
	err = r.Scan(j.dest()...)
	return j, err
}

// ExtendLeases implements store.Store.
func (s *Store) ExtendLeases(ctx context.Context, ttl time.Duration) error {
	const extendLeases = `UPDATE leases SET expires_at = ?1 WHERE ended_at = 0 AND expires_at < ?1`
	err := s.write(ctx, func(ctx context.Context, t *tx) error {
		_, err := t.exec(ctx, extendLeases, t.now+ttl.Microseconds())
		return err
	})
	if err != nil {
		return fmt.Errorf("extend leases: %w", err)
	}
	return nil
}
