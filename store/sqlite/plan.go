package sqlite

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"time"

	"gmaps-scraper/job"
	"gmaps-scraper/store"
)

const (
	// tasksPerSlot is how many open tasks one slot of a worker is expected to take.
	tasksPerSlot  = 8
	defaultAgeing = time.Minute
	planPage      = 64
)

const (
	countedOfBackend = `SELECT (SELECT count(*) FROM spawns WHERE backend = ?1 AND state <> 'ended') +
		(SELECT count(*) FROM spawns WHERE backend = ?1 AND may_run_until > 0 AND may_run_until > ?2)`
	dueTasks = `SELECT count(*) FROM (SELECT 1 FROM tasks WHERE job_key = ? AND state = 'open' AND suspect IN (0, 1) AND not_before <= ? LIMIT ?)`
)

// candidate is a job that may want workers.
type candidate struct {
	key        int64
	id         job.ID
	maxWorkers int
	live       int
	rank       int64
}

func scanCandidate(r scanner) (c candidate, err error) {
	err = r.Scan(&c.key, &c.id, &c.maxWorkers, &c.live, &c.rank)
	return c, err
}

// PlanSpawns implements store.Store. Jobs are served in effective order, each up to what it wants, until the room is used up.
func (s *Store) PlanSpawns(ctx context.Context, p store.Plan) (planned []job.Spawn, err error) {
	perWorker := max(1, p.Concurrency) * tasksPerSlot
	err = s.write(ctx, func(ctx context.Context, t *tx) error {
		planned = nil
		room := math.MaxInt
		if p.New > 0 {
			room = p.New
		}
		if p.Cap > 0 {
			live, err := scanInt(t.QueryRowContext(ctx, countedOfBackend, p.Backend, t.now))
			if err != nil {
				return err
			}
			room = min(room, p.Cap-int(live))
		}
		after := candidate{rank: math.MinInt64}
		for room > 0 {
			page, err := collect(ctx, t, scanCandidate, candidates(p.AgeingInterval), t.now, after.rank, after.key, planPage)
			if err != nil || len(page) == 0 {
				return err
			}
			for _, c := range page {
				due, err := t.dueTasks(ctx, c, perWorker)
				if err != nil {
					return err
				}
				lack := min((due+perWorker-1)/perWorker, c.maxWorkers) - c.live
				spawns, err := t.insertSpawns(ctx, c, p, min(lack, room))
				if err != nil {
					return err
				}
				planned = append(planned, spawns...)
				room -= len(spawns)
				if room <= 0 {
					break
				}
			}
			after = page[len(page)-1]
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("plan spawns: %w", err)
	}
	return planned, nil
}

// candidates asks for the jobs that have open tasks and fewer workers than they may have, in effective order.
// The usual interval has an index; another one has SQLite sort the jobs.
func candidates(ageing time.Duration) string {
	rank := `rank`
	if interval := cmp.Or(max(ageing, 0), defaultAgeing); interval != defaultAgeing {
		rank = fmt.Sprintf(`(created_at - priority * %d)`, interval.Microseconds())
	}
	return `SELECT key, id, max_workers, (SELECT count(*) FROM spawns WHERE job_id = jobs.id AND state <> 'ended') AS live, ` + rank + `
		FROM jobs WHERE grantable = 1 AND (deadline = 0 OR deadline > ?) AND (` + rank + `, key) > (?, ?) AND live < max_workers ORDER BY ` + rank + `, key LIMIT ?`
}

// dueTasks counts the open tasks of a job that are due, up to what its most workers would take.
func (t *tx) dueTasks(ctx context.Context, c candidate, perWorker int) (int, error) {
	n, err := scanInt(t.QueryRowContext(ctx, dueTasks, c.key, t.now, int64(c.maxWorkers)*int64(perWorker)))
	return int(n), err
}

func (t *tx) insertSpawns(ctx context.Context, c candidate, p store.Plan, n int) ([]job.Spawn, error) {
	const insertSpawn = `INSERT INTO spawns (id, job_id, backend, state, concurrency, created_at) VALUES (?, ?, ?, 'pending', ?, ?)`
	if n <= 0 {
		return nil, nil
	}
	spawns := make([]job.Spawn, n)
	for i := range spawns {
		s := job.Spawn{ID: job.NewSpawnID(), JobID: c.id, Backend: p.Backend, State: job.SpawnPending, Concurrency: p.Concurrency, CreatedAt: fromMicros(t.now)}
		if _, err := t.exec(ctx, insertSpawn, s.ID, s.JobID, s.Backend, s.Concurrency, t.now); err != nil {
			return nil, err
		}
		if err := t.event(ctx, c.key, job.EventSpawned, fmt.Sprintf("%s is to start on %s", s.Name(), s.Backend), map[string]any{"spawn": s.ID, "backend": s.Backend}); err != nil {
			return nil, err
		}
		spawns[i] = s
	}
	return spawns, t.count(ctx, &jobRow{key: c.key}, counts{spawns: n})
}

// SetWaiting implements store.Store. No jobs: all that the text can be said of, or that it was said of.
func (s *Store) SetWaiting(ctx context.Context, why string, jobs ...job.ID) error {
	const (
		idle     = `grantable = 1 AND NOT EXISTS (SELECT 1 FROM spawns WHERE job_id = jobs.id AND state <> 'ended')`
		sayOne   = `UPDATE jobs SET waiting = ?1, updated_at = ?2 WHERE id = ?3 AND waiting <> ?1 AND ` + idle + ` RETURNING key`
		sayAll   = `UPDATE jobs SET waiting = ?1, updated_at = ?2 WHERE waiting <> ?1 AND ` + idle + ` RETURNING key`
		clearOne = `UPDATE jobs SET waiting = ?1, updated_at = ?2 WHERE id = ?3 AND waiting <> '' RETURNING key`
		clearAll = `UPDATE jobs SET waiting = ?1, updated_at = ?2 WHERE waiting <> '' RETURNING key`
	)
	one, all, text := sayOne, sayAll, why
	if why == "" {
		one, all, text = clearOne, clearAll, "waits no longer"
	}
	err := s.write(ctx, func(ctx context.Context, t *tx) error {
		keys, err := []int64(nil), error(nil)
		if len(jobs) == 0 {
			keys, err = collect(ctx, t, scanInt, all, why, t.now)
		}
		for _, id := range jobs {
			if err != nil {
				break
			}
			var key []int64
			key, err = collect(ctx, t, scanInt, one, why, t.now, id)
			keys = append(keys, key...)
		}
		if err != nil {
			return err
		}
		for _, key := range keys {
			if err := t.event(ctx, key, job.EventWaiting, text, nil); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("set waiting: %w", err)
	}
	return nil
}
