package manager

import (
	"context"
	"errors"
	"fmt"
	"time"

	"gmaps-scraper/api"
	"gmaps-scraper/job"
	"gmaps-scraper/spawner"
	"gmaps-scraper/store"
)

// Of a backend that can neither list nor stop its workers, three things tell that one has ended: its own goodbye, what the backend has seen
// itself (the answer of a call that it held), and, without either, the end of the time for which the backend lets a worker run.

// seenEnds returns the workers of rows whose end the backend has seen.
func (r *reconciler) seenEnds(ctx context.Context, rows []job.Spawn) []spawner.Worker {
	var ended []spawner.Worker
	for _, row := range rows {
		if r.sawEnd(ctx, row) {
			ended = append(ended, spawner.Worker{ID: unlistedID(row), Name: row.Name(), SpawnID: string(row.ID), JobID: string(row.JobID)})
		}
	}
	return ended
}

// sawEnd reports whether the backend has seen the end of a row's worker.
func (r *reconciler) sawEnd(ctx context.Context, row job.Spawn) bool {
	exit, err := r.spawner.Collect(ctx, unlistedID(row))
	return err == nil && !exit.EndedAt.IsZero()
}

// unlistedID is what the backend calls the worker of a row. Until its start is recorded that is the name it was asked for under, if anything.
func unlistedID(row job.Spawn) spawner.ID {
	if row.ExternalID != "" {
		return spawner.ID(row.ExternalID)
	}
	return spawner.ID(row.Name())
}

// mayRun is until when the worker of a row may still run although nobody hears of it; zero if the backend can tell. It counts against the
// cap until then. The row's times are the database's, which compares them with its own clock.
func (r *reconciler) mayRun(row job.Spawn) time.Time {
	l := r.spawner.Limits()
	switch {
	case l.Lifetime == 0:
		return time.Time{}
	case !row.JoinedAt.IsZero():
		return row.JoinedAt.Add(l.Lifetime) // it began before it joined
	case !row.StartedAt.IsZero():
		return row.StartedAt.Add(r.joinDeadline()) // one that cannot join ends by itself, and one that was not begun by then never is
	}
	return time.Time{}
}

// goodbye is how the spawn of a worker ends that says so. tells: its backend is going to tell of the end.
func (r *reconciler) goodbye(ctx context.Context, row job.Spawn, l api.Leave) (end store.SpawnEnd, tells bool) {
	code := l.ExitCode
	end = store.SpawnEnd{Outcome: job.Exited, ExitCode: &code, Reason: l.Reason, GaveBack: code == 0}
	if row.State == job.SpawnStopping {
		end.Outcome, end.GaveBack = job.Stopped, true
	}
	if r.spawner == nil || row.Backend != r.backend {
		return end, false
	}
	limits := r.spawner.Limits()
	if limits.Lifetime == 0 {
		return end, true // it is listed
	}
	exit, err := r.spawner.Collect(ctx, unlistedID(row))
	if refused, ok := errors.AsType[*spawner.Error](err); ok && refused.Retry && !r.follows() {
		return end, true // it is watched
	}
	if err == nil {
		end.LogTail = exit.LogTail
	}
	end.CostUSD = limits.USDPerSecond * min(max(time.Duration(l.Ran), 0), limits.Lifetime).Seconds()
	return end, false
}

// settle drops the watches of spawns that are no longer live, and tells the breaker of those that ended between two looks.
func (r *reconciler) settle(ctx context.Context, live []job.Spawn) error {
	if r.spawner == nil || r.spawner.Limits().Lifetime == 0 {
		r.forget(live)
		return nil
	}
	ids := make(map[job.SpawnID]bool, len(live))
	for _, row := range live {
		ids[row.ID] = true
	}
	for id, w := range r.watches {
		if ids[id] || w.worked {
			continue
		}
		row, err := r.store.Spawn(ctx, id)
		if errors.Is(err, store.ErrNotFound) {
			continue
		}
		if err != nil {
			return fmt.Errorf("read spawn %s: %w", id, err)
		}
		switch {
		case row.Backend != r.backend:
		case askedForWork(row):
			r.proved(w.generation)
		case row.Outcome == job.Exited && row.ExitCode != nil && *row.ExitCode != 0 && w.generation == r.breaker.current():
			r.failed(ctx, w.generation, "exit", row.Reason)
		}
	}
	r.forget(live)
	return nil
}

// follows says that another Manager of the store reconciles: what this one's backend sees is recorded by nobody.
func (r *reconciler) follows() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.status.Following
}

// counted is how many spawns of the backend count against the cap, besides the live ones those that may still run. A worker that was
// given up, and whose end the backend has seen since, frees its place.
func (r *reconciler) counted(ctx context.Context, live int) (int, error) {
	if r.spawner.Limits().Lifetime == 0 {
		return live, nil
	}
	rows, err := r.find(ctx, store.SpawnFilter{Backend: r.backend, Counted: true})
	if err != nil {
		return 0, err
	}
	n := len(rows)
	for _, row := range rows {
		if row.Live() || !r.sawEnd(ctx, row) {
			continue
		}
		if err := r.store.SpawnEnded(ctx, row.ID, store.SpawnEnd{Outcome: row.Outcome}); err != nil && !errors.Is(err, store.ErrUnknownSpawn) {
			return 0, fmt.Errorf("free the place of %s: %w", row.Name(), err)
		}
		n--
	}
	return n, nil
}
