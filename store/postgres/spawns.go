package postgres

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"gmaps-scraper/job"
	"gmaps-scraper/store"
)

const spawnColumns = `spawns.id, spawns.job_id, spawns.backend, spawns.external_id, spawns.state, spawns.outcome, spawns.reason, spawns.exit_code,
	spawns.log_tail, spawns.concurrency, spawns.nonce, spawns.created_at, spawns.started_at, spawns.joined_at, spawns.seen_at, spawns.ended_at, spawns.cost_usd, spawns.may_run_until`

func scanSpawn(r scanner) (job.Spawn, error) {
	var s job.Spawn
	var created, started, joined, seen, ended, mayRun int64
	err := r.Scan(&s.ID, &s.JobID, &s.Backend, &s.ExternalID, &s.State, &s.Outcome, &s.Reason, &s.ExitCode, &s.LogTail, &s.Concurrency, &s.Nonce,
		&created, &started, &joined, &seen, &ended, &s.CostUSD, &mayRun)
	s.CreatedAt, s.StartedAt, s.JoinedAt, s.SeenAt, s.EndedAt = fromMicros(created), fromMicros(started), fromMicros(joined), fromMicros(seen), fromMicros(ended)
	s.MayRunUntil = fromMicros(mayRun)
	return s, err
}

const spawnByID = `SELECT ` + spawnColumns + ` FROM spawns WHERE id = $1`

// Spawn implements store.Store.
func (s *Store) Spawn(ctx context.Context, id job.SpawnID) (job.Spawn, error) {
	var found []job.Spawn
	err := s.read(ctx, func(r *reading) { read(r, &found, scanSpawn, spawnByID, id) })
	if err == nil && len(found) == 0 {
		err = store.ErrNotFound
	}
	if err != nil {
		return job.Spawn{}, fmt.Errorf("spawn %s: %w", id, err)
	}
	return found[0], nil
}

const defaultSpawns = 100

// Spawns implements store.Store.
func (s *Store) Spawns(ctx context.Context, f store.SpawnFilter) (spawns []job.Spawn, err error) {
	w := where{conditions: []string{`true`}}
	if f.JobID != "" {
		w.add(`job_id = %s`, f.JobID)
	}
	if f.Backend != "" {
		w.add(`backend = %s`, f.Backend)
	}
	if f.Live {
		w.conditions = append(w.conditions, `state <> 'ended'`)
	}
	if f.Counted {
		w.conditions = append(w.conditions, `(state <> 'ended' OR may_run_until > (SELECT gmaps_now()))`)
	}
	if !f.EndedSince.IsZero() {
		w.add(`ended_at > 0 AND ended_at >= %s`, micros(f.EndedSince))
	}
	if f.Before != "" {
		w.add(`id < %s`, f.Before)
	}
	question, args := w.question(`SELECT `+spawnColumns+` FROM spawns`, `ORDER BY id DESC`, cmp.Or(max(f.Limit, 0), defaultSpawns))
	err = s.read(ctx, func(r *reading) { read(r, &spawns, scanSpawn, question, args...) })
	if err != nil {
		return nil, fmt.Errorf("list spawns: %w", err)
	}
	return spawns, nil
}

// JoinStanding implements store.Store. A nonce whose spawn has ended gets another spawn.
func (s *Store) JoinStanding(ctx context.Context, nonce string, concurrency int) (job.Spawn, error) {
	const joinStanding = `WITH clock AS MATERIALIZED (SELECT gmaps_now() AS now)
		INSERT INTO spawns (id, job_id, backend, state, concurrency, nonce, created_at, started_at, joined_at, seen_at)
		SELECT $1, '', 'none', 'running', $2::bigint, $3, now, now, now, now FROM clock
		ON CONFLICT (nonce) WHERE backend = 'none' AND state <> 'ended' DO UPDATE SET seen_at = excluded.seen_at RETURNING ` + spawnColumns
	var spawn []job.Spawn
	err := s.single(ctx, func(r *reading) { read(r, &spawn, scanSpawn, joinStanding, job.NewSpawnID(), concurrency, nonce) })
	if err != nil {
		return job.Spawn{}, fmt.Errorf("join a standing worker: %w", err)
	}
	return spawn[0], nil
}

// Join implements store.Store.
func (s *Store) Join(ctx context.Context, id job.SpawnID, nonce string) (spawn job.Spawn, err error) {
	const joinSpawn = `UPDATE spawns SET nonce = $1, joined_at = CASE joined_at WHEN 0 THEN $2 ELSE joined_at END, seen_at = $2,
		state = CASE WHEN state IN ('pending', 'started') THEN 'running' ELSE state END WHERE id = $3 RETURNING ` + spawnColumns
	var joined []job.Spawn
	err = s.changeSpawn(ctx, "join", id, func(_ context.Context, t *tx, row job.Spawn) error {
		switch {
		case !row.Live():
			return store.ErrUnknownSpawn
		case !row.JoinedAt.IsZero() && row.Nonce != soundText(nonce):
			return store.ErrSpawnTaken
		}
		ask(t, &joined, scanSpawn, joinSpawn, nonce, t.now, id)
		return nil
	})
	if err != nil {
		return job.Spawn{}, err
	}
	return joined[0], nil
}

// Touch implements store.Store.
func (s *Store) Touch(ctx context.Context, id job.SpawnID) error {
	const touchSpawn = `UPDATE spawns SET seen_at = gmaps_now() WHERE id = $1 AND state <> 'ended' RETURNING seen_at`
	var seen []int64
	err := s.single(ctx, func(r *reading) { read(r, &seen, scanInt, touchSpawn, id) })
	if err == nil && len(seen) == 0 {
		err = store.ErrUnknownSpawn
	}
	if err != nil {
		return fmt.Errorf("touch spawn %s: %w", id, err)
	}
	return nil
}

// SpawnStarted implements store.Store. The external id and the time are kept also when the worker spoke first:
// only the state of a row that has moved on is left as it is.
func (s *Store) SpawnStarted(ctx context.Context, id job.SpawnID, externalID string) error {
	const startSpawn = `UPDATE spawns SET external_id = $1, started_at = CASE started_at WHEN 0 THEN $2 ELSE started_at END,
		state = CASE state WHEN 'pending' THEN 'started' ELSE state END WHERE id = $3`
	return s.changeSpawn(ctx, "start", id, func(_ context.Context, t *tx, row job.Spawn) error {
		if row.Live() && row.ExternalID == "" {
			t.exec(startSpawn, externalID, t.now, id)
		}
		return nil
	})
}

// SpawnStopping implements store.Store. The reason given first stays.
func (s *Store) SpawnStopping(ctx context.Context, id job.SpawnID, reason string) error {
	const stopSpawn = `UPDATE spawns SET state = 'stopping', reason = $1 WHERE id = $2`
	return s.changeSpawn(ctx, "stop", id, func(_ context.Context, t *tx, row job.Spawn) error {
		if row.Live() && row.State != job.SpawnStopping {
			t.exec(stopSpawn, reason, id)
		}
		return nil
	})
}

const leasesOfSpawn = `SELECT job_key, fence FROM leases WHERE spawn_id = $1 AND ended_at = 0 ORDER BY job_key, fence`

// SpawnEnded implements store.Store. An empty Reason keeps the one it was stopped for.
func (s *Store) SpawnEnded(ctx context.Context, id job.SpawnID, e store.SpawnEnd) error {
	const (
		endSpawn = `UPDATE spawns SET state = 'ended', outcome = $1, reason = coalesce(nullif($2, ''), reason), exit_code = $3, log_tail = $4, cost_usd = $5,
			ended_at = $6, may_run_until = $7 WHERE id = $8`
		seenEnd   = `UPDATE spawns SET may_run_until = 0 WHERE id = $1`
		addCost   = `UPDATE jobs SET cost_usd = cost_usd + $1 WHERE key = $2`
		countEnd  = `INSERT INTO outcomes AS o (outcome, failure, n) VALUES ($1, $2, 1) ON CONFLICT (outcome, failure) DO UPDATE SET n = o.n + 1`
		lockOwner = `SELECT key FROM jobs WHERE id = $1 OR key = ANY($2) ORDER BY key FOR NO KEY UPDATE`
	)
	return s.changeSpawn(ctx, "end", id, func(ctx context.Context, t *tx, row job.Spawn) error {
		if !row.Live() {
			if !row.MayRunUntil.IsZero() && e.MayRunUntil.IsZero() {
				t.exec(seenEnd, id)
			}
			return nil
		}
		t.exec(endSpawn, e.Outcome, e.Reason, e.ExitCode, e.LogTail, e.CostUSD, t.now, micros(e.MayRunUntil), id)
		var held []lost
		ask(t, &held, scanLost, leasesOfSpawn, id)
		if err := t.flush(ctx); err != nil {
			return err
		}
		// All jobs that this touches, in order: that of the spawn for its event, and those of its leases.
		var locked, own []int64
		ask(t, &locked, scanInt, lockOwner, row.JobID, keysOf(held))
		ask(t, &own, scanInt, keyOfJob, row.JobID)
		if err := t.flush(ctx); err != nil {
			return err
		}
		if len(own) > 0 {
			t.spawnEvent(own[0], row, e)
			if e.CostUSD > 0 {
				t.exec(addCost, e.CostUSD, own[0])
			}
		}
		for _, h := range held {
			if err := t.endOfSpawn(ctx, job.Fence(h.fence), e.GaveBack); err != nil {
				return err
			}
		}
		t.exec(countEnd, e.Outcome, e.Failure()) // last: others that count this outcome wait for the commit
		return nil
	})
}

func keysOf(leases []lost) []int64 {
	keys := make([]int64, len(leases))
	for i, l := range leases {
		keys[i] = l.key
	}
	return slices.Compact(keys)
}

// endOfSpawn ends one of a spawn's leases, unless it has ended since it was looked up.
func (t *tx) endOfSpawn(ctx context.Context, f job.Fence, gaveBack bool) error {
	now := t.now
	l, err := t.leaseRow(ctx, f)
	t.now = now // one time for all that a transaction does
	if errors.Is(err, store.ErrStaleFence) || err == nil && l.ended != 0 {
		return nil
	}
	if err != nil {
		return err
	}
	if gaveBack {
		return t.giveBack(ctx, &l)
	}
	return t.lose(ctx, &l, "the end")
}

// spawnEvent writes the end of a worker to its job's timeline.
func (t *tx) spawnEvent(key int64, row job.Spawn, e store.SpawnEnd) {
	kind, text, facts := e.Event(row)
	t.event(key, kind, text, facts)
}

// changeSpawn runs do on the row of a spawn, which is locked. ErrUnknownSpawn: there is none.
func (s *Store) changeSpawn(ctx context.Context, verb string, id job.SpawnID, do func(ctx context.Context, t *tx, row job.Spawn) error) error {
	const lockSpawn = spawnByID + ` FOR NO KEY UPDATE`
	err := s.write(ctx, func(ctx context.Context, t *tx) error {
		var row []job.Spawn
		ask(t, &row, scanSpawn, lockSpawn, id)
		t.clock()
		if err := t.flush(ctx); err != nil {
			return err
		}
		if len(row) == 0 {
			return store.ErrUnknownSpawn
		}
		return do(ctx, t, row[0])
	})
	if err != nil {
		return fmt.Errorf("%s spawn %s: %w", verb, id, err)
	}
	return nil
}
