package manager

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"gmaps-scraper/job"
	"gmaps-scraper/spawner"
)

// why says why a job with open tasks and no worker waits; "" if its worker is as good as there. It holds no countdown: each
// new text is an event on each waiting job.
func (r *reconciler) why(now time.Time, live, ceiling int) string {
	_, _, reason := r.breaker.state(now)
	limits := spawner.Limits{}
	if r.spawner != nil {
		limits = r.spawner.Limits()
	}
	switch {
	case reason != "":
		return "no worker could be started: " + reason
	case ceiling > 0 && live >= ceiling && limits.Flag != "" && ceiling == limits.MaxWorkers:
		return fmt.Sprintf("all %d workers are busy: waits for a free one (-%s %d)", ceiling, limits.Flag, ceiling)
	case ceiling > 0 && live >= ceiling && r.cfg.MaxWorkers > 0:
		return fmt.Sprintf("all %d workers are busy: waits for a free one (-spawner-max-workers %d)", ceiling, r.cfg.MaxWorkers)
	case ceiling > 0 && live >= ceiling:
		return fmt.Sprintf("all %d workers are busy: waits for a free one (the ceiling of backend %s; -spawner-max-workers sets another)", ceiling, r.backend)
	}
	return ""
}

// served returns the jobs whose text is out of date. While starts fail a spawn is only a try until its worker has asked for work: to
// clear the text for each would write an event for each.
func (r *reconciler) served(now time.Time, live []job.Spawn) []job.ID {
	_, _, reason := r.breaker.state(now)
	set := make(map[job.ID]bool, len(live))
	for _, row := range live {
		if row.JobID != "" && (reason == "" || askedForWork(row)) {
			set[row.JobID] = true
		}
	}
	return slices.Collect(maps.Keys(set))
}

// tellWaiting writes why to all jobs that have open tasks and no live spawn, and clears it from those that have one. With a new
// text at once; with the one told last for the sake of jobs that came since, which costs the store a look at all jobs that
// wait, so it keeps itself to a twentieth of the time.
func (r *reconciler) tellWaiting(ctx context.Context, now time.Time, why string, live []job.Spawn) error {
	if r.told && why == r.waitingText && (why == "" || now.Before(r.waitingDue)) {
		return nil
	}
	begun := r.now()
	if served := r.served(now, live); why != "" && len(served) > 0 {
		if err := r.store.SetWaiting(ctx, "", served...); err != nil {
			return fmt.Errorf("clear why jobs wait: %w", err)
		}
	}
	if err := r.store.SetWaiting(ctx, why); err != nil {
		return fmt.Errorf("record why jobs wait: %w", err)
	}
	r.told, r.waitingText = true, why
	r.waitingDue = now.Add(max(r.cfg.Interval, 20*r.now().Sub(begun)))
	return nil
}
