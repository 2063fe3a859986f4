package manager

import (
	"context"
	"fmt"
	"time"

	"gmaps-scraper/job"
	"gmaps-scraper/store"
)

// why says why a job with open tasks and no worker waits; "" if its worker is as good as there. It holds no countdown: each
// new text is an event on each waiting job.
func (r *reconciler) why(now time.Time, live, ceiling int) string {
	_, _, reason := r.breaker.state(now)
	switch {
	case reason != "":
		return "no worker could be started: " + reason
	case ceiling > 0 && live >= ceiling && r.cfg.MaxWorkers > 0:
		return fmt.Sprintf("all %d workers are busy: waits for a free one (-spawner-max-workers %d)", ceiling, r.cfg.MaxWorkers)
	case ceiling > 0 && live >= ceiling:
		return fmt.Sprintf("all %d workers are busy: waits for a free one (the ceiling of backend %s; -spawner-max-workers sets another)", ceiling, r.backend)
	}
	return ""
}

// tellWaiting writes why to the jobs that have open tasks and none of the live spawns, and clears it where that is over.
// It reads all jobs that are not over, so it keeps itself to a twentieth of the time, and to a tick's interval unless the text is new.
func (r *reconciler) tellWaiting(ctx context.Context, now time.Time, why string, live []job.Spawn) error {
	if why == r.waitingText && now.Before(r.waitingDue) {
		return nil
	}
	begun := r.now()
	served := make(map[job.ID]bool, len(live))
	for _, row := range live {
		served[row.JobID] = true
	}
	const page = 500
	for f := (store.JobFilter{States: []job.State{job.Pending, job.Running}, Limit: page}); ; {
		jobs, err := r.store.Jobs(ctx, f)
		if err != nil {
			return fmt.Errorf("read waiting jobs: %w", err)
		}
		if len(jobs) == 0 {
			break
		}
		f.Before = jobs[len(jobs)-1].ID
		var waiting, cleared []job.ID
		for _, j := range jobs {
			waits := why != "" && j.Counts.Open > 0 && !served[j.ID]
			switch {
			case waits && j.Waiting != why:
				waiting = append(waiting, j.ID)
			case !waits && j.Waiting != "":
				cleared = append(cleared, j.ID)
			}
		}
		if err := r.setWaiting(ctx, why, waiting); err != nil {
			return err
		}
		if err := r.setWaiting(ctx, "", cleared); err != nil {
			return err
		}
	}
	r.waitingText = why
	r.waitingDue = now.Add(max(r.cfg.Interval, 20*r.now().Sub(begun)))
	return nil
}

func (r *reconciler) setWaiting(ctx context.Context, why string, jobs []job.ID) error {
	if len(jobs) == 0 {
		return nil
	}
	if err := r.store.SetWaiting(ctx, why, jobs...); err != nil {
		return fmt.Errorf("record why jobs wait: %w", err)
	}
	return nil
}
