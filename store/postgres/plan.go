package postgres

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"slices"
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
	// Who plans holds the one row of planning: what another has planned is seen before the cap is counted.
	lockPlanning     = `SELECT 1 FROM planning FOR UPDATE`
	countedOfBackend = `SELECT (SELECT count(*) FROM spawns WHERE backend = $1 AND state <> 'ended') +
		(SELECT count(*) FROM spawns WHERE backend = $1 AND may_run_until > 0 AND may_run_until > (SELECT gmaps_now()))`
)

// candidate is a job that may want workers.
type candidate struct {
	key        int64
	id         job.ID
	maxWorkers int
	live       int
	rank       int64
	due        int // open tasks that are due, up to what its most workers would take
}

func scanCandidate(r scanner) (c candidate, err error) {
	err = r.Scan(&c.key, &c.id, &c.maxWorkers, &c.live, &c.rank, &c.due)
	return c, err
}

// PlanSpawns implements store.Store. Jobs are served in effective order, each up to what it wants, until the room is used up.
func (s *Store) PlanSpawns(ctx context.Context, p store.Plan) (planned []job.Spawn, err error) {
	perWorker := max(1, p.Concurrency) * tasksPerSlot
	err = s.write(ctx, func(ctx context.Context, t *tx) error {
		planned = nil
		var locked, live []int64
		ask(t, &locked, scanInt, lockPlanning)
		ask(t, &live, scanInt, countedOfBackend, p.Backend)
		t.clock()
		if err := t.flush(ctx); err != nil {
			return err
		}
		room := math.MaxInt
		if p.New > 0 {
			room = p.New
		}
		if p.Cap > 0 {
			room = min(room, p.Cap-int(live[0]))
		}
		wanted := make(map[int64]int) // spawns by job
		var order []candidate
		for after := (candidate{rank: math.MinInt64}); room > 0; {
			var page []candidate
			ask(t, &page, scanCandidate, candidates(p.AgeingInterval), t.now, after.rank, after.key, planPage, perWorker)
			if err := t.flush(ctx); err != nil {
				return err
			}
			if len(page) == 0 {
				break
			}
			for _, c := range page {
				n := min((c.due+perWorker-1)/perWorker, c.maxWorkers) - c.live
				if n = min(n, room); n > 0 {
					wanted[c.key], order = n, append(order, c)
					room -= n
				}
			}
			after = page[len(page)-1]
		}
		planned, err = t.insertSpawns(ctx, p, order, wanted)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("plan spawns: %w", err)
	}
	return planned, nil
}

// candidates asks for the jobs that have open tasks and fewer workers than they may have, in effective order.
// The usual interval has an index; another one has PostgreSQL sort the jobs.
func candidates(ageing time.Duration) string {
	rank := `rank`
	if interval := cmp.Or(max(ageing, 0), defaultAgeing); interval != defaultAgeing {
		rank = fmt.Sprintf(`(created_at - priority * %d)`, interval.Microseconds())
	}
	return `SELECT key, id, max_workers, living.n, ` + rank + `, (SELECT count(*) FROM (
			SELECT 1 FROM tasks WHERE job_key = key AND tasks.state = 'open' AND suspect = ANY('{f,t}') AND not_before <= $1 LIMIT max_workers * $5::bigint) AS due)
		FROM jobs, LATERAL (SELECT count(*) AS n FROM spawns WHERE job_id = jobs.id AND state <> 'ended') AS living
		WHERE grantable AND (deadline = 0 OR deadline > $1) AND (` + rank + `, key) > ($2::bigint, $3::bigint) AND living.n < max_workers ORDER BY ` + rank + `, key LIMIT $4`
}

// insertSpawns writes the rows of the jobs that still want them once they are locked.
func (t *tx) insertSpawns(ctx context.Context, p store.Plan, order []candidate, wanted map[int64]int) ([]job.Spawn, error) {
	const (
		lockGrantable = `SELECT key FROM jobs WHERE key = ANY($1) AND grantable ORDER BY key FOR NO KEY UPDATE`
		insertSpawns  = `INSERT INTO spawns (id, job_id, backend, state, concurrency, created_at)
			SELECT id, job_id, $1, 'pending', $2::bigint, $3::bigint FROM unnest($4::text[], $5::text[]) AS new (id, job_id)`
		insertEvents = `INSERT INTO events (job_key, at, kind, text, data)
			SELECT job_key, $1::bigint, $2, text, data FROM unnest($3::bigint[], $4::text[], $5::text[]) AS new (job_key, text, data)`
		countSpawns = `UPDATE jobs SET spawns = spawns + n, updated_at = $1 FROM unnest($2::bigint[], $3::bigint[]) AS new (key, n) WHERE jobs.key = new.key`
	)
	if len(order) == 0 {
		return nil, nil
	}
	keys := make([]int64, len(order))
	for i, c := range order {
		keys[i] = c.key
	}
	var locked []int64
	ask(t, &locked, scanInt, lockGrantable, keys)
	if err := t.flush(ctx); err != nil {
		return nil, err
	}
	var (
		spawns           []job.Spawn
		ids, jobs        []string
		eventKeys        []int64
		texts, data      []string
		counted, numbers []int64
	)
	for _, c := range order {
		if !slices.Contains(locked, c.key) { // it ended, or was paused, meanwhile
			continue
		}
		counted, numbers = append(counted, c.key), append(numbers, int64(wanted[c.key]))
		for range wanted[c.key] {
			s := job.Spawn{ID: job.NewSpawnID(), JobID: c.id, Backend: p.Backend, State: job.SpawnPending, Concurrency: p.Concurrency, CreatedAt: fromMicros(t.now)}
			spawns, ids, jobs, eventKeys = append(spawns, s), append(ids, string(s.ID)), append(jobs, string(c.id)), append(eventKeys, c.key)
			texts = append(texts, fmt.Sprintf("%s is to start on %s", s.Name(), s.Backend))
			data = append(data, facts(map[string]any{"spawn": s.ID, "backend": s.Backend}))
		}
	}
	if len(spawns) > 0 {
		t.exec(insertSpawns, p.Backend, p.Concurrency, t.now, ids, jobs)
		t.exec(insertEvents, t.now, job.EventSpawned, eventKeys, texts, data)
		t.exec(countSpawns, t.now, counted, numbers)
	}
	return spawns, nil
}

// SetWaiting implements store.Store. No jobs: all that the text can be said of, or that it was said of.
func (s *Store) SetWaiting(ctx context.Context, why string, jobs ...job.ID) error {
	const (
		idle        = `grantable AND NOT EXISTS (SELECT 1 FROM spawns WHERE job_id = jobs.id AND spawns.state <> 'ended')`
		lockIdle    = `SELECT key FROM jobs WHERE waiting <> $1 AND ` + idle + ` AND id = ANY($2) ORDER BY key FOR NO KEY UPDATE`
		lockAllIdle = `SELECT key FROM jobs WHERE waiting <> $1 AND ` + idle + ` ORDER BY key FOR NO KEY UPDATE`
		lockTold    = `SELECT key FROM jobs WHERE waiting <> '' AND id = ANY($1) ORDER BY key FOR NO KEY UPDATE`
		lockAllTold = `SELECT key FROM jobs WHERE waiting <> '' ORDER BY key FOR NO KEY UPDATE`
		say         = `UPDATE jobs SET waiting = $1, updated_at = $2 WHERE key = ANY($3)`
		tellWaiting = `INSERT INTO events (job_key, at, kind, text) SELECT key, $1::bigint, $2, $3 FROM unnest($4::bigint[]) AS key ORDER BY key`
	)
	ids := make([]string, len(jobs))
	for i, id := range jobs {
		ids[i] = string(id)
	}
	question, args, text := lockIdle, []any{why, ids}, why
	switch {
	case why == "" && len(jobs) == 0:
		question, args, text = lockAllTold, nil, "waits no longer"
	case why == "":
		question, args, text = lockTold, []any{ids}, "waits no longer"
	case len(jobs) == 0:
		question, args = lockAllIdle, []any{why}
	}
	err := s.write(ctx, func(ctx context.Context, t *tx) error {
		var keys []int64
		ask(t, &keys, scanInt, question, args...)
		t.clock()
		if err := t.flush(ctx); err != nil || len(keys) == 0 {
			return err
		}
		t.exec(say, why, t.now, keys)
		t.exec(tellWaiting, t.now, job.EventWaiting, text, keys)
		return nil
	})
	if err != nil {
		return fmt.Errorf("set waiting: %w", err)
	}
	return nil
}
