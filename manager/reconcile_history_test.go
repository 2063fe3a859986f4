package manager

import (
	"context"
	"math/rand/v2"
	"testing"
	"time"

	"gmaps-scraper/job"
	"gmaps-scraper/spawner"
	"gmaps-scraper/store"
)

// history drives a trial through random events: jobs, joins, exits, kills, cancels, and restarts that cut a tick's work off.
type history struct {
	*trial
	rand *rand.Rand
	jobs []job.ID
}

func newHistory(t *testing.T, seed uint64) *history {
	h := &history{rand: rand.New(rand.NewPCG(seed, 1))}
	h.trial = newTrial(t, func(cfg *reconcilerConfig, _ *scripted) { cfg.MaxWorkers = 3 })
	h.b.onCreate = func(w spawner.Worker) {
		n := 0
		for _, other := range h.b.workers {
			if !other.Running {
				continue
			}
			n++
			if other.SpawnID == w.SpawnID && other.ID != w.ID {
				t.Errorf("two workers of spawn %s", w.SpawnID)
			}
		}
		if n > 3 {
			t.Errorf("%d workers run, cap 3", n)
		}
	}
	return h
}

func (h *history) run() {
	for range 60 {
		switch h.rand.IntN(8) {
		case 0:
			h.jobs = append(h.jobs, h.job(func(s *job.Spec) { s.Priority = h.rand.IntN(11) }))
		case 1:
			h.cutOff()
		case 2, 3:
			h.eachLive(func(row job.Spawn) { h.work(row, 2) })
		case 4:
			h.eachLive(func(row job.Spawn) {
				if row.State == job.SpawnRunning && h.rand.IntN(4) == 0 {
					h.b.exit(row.ID, spawner.Exit{Code: 137, Detail: "killed"})
				}
			})
		case 5:
			if len(h.jobs) > 0 && h.rand.IntN(3) == 0 {
				h.rows().setState(h.jobs[h.rand.IntN(len(h.jobs))], job.Cancelled)
			}
		default:
			h.pass(time.Duration(h.rand.IntN(3000)) * time.Millisecond)
			h.tick()
		}
	}
	h.restart()
	for range 40 * (len(h.jobs) + 1) {
		h.ticks(h.cfg.Interval)
		h.eachLive(func(row job.Spawn) { h.work(row, 1) })
	}
	for _, id := range h.jobs {
		if j := h.getJob(id); !j.State.Terminal() {
			h.Errorf("job %s is %s, waiting %q, spawns %+v", id, j.State, j.Waiting, h.spawns(id))
		}
	}
	h.eachLive(func(row job.Spawn) { h.Errorf("left: spawn %+v", row) })
	if len(h.b.workers) != 0 {
		h.Errorf("left: %d workers", len(h.b.workers))
	}
}

// cutOff kills the reconciler within a tick: what it had begun is cancelled at some point, or done but not recorded.
func (h *history) cutOff() {
	ctx, cancel := context.WithCancel(h.Context())
	if h.rand.IntN(2) == 0 {
		h.rows().set(func(s *rowStore) { s.fail = store.ErrUnavailable })
	} else {
		cancel()
	}
	_ = h.r.tick(ctx) // dies
	cancel()
	if err := h.r.ops.Wait(); err != nil {
		h.Fatal(err)
	}
	h.rows().set(func(s *rowStore) { s.fail = nil })
	h.restart()
}

// work lets the worker of a row go on by one step, once in n times: join, or finish its job.
func (h *history) work(row job.Spawn, n int) {
	if h.rand.IntN(n) != 0 {
		return
	}
	alive := false
	for _, name := range h.b.running() {
		alive = alive || name == row.Name()
	}
	switch {
	case !alive:
	case row.State == job.SpawnStarted:
		h.join(row.ID)
	case row.State == job.SpawnRunning:
		if j := h.getJob(row.JobID); !j.State.Terminal() {
			h.rows().setState(row.JobID, job.Succeeded)
		}
		h.b.exit(row.ID, spawner.Exit{})
	}
}

func (h *history) eachLive(do func(job.Spawn)) {
	rows, err := h.store.Spawns(h.Context(), store.SpawnFilter{Live: true, Limit: 100})
	if err != nil {
		h.Fatal(err)
	}
	for _, row := range rows {
		do(row)
	}
}
