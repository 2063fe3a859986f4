package test

import (
	"bufio"
	"context"
	"encoding/json"
	"maps"
	"net/http"
	"testing"
	"time"

	"gmaps-scraper/api"
	"gmaps-scraper/job"
)

// What tests ask of a world: through the API as a user would, and of the simulator what is true.

// working reports whether a job may still have work: also while the Manager does not say.
func (w *world) working() bool {
	now, err := w.client.Stats(w.t.Context())
	return err != nil || unfinished(now) > 0
}

// unfinished is how many jobs have work left.
func unfinished(s api.Stats) int { return s.Jobs[job.Pending] + s.Jobs[job.Running] }

// waitDrained waits until no job has work left, however many there are, as long as something moves.
func (w *world) waitDrained() {
	w.t.Helper()
	var last api.Stats
	for moved := time.Now(); ; pause(w.t.Context(), 100*time.Millisecond) {
		now, err := w.client.Stats(w.t.Context())
		switch {
		case err == nil && unfinished(now) == 0:
			return
		case err == nil && (now.Results != last.Results || !maps.Equal(now.Jobs, last.Jobs)):
			last, moved = now, time.Now()
		case time.Since(moved) > patience:
			w.t.Fatalf("nothing moved for %s: jobs %v, %d results", patience, now.Jobs, now.Results)
		}
	}
}

// waitTerminal returns the job once it has ended.
func (w *world) waitTerminal(id job.ID) job.Job {
	w.t.Helper()
	return w.waitJob(id, "ended", func(j job.Job) bool { return j.State.Terminal() })
}

// waitJob returns the job once it is as it should be.
func (w *world) waitJob(id job.ID, what string, ok func(job.Job) bool) job.Job {
	w.t.Helper()
	var last job.Job
	waitFor(w.t, "job "+string(id)+" to have "+what, func() bool {
		j, err := w.client.Job(w.t.Context(), id)
		if err != nil {
			return false
		}
		last = j
		return ok(j)
	})
	return last
}

// leased is for waitJob: a worker has begun.
func leased(j job.Job) bool { return j.Counts.Leased > 0 }

// places are the keys of a job's rows, as they are paged.
func (w *world) places(id job.ID) []string {
	w.t.Helper()
	var keys []string
	after := int64(0)
	for {
		page, err := w.client.Results(w.t.Context(), id, api.ResultQuery{After: after, Limit: 500})
		if err != nil {
			w.t.Fatal(err)
		}
		for _, r := range page.Results {
			keys = append(keys, r.Place.Key())
			after = r.Seq
		}
		if len(page.Results) == 0 {
			return keys
		}
	}
}

// truth asks the simulator for the data ids of a set.
func (w *world) truth(set string) []string {
	w.t.Helper()
	res, err := http.Get(w.maps + "/simulator/places?set=synthetic:" + set)
	if err != nil {
		w.t.Fatal(err)
	}
	defer res.Body.Close()
	var keys []string
	for s := bufio.NewScanner(res.Body); s.Scan(); {
		var line struct {
			DataID string `json:"data_id"`
		}
		if err := json.Unmarshal(s.Bytes(), &line); err != nil {
			w.t.Fatalf("%s: %v", s.Text(), err)
		}
		keys = append(keys, line.DataID)
	}
	if len(keys) == 0 {
		w.t.Fatalf("the simulator has no set %q: %s", set, res.Status)
	}
	return keys
}

// spawns lists all spawns of a job, the newest last; none while the Manager is away.
func (w *world) spawns(id job.ID) []job.Spawn {
	page, err := w.client.Spawns(w.t.Context(), api.SpawnQuery{JobID: id, Limit: 500})
	if err != nil {
		return nil
	}
	return page.Spawns
}

// tasks lists the first tasks of a job; none while the Manager is away.
func (w *world) tasks(id job.ID) []job.Task {
	page, err := w.client.Tasks(w.t.Context(), id, api.TaskQuery{Limit: 500})
	if err != nil {
		return nil
	}
	return page.Tasks
}

func (w *world) events(id job.ID) []job.Event {
	page, err := w.client.Events(w.t.Context(), id, api.EventQuery{Limit: 500})
	if err != nil {
		return nil
	}
	return page.Events
}

// wantAttempts fails unless each task of a job was charged so many attempts.
func (w *world) wantAttempts(t *testing.T, id job.ID, want int, why string) {
	t.Helper()
	for _, k := range w.tasks(id) {
		if k.Attempts != want {
			t.Errorf("task %d has %d attempts, want %d: %s", k.ID, k.Attempts, want, why)
		}
	}
}

// explain logs what the Manager says of itself and of jobs that have not ended, for whoever reads a failure.
func (w *world) explain() {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(w.t.Context()), 10*time.Second)
	defer cancel()
	stats, err := w.client.Stats(ctx)
	w.t.Logf("manager: %+v %v", stats, err)
	page, _ := w.client.Jobs(ctx, api.JobQuery{})
	for _, j := range page.Jobs {
		if !j.State.Terminal() {
			w.t.Logf("job %s is %s, %+v, waits: %s", j.ID, j.State, j.Counts, j.Waiting)
		}
	}
	spawns, _ := w.client.Spawns(ctx, api.SpawnQuery{Limit: 20})
	for _, x := range spawns.Spawns {
		w.t.Logf("spawn %s is %s %s: %s %.500s", x.ID, x.State, x.Outcome, x.Reason, x.LogTail)
	}
}
