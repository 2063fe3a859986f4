package manager

import (
	"cmp"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"gmaps-scraper/job"
	"gmaps-scraper/spawner"
	"gmaps-scraper/store"
	"gmaps-scraper/store/sqlite"
)

// newStoredTrial is a trial on a real store, by the trial's clock.
func newStoredTrial(t *testing.T, change func(*reconcilerConfig, *scripted)) *trial {
	t.Helper()
	c := newTrial(t, func(cfg *reconcilerConfig, b *scripted) {
		s, err := sqlite.Open(t.Context(), filepath.Join(t.TempDir(), "jobs.db"), sqlite.Config{Now: cfg.now})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := s.Close(); err != nil {
				t.Errorf("close store: %v", err)
			}
		})
		cfg.Store = s
		if change != nil {
			change(cfg, b)
		}
	})
	c.store = c.cfg.Store
	return c
}

// finish lets the worker of a spawn do one task of its job, whole.
func (c *trial) finish(row job.Spawn) {
	c.Helper()
	lease, err := c.store.Grant(c.Context(), row.ID, 1, c.cfg.LeaseTTL)
	if err != nil {
		c.Fatal(err)
	}
	if _, err := c.store.Submit(c.Context(), lease.Fence, job.Batch{Tasks: []job.TaskStep{{TaskID: lease.Tasks[0].ID, Done: true}}}); err != nil {
		c.Fatal(err)
	}
}

func TestStoredJobsRunByPriorityUnderTheCap(t *testing.T) {
	t.Parallel()
	const jobs = 60
	c := newStoredTrial(t, func(cfg *reconcilerConfig, _ *scripted) { cfg.MaxWorkers = 4 })
	ids := make([]job.ID, jobs)
	for i := range ids {
		ids[i] = c.job(func(s *job.Spec) { s.Priority = i % 11 })
	}
	c.tick()
	c.tick()
	if want := "all 4 workers are busy: waits for a free one (-spawner-max-workers 4)"; c.getJob(ids[0]).Waiting != want {
		t.Errorf("job of priority 0 waits for %q, want %q", c.getJob(ids[0]).Waiting, want)
	}
	for range jobs {
		live, err := c.store.Spawns(t.Context(), store.SpawnFilter{Backend: "scripted", Live: true})
		if err != nil {
			t.Fatal(err)
		}
		if len(live) > 4 {
			t.Fatalf("%d live spawns, cap 4", len(live))
		}
		for _, row := range live {
			c.join(row.ID)
			c.finish(row)
			c.b.exit(row.ID, spawner.Exit{})
		}
		c.tick()
		c.tick()
	}
	var served []job.Spawn
	for _, id := range ids {
		if j := c.getJob(id); j.State != job.Succeeded || j.Waiting != "" {
			t.Errorf("job of priority %d: %s, waiting %q", j.Spec.Priority, j.State, j.Waiting)
		}
		served = append(served, c.wantSpawn(c.spawn(id).ID, job.SpawnEnded, job.Exited))
	}
	slices.SortFunc(served, func(a, b job.Spawn) int { return cmp.Compare(a.ID, b.ID) })
	was := 10
	for i, row := range served {
		p := c.getJob(row.JobID).Spec.Priority
		if p > was {
			t.Errorf("spawn %d is of priority %d, after one of %d", i, p, was)
		}
		was = p
	}
	if len(c.b.workers) != 0 {
		t.Errorf("left: %v", c.b.running())
	}
}

// What a worker's end means to the tasks that it held.
func TestStoredTasksOfAnEndedWorker(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		end      func(*trial, job.Spawn)
		crashes  int
		attempts int
	}{
		"crashed": {end: func(c *trial, row job.Spawn) {
			c.b.exit(row.ID, spawner.Exit{Code: 137, Detail: "out of memory"})
			c.tick()
		}, crashes: 1, attempts: 1},
		"vanished": {end: func(c *trial, row job.Spawn) {
			c.b.vanish(row.ID)
			c.tick()
			c.ticks(c.r.handingBack())
		}, crashes: 1, attempts: 1},
		"paused": {end: func(c *trial, row job.Spawn) {
			if _, err := c.store.Pause(c.Context(), row.JobID); err != nil {
				c.Fatal(err)
			}
			c.tick()
		}},
		"drained": {end: func(c *trial, _ job.Spawn) {
			if err := c.r.drain(c.Context()); err != nil {
				c.Fatal(err)
			}
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := newStoredTrial(t, nil)
			row := c.running()
			if _, err := c.store.Grant(t.Context(), row.ID, 1, c.cfg.LeaseTTL); err != nil {
				t.Fatal(err)
			}
			test.end(c, row)
			tasks, err := c.store.Tasks(t.Context(), row.JobID, store.TaskFilter{})
			if err != nil {
				t.Fatal(err)
			}
			if k := tasks[0]; k.State != job.TaskOpen || k.Crashes != test.crashes || k.Attempts != test.attempts {
				t.Errorf("task is %s, crashes %d, attempts %d; want open, %d, %d", k.State, k.Crashes, k.Attempts, test.crashes, test.attempts)
			}
		})
	}
}

func TestStoredReasonsOfAJobThatWaits(t *testing.T) {
	t.Parallel()
	c := newStoredTrial(t, func(_ *reconcilerConfig, b *scripted) { b.createErr = errImage })
	id := c.job()
	c.ticks(3 * time.Minute)
	j := c.getJob(id)
	if !strings.HasSuffix(j.Waiting, errImage.Error()) || j.Counts.Open != 1 {
		t.Errorf("the job waits for %q with %+v, want %q", j.Waiting, j.Counts, errImage.Error())
	}
	said := 0
	events, err := c.store.Events(t.Context(), id, 0, 100)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range events {
		if e.Kind == job.EventWaiting {
			said++
		}
	}
	if said != 1 {
		t.Errorf("%d events say why it waits, want 1", said)
	}
	c.b.set(func() { c.b.createErr = nil })
	c.ticks(90 * time.Second)
	c.join(c.spawn(id).ID)
	c.ticks(4 * time.Second)
	if j := c.getJob(id); j.Waiting != "" {
		t.Errorf("with a worker the job waits for %q", j.Waiting)
	}
}
