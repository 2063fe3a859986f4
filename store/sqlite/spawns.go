package sqlite

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"

	"gmaps-scraper/job"
	"gmaps-scraper/store"
)

const spawnColumns = `id, job_id, backend, external_id, state, outcome, reason, exit_code, log_tail, concurrency, nonce,
	created_at, started_at, joined_at, seen_at, ended_at, cost_usd, may_run_until`

func scanSpawn(r scanner) (job.Spawn, error) {
	var s job.Spawn
	var created, started, joined, seen, ended, mayRun int64
	err := r.Scan(&s.ID, &s.JobID, &s.Backend, &s.ExternalID, &s.State, &s.Outcome, &s.Reason, &s.ExitCode, &s.LogTail, &s.Concurrency, &s.Nonce,
		&created, &started, &joined, &seen, &ended, &s.CostUSD, &mayRun)
	s.CreatedAt, s.StartedAt, s.JoinedAt, s.SeenAt, s.EndedAt = fromMicros(created), fromMicros(started), fromMicros(joined), fromMicros(seen), fromMicros(ended)
	s.MayRunUntil = fromMicros(mayRun)
	return s, err
}

const spawnByID = `SELECT ` + spawnColumns + ` FROM spawns WHERE id = ?`

// Spawn implements store.Store.
func (s *Store) Spawn(ctx context.Context, id job.SpawnID) (spawn job.Spawn, err error) {
	err = s.read(ctx, func(q querier) error {
		spawn, err = scanSpawn(q.QueryRowContext(ctx, spawnByID, id))
		if errors.Is(err, sql.ErrNoRows) {
			return store.ErrNotFound
		}
		return err
	})
	if err != nil {
		return job.Spawn{}, fmt.Errorf("spawn %s: %w", id, err)
	}
	return spawn, nil
}

const defaultSpawns = 100

// Spawns implements store.Store.
func (s *Store) Spawns(ctx context.Context, f store.SpawnFilter) (spawns []job.Spawn, err error) {
	where, args := []string{`true`}, []any(nil)
	add := func(condition string, arg ...any) { where, args = append(where, condition), append(args, arg...) }
	if f.JobID != "" {
		add(`job_id = ?`, f.JobID)
	}
	if f.Backend != "" {
		add(`backend = ?`, f.Backend)
	}
	if f.Live {
		add(`state <> 'ended'`)
	}
	if f.Counted {
		add(`(state <> 'ended' OR may_run_until > ?)`, s.now().UnixMicro())
	}
	if !f.EndedSince.IsZero() {
		add(`ended_at > 0 AND ended_at >= ?`, micros(f.EndedSince))
	}
	if f.Before != "" {
		add(`id < ?`, f.Before)
	}
	question := `SELECT ` + spawnColumns + ` FROM spawns WHERE ` + strings.Join(where, ` AND `) + ` ORDER BY id DESC LIMIT ?`
	err = s.read(ctx, func(q querier) error {
		spawns, err = collect(ctx, q, scanSpawn, question, append(args, cmp.Or(max(f.Limit, 0), defaultSpawns))...)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("list spawns: %w", err)
	}
	return spawns, nil
}

// JoinStanding implements store.Store. A nonce whose spawn has ended gets another spawn.
func (s *Store) JoinStanding(ctx context.Context, nonce string, concurrency int) (spawn job.Spawn, err error) {
	const (
		standingSpawn  = `SELECT ` + spawnColumns + ` FROM spawns WHERE nonce = ? AND backend = 'none' AND state <> 'ended'`
		insertStanding = `INSERT INTO spawns (id, job_id, backend, state, concurrency, nonce, created_at, started_at, joined_at, seen_at)
			VALUES (?1, '', 'none', 'running', ?2, ?3, ?4, ?4, ?4, ?4)`
		seenSpawn = `UPDATE spawns SET seen_at = ? WHERE id = ?`
	)
	err = s.write(ctx, func(ctx context.Context, t *tx) error {
		spawn, err = scanSpawn(t.QueryRowContext(ctx, standingSpawn, nonce))
		if err == nil {
			spawn.SeenAt = fromMicros(t.now)
			_, err = t.exec(ctx, seenSpawn, t.now, spawn.ID)
			return err
		}
		if !errors.Is(err, sql.ErrNoRows) {
			return err
		}
		id := job.NewSpawnID()
		if _, err := t.exec(ctx, insertStanding, id, concurrency, nonce, t.now); err != nil {
			return err
		}
		spawn, err = scanSpawn(t.QueryRowContext(ctx, spawnByID, id))
		return err
	})
	if err != nil {
		return job.Spawn{}, fmt.Errorf("join a standing worker: %w", err)
	}
	return spawn, nil
}

// Join implements store.Store.
func (s *Store) Join(ctx context.Context, id job.SpawnID, nonce string) (spawn job.Spawn, err error) {
	const joinSpawn = `UPDATE spawns SET nonce = ?1, joined_at = iif(joined_at = 0, ?2, joined_at), seen_at = ?2,
		state = iif(state IN ('pending', 'started'), 'running', state) WHERE id = ?3`
	err = s.changeSpawn(ctx, "join", id, func(ctx context.Context, t *tx, row job.Spawn) error {
		switch {
		case !row.Live():
			return store.ErrUnknownSpawn
		case !row.JoinedAt.IsZero() && row.Nonce != nonce:
			return store.ErrSpawnTaken
		}
		if _, err := t.exec(ctx, joinSpawn, nonce, t.now, id); err != nil {
			return err
		}
		spawn, err = scanSpawn(t.QueryRowContext(ctx, spawnByID, id))
		return err
	})
	return spawn, err
}

// Touch implements store.Store.
func (s *Store) Touch(ctx context.Context, id job.SpawnID) error {
	const touchSpawn = `UPDATE spawns SET seen_at = ? WHERE id = ?`
	return s.changeSpawn(ctx, "touch", id, func(ctx context.Context, t *tx, row job.Spawn) error {
		if !row.Live() {
			return store.ErrUnknownSpawn
		}
		_, err := t.exec(ctx, touchSpawn, t.now, id)
		return err
	})
}

// SpawnStarted implements store.Store. The external id and the time are kept also when the worker spoke first:
// only the state of a row that has moved on is left as it is.
func (s *Store) SpawnStarted(ctx context.Context, id job.SpawnID, externalID string) error {
	const startSpawn = `UPDATE spawns SET external_id = ?, started_at = iif(started_at = 0, ?, started_at), state = iif(state = 'pending', 'started', state) WHERE id = ?`
	return s.changeSpawn(ctx, "start", id, func(ctx context.Context, t *tx, row job.Spawn) error {
		if !row.Live() || row.ExternalID != "" {
			return nil
		}
		_, err := t.exec(ctx, startSpawn, externalID, t.now, id)
		return err
	})
}

// SpawnStopping implements store.Store. The reason given first stays.
func (s *Store) SpawnStopping(ctx context.Context, id job.SpawnID, reason string) error {
	const stopSpawn = `UPDATE spawns SET state = 'stopping', reason = ? WHERE id = ?`
	return s.changeSpawn(ctx, "stop", id, func(ctx context.Context, t *tx, row job.Spawn) error {
		if !row.Live() || row.State == job.SpawnStopping {
			return nil
		}
		_, err := t.exec(ctx, stopSpawn, reason, id)
		return err
	})
}

const leasesOfSpawn = `SELECT fence FROM leases WHERE spawn_id = ? AND ended_at = 0 ORDER BY fence`

// SpawnEnded implements store.Store. An empty Reason keeps the one it was stopped for.
func (s *Store) SpawnEnded(ctx context.Context, id job.SpawnID, e store.SpawnEnd) error {
	const (
		endSpawn = `UPDATE spawns SET state = 'ended', outcome = ?, reason = coalesce(nullif(?, ''), reason), exit_code = ?, log_tail = ?, cost_usd = ?, may_run_until = ?, ended_at = ? WHERE id = ?`
		seenEnd  = `UPDATE spawns SET may_run_until = 0 WHERE id = ?`
		addCost  = `UPDATE jobs SET cost_usd = cost_usd + ? WHERE id = ?`
		countEnd = `INSERT INTO outcomes (outcome, failure, n) VALUES (?, ?, 1) ON CONFLICT (outcome, failure) DO UPDATE SET n = n + 1`
	)
	return s.changeSpawn(ctx, "end", id, func(ctx context.Context, t *tx, row job.Spawn) error {
		if !row.Live() {
			if !row.MayRunUntil.IsZero() && e.MayRunUntil.IsZero() {
				_, err := t.exec(ctx, seenEnd, id)
				return err
			}
			return nil
		}
		if _, err := t.exec(ctx, endSpawn, e.Outcome, e.Reason, e.ExitCode, e.LogTail, e.CostUSD, micros(e.MayRunUntil), t.now, id); err != nil {
			return err
		}
		if e.CostUSD > 0 {
			if _, err := t.exec(ctx, addCost, e.CostUSD, row.JobID); err != nil {
				return err
			}
		}
		if _, err := t.exec(ctx, countEnd, e.Outcome, e.Failure()); err != nil {
			return err
		}
		if err := t.spawnEvent(ctx, row, e); err != nil {
			return err
		}
		fences, err := collect(ctx, t, scanInt, leasesOfSpawn, id)
		if err != nil {
			return err
		}
		for _, f := range fences {
			if err := t.endOfSpawn(ctx, job.Fence(f), e.GaveBack); err != nil {
				return err
			}
		}
		return nil
	})
}

func (t *tx) endOfSpawn(ctx context.Context, f job.Fence, gaveBack bool) error {
	if !gaveBack {
		return t.lose(ctx, f, "the end")
	}
	l, err := t.leaseRow(ctx, f)
	if err != nil {
		return err
	}
	return t.giveBack(ctx, &l)
}

// spawnEvent writes the end of a worker to its job's timeline, if it had a job that is still there.
func (t *tx) spawnEvent(ctx context.Context, row job.Spawn, e store.SpawnEnd) error {
	if row.JobID == "" {
		return nil
	}
	key, err := jobKey(ctx, t, row.JobID)
	if errors.Is(err, store.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	kind, text, facts := e.Event(row)
	return t.event(ctx, key, kind, text, facts)
}

// changeSpawn runs do on the row of a spawn. ErrUnknownSpawn: there is none.
func (s *Store) changeSpawn(ctx context.Context, verb string, id job.SpawnID, do func(ctx context.Context, t *tx, row job.Spawn) error) error {
	err := s.write(ctx, func(ctx context.Context, t *tx) error {
		row, err := scanSpawn(t.QueryRowContext(ctx, spawnByID, id))
		if errors.Is(err, sql.ErrNoRows) {
			return store.ErrUnknownSpawn
		}
		if err != nil {
			return err
		}
		return do(ctx, t, row)
	})
	if err != nil {
		return fmt.Errorf("%s spawn %s: %w", verb, id, err)
	}
	return nil
}
