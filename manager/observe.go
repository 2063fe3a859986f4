package manager

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"gmaps-scraper/job"
	"gmaps-scraper/spawner"
	"gmaps-scraper/store"
)

// lingering is how long a worker whose job is over may take to notice by itself: a heartbeat.
const lingering = 10 * time.Second

// handingBack is how long a worker that the backend knows no more may still be at it: whoever removed it from outside, a service or a
// container that it stops first, gave it this time to hand back its tasks, uncharged.
func (r *reconciler) handingBack() time.Duration { return stopGrace + r.cfg.Interval }

// maxCollects is how often the evidence of an ended worker is asked for before its spawn is ended without.
const maxCollects = 5

// sightings is what this Manager has seen itself, by its own clock. Deadlines run from here and not from the rows' times, so
// that neither the database's clock nor an absence of ours is held against a worker. Lost with the process, to nobody's harm.
type sightings struct {
	watches   map[job.SpawnID]*watch
	strangers map[spawner.ID]time.Time // workers without a live row, since
}

// watch is how one spawn looks.
type watch struct {
	state  job.SpawnState
	seenAt time.Time // the row's, to notice that it moves
	since  time.Time // of no change in these two

	missing    time.Time // since when the backend lacks it; zero: it has it
	over       time.Time // since when its job needs it no more; zero: it does
	generation int       // the breaker's when it began
	worked     bool
	collects   int
	ended      bool            // the backend has seen its end
	verdict    *store.SpawnEnd // with which we began to stop it
}

func newSightings() sightings {
	return sightings{watches: make(map[job.SpawnID]*watch), strangers: make(map[spawner.ID]time.Time)}
}

// watch returns what was seen of a row, brought up to now.
func (r *reconciler) watch(row job.Spawn, now time.Time) *watch {
	w := r.watches[row.ID]
	if w == nil {
		// One that has asked for work before we looked proves nothing about starts of today.
		w = &watch{generation: r.breaker.current(), worked: askedForWork(row), state: row.State, seenAt: row.SeenAt, since: now}
		r.watches[row.ID] = w
	}
	if w.state != row.State || !w.seenAt.Equal(row.SeenAt) {
		w.state, w.seenAt, w.since, w.missing = row.State, row.SeenAt, now, time.Time{}
	}
	if !w.worked && askedForWork(row) {
		w.worked = true
		r.proved(w.generation)
	}
	return w
}

// askedForWork reports whether the worker has spoken since it joined. To join is not enough: one that ends before its first lease charges
// no task with an attempt, so nothing but the breaker would ever stop its like from being started. Times are compared for being the same,
// since a clock may be set back between them.
func askedForWork(row job.Spawn) bool {
	return !row.JoinedAt.IsZero() && !row.SeenAt.Equal(row.JoinedAt)
}

// forget drops the watches of spawns that are no longer live.
func (r *reconciler) forget(live []job.Spawn) {
	ids := make(map[job.SpawnID]bool, len(live))
	for _, row := range live {
		ids[row.ID] = true
	}
	for id := range r.watches {
		if !ids[id] {
			delete(r.watches, id)
		}
	}
}

// silence is how long a worker that has spoken may say nothing: three leases, and never less than two long polls.
func (r *reconciler) silence() time.Duration { return max(3*r.cfg.LeaseTTL, time.Minute) }

// joinDeadline is how long a started worker may take to speak.
func (r *reconciler) joinDeadline() time.Duration {
	if d := r.spawner.Limits().JoinDeadline; d > 0 {
		return d
	}
	return time.Minute
}

// look is what a tick sees of the backend.
type look struct {
	workers []spawner.Worker
	listed  bool                // false: the backend cannot list; rows and leases must do
	busy    map[string]struct{} // what was under way before the look
}

func (l look) isBusy(key string) bool { _, ok := l.busy[key]; return ok }

// observe compares rows and workers and begins what follows from it. It returns the rows that are live still.
func (r *reconciler) observe(ctx context.Context, now time.Time, rows []job.Spawn, l look) ([]job.Spawn, error) {
	own, strangers := pair(rows, l.workers)
	r.reapStrangers(ctx, now, strangers, l)
	over, err := r.overJobs(ctx, rows)
	if err != nil {
		return nil, err
	}
	var live []job.Spawn
	for _, row := range rows {
		w, there := own[row.ID]
		seen := r.watch(row, now)
		switch {
		case there:
			seen.missing = time.Time{}
		case l.listed && seen.missing.IsZero():
			seen.missing = now
		}
		switch {
		case over[row.JobID] == "":
			seen.over = time.Time{}
		case seen.over.IsZero():
			seen.over = now
		}

		if there && row.State == job.SpawnPending { // we, or the one before us, died or hang between create and record
			if err := r.store.SpawnStarted(ctx, row.ID, string(w.ID)); err != nil {
				return nil, fmt.Errorf("adopt spawn %s: %w", row.ID, err)
			}
			r.metrics.adopted.Inc()
			r.log.InfoContext(ctx, "worker adopted", "spawn", row.ID, "job", row.JobID)
			row.State = job.SpawnStarted
		}
		if l.isBusy(endKey(row.ID)) {
			live = append(live, row)
			continue
		}
		end, stop := r.verdict(now, row, seen, there && w.Running, over[row.JobID])
		switch {
		case there && !w.Running:
			seen.collects++
			r.bury(ctx, row, w, *seen)
		case stop && there:
			r.retire(ctx, row, w, end)
		case stop && l.isBusy(createKey(row.ID)):
			// What the create brings is stopped when it is listed.
		case stop && !l.listed && row.State == job.SpawnStopping && now.Sub(seen.since) < r.silence():
			// Told already; only its silence can say that it has ended.
		case stop && !l.listed && row.ExternalID != "":
			r.retire(ctx, row, spawner.Worker{ID: spawner.ID(row.ExternalID)}, end)
		case stop:
			if err := r.record(ctx, row, *seen, end); err != nil {
				return nil, err
			}
			continue
		}
		live = append(live, row)
	}
	return live, nil
}

// verdict says whether a spawn must come to its end, and how that is recorded.
func (r *reconciler) verdict(now time.Time, row job.Spawn, seen *watch, running bool, over string) (end store.SpawnEnd, stop bool) {
	still := now.Sub(seen.since)
	urgent := over == string(job.Cancelled) || over == string(job.Paused)
	switch {
	case over != "" && (urgent || row.State == job.SpawnPending || now.Sub(seen.over) >= lingering):
		return store.SpawnEnd{Outcome: job.Stopped, Reason: "its job is " + over, GaveBack: true}, true
	case row.State == job.SpawnStopping && seen.verdict != nil && (running || !seen.missing.IsZero() && now.Sub(seen.missing) >= r.cfg.Interval):
		return *seen.verdict, true
	case row.State == job.SpawnStopping && (running || !seen.missing.IsZero() && now.Sub(seen.missing) >= r.cfg.Interval):
		return store.SpawnEnd{Outcome: job.Stopped, Reason: row.Reason, GaveBack: true}, true
	case row.State == job.SpawnPending:
		return store.SpawnEnd{}, false // to be created, again if need be
	case !seen.missing.IsZero() && now.Sub(seen.missing) >= r.handingBack(): // and never at first sight: the backend may be restarting
		return store.SpawnEnd{Outcome: job.Vanished, Reason: "the backend " + r.backend + " no longer knows the worker: removed from outside?"}, true
	case row.State == job.SpawnStarted && still >= r.joinDeadline():
		return store.SpawnEnd{Outcome: job.NeverLeased, Reason: fmt.Sprintf("did not speak within %v: can it reach the Manager%s? set -spawner-manager-url", r.joinDeadline(), r.toldURL())}, true
	case still >= r.silence():
		return store.SpawnEnd{Outcome: job.Silent, Reason: fmt.Sprintf("has not spoken for %v", r.silence())}, true
	}
	return store.SpawnEnd{}, false
}

// toldURL is where the workers of today look for this Manager, in the words of a sentence.
func (r *reconciler) toldURL() string {
	if url := r.reached.Load(); url != nil {
		return " at " + *url
	}
	return ""
}

// pair finds the worker of each row. What is left has no live row, or is a second worker of one.
func pair(rows []job.Spawn, workers []spawner.Worker) (own map[job.SpawnID]spawner.Worker, strangers []spawner.Worker) {
	live := make(map[job.SpawnID]job.Spawn, len(rows))
	for _, row := range rows {
		live[row.ID] = row
	}
	own = make(map[job.SpawnID]spawner.Worker, len(rows))
	for _, w := range workers {
		id := job.SpawnID(w.SpawnID)
		if id == "" {
			id = job.SpawnID(strings.TrimPrefix(w.Name, job.Spawn{}.Name()))
		}
		row, known := live[id]
		if !known {
			strangers = append(strangers, w)
			continue
		}
		first, twice := own[id]
		switch {
		case !twice:
			own[id] = w
		case row.ExternalID == string(w.ID) || row.ExternalID != string(first.ID) && w.Running && !first.Running:
			own[id] = w
			strangers = append(strangers, first)
		default:
			strangers = append(strangers, w)
		}
	}
	return own, strangers
}

// reapStrangers stops and removes workers that nothing refers to, at the second sighting. Ended ones are somebody's evidence
// if AutoRemove is off.
func (r *reconciler) reapStrangers(ctx context.Context, now time.Time, strangers []spawner.Worker, l look) {
	before := r.strangers
	r.strangers = make(map[spawner.ID]time.Time, len(strangers))
	for _, w := range strangers {
		since, again := before[w.ID]
		if !again {
			since = now
		}
		r.strangers[w.ID] = since
		if !again || now.Sub(since) < r.cfg.Interval || l.isBusy(reapKey(w.ID)) || !w.Running && !r.cfg.AutoRemove {
			continue
		}
		r.do(ctx, reapKey(w.ID), func(ctx context.Context) error {
			ctx, cancel := context.WithTimeout(ctx, endDeadline)
			defer cancel()
			if err := r.spawner.Stop(ctx, w.ID, stopGrace); err != nil {
				return fmt.Errorf("stop stray worker %s: %w", w.Name, err)
			}
			r.metrics.reaped.Inc()
			r.log.InfoContext(ctx, "stray worker reaped", "worker", w.Name)
			return r.remove(ctx, w)
		})
	}
}

// overJobs says of the jobs of rows that need no worker why: paused, or a terminal state, or deleted.
func (r *reconciler) overJobs(ctx context.Context, rows []job.Spawn) (map[job.ID]string, error) {
	over := make(map[job.ID]string)
	for _, row := range rows {
		if row.JobID != "" {
			over[row.JobID] = "deleted"
		}
	}
	if len(over) == 0 {
		return over, nil
	}
	states, err := r.store.JobStates(ctx, slices.Collect(maps.Keys(over))...)
	if err != nil {
		return nil, fmt.Errorf("read jobs of spawns: %w", err)
	}
	for id, state := range states {
		over[id] = ""
		if state == job.Paused || state.Terminal() {
			over[id] = string(state)
		}
	}
	return over, nil
}

// endSilent ends the spawns of workers that this Manager cannot see and that speak no more.
func (r *reconciler) endSilent(ctx context.Context, now time.Time, rows []job.Spawn) error {
	for _, row := range rows {
		if now.Sub(r.watch(row, now).since) < r.silence() {
			continue
		}
		end := store.SpawnEnd{Outcome: job.Silent, Reason: fmt.Sprintf("has not spoken for %v", r.silence())}
		if err := r.store.SpawnEnded(ctx, row.ID, end); err != nil {
			return fmt.Errorf("end silent worker %s: %w", row.ID, err)
		}
		r.metrics.ended.WithLabelValues(string(end.Outcome)).Inc()
		r.log.InfoContext(ctx, "silent worker ended", "spawn", row.ID, "of", row.Backend, "reason", end.Reason)
	}
	return nil
}
