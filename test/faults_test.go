package test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"gmaps-scraper/api"
	"gmaps-scraper/job"
)

// The tests below run the real program as processes and do to them what an operator, a kernel or a power cut does.
// After each, the ledger must balance: every acknowledged job ended, every place of it there once, no process left.

func TestFaultManagerIsKilledWhileJobsAreSubmitted(t *testing.T) {
	w := newWorld(t, 60, 5*time.Millisecond, "-spawner", "process", "-spawner-max-workers", "3")
	l, r := newLedger(w), seeded(t)
	kills := runs(20)

	ctx, stop := context.WithTimeout(t.Context(), time.Duration(kills)*10*time.Second)
	defer stop()
	submitting, enough := context.WithCancel(ctx)
	var g errgroup.Group
	g.Go(func() error {
		for i := 0; submitting.Err() == nil; i++ {
			if _, err := l.submit(ctx, fmt.Sprintf("m%d", i%5), 3, nil); err != nil {
				return err
			}
			pause(submitting, 100*time.Millisecond)
		}
		return nil
	})
	for range kills {
		pause(ctx, time.Duration(r.IntN(700))*time.Millisecond)
		w.manager.kill()
		w.startManager()
	}
	enough()
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	lost, doubled := l.balance()
	t.Logf("manager killed %d times, %d jobs: %d lost, %d doubled", kills, len(l.expected), lost, doubled)
}

func TestFaultWorkersAreKilledAtRandomPoints(t *testing.T) {
	w := newWorld(t, 300, 20*time.Millisecond, "-spawner", "process", "-spawner-max-workers", "4")
	l, r := newLedger(w), seeded(t)
	jobs := runs(50)
	for i := range jobs {
		l.mustSubmit(fmt.Sprintf("w%d", i%7), 4, nil)
	}
	kills := 0
	for kills < jobs && w.anyOpen(l) {
		if w.killWorker(r, 300*time.Millisecond) {
			kills++
		}
	}
	lost, doubled := l.balance()
	if kills < jobs/5 {
		t.Errorf("only %d workers were killed: the test shows nothing", kills)
	}
	t.Logf("%d workers killed over %d jobs: %d lost, %d doubled", kills, jobs, lost, doubled)
}

func TestFaultDoneTasksAreNotRedoneAfterAWorkerDies(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 300, 20*time.Millisecond, "-spawner", "process", "-spawner-concurrency", "1")
	l := newLedger(w)
	id := l.mustSubmit("resume", 10, nil)
	waitFor(t, "half of the tasks done", func() bool {
		j, err := w.client.Job(t.Context(), id)
		return err == nil && j.Counts.Done >= 5
	})
	done := map[job.TaskID]time.Time{}
	for _, k := range w.tasks(id) {
		if k.State == job.TaskDone {
			done[k.ID] = k.UpdatedAt
		}
	}
	for _, pid := range w.workers() {
		_ = syscall.Kill(pid, syscall.SIGKILL)
	}
	l.balance()
	for _, k := range w.tasks(id) {
		if at, was := done[k.ID]; was && (!k.UpdatedAt.Equal(at) || k.Attempts != 1) {
			t.Errorf("task %d was done and ran again: attempts %d", k.ID, k.Attempts)
		}
	}
	if n := len(w.spawns(id)); n < 2 {
		t.Errorf("%d spawns: the job went on without a second worker?", n)
	}
}

func TestFaultZombieWritesNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 400, 30*time.Millisecond, "-spawner", "process", "-spawner-concurrency", "2")
	l := newLedger(w)
	id := l.mustSubmit("zombie", 8, func(n *api.NewJob) { n.MaxWorkers = 2 })
	waitFor(t, "a worker with a lease", func() bool {
		j, err := w.client.Job(t.Context(), id)
		return err == nil && j.Counts.Leased > 0 && j.Counts.Places > 0
	})
	asleep := w.workers()
	for _, pid := range asleep {
		_ = syscall.Kill(pid, syscall.SIGSTOP)
	}
	waitFor(t, "the leases of the sleepers to end", func() bool {
		for _, e := range w.events(id) {
			if e.Kind == job.EventLeaseLost {
				return true
			}
		}
		return false
	})
	for _, pid := range asleep {
		_ = syscall.Kill(pid, syscall.SIGCONT)
	}
	lost, doubled := l.balance()
	t.Logf("%d zombies: %d lost, %d doubled", len(asleep), lost, doubled)
}

func TestFaultHungWorkerDoesNotHoldItsJob(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 200, 20*time.Millisecond, "-spawner", "process", "-spawner-max-workers", "1")
	l := newLedger(w)
	id := l.mustSubmit("hung", 4, nil)
	waitFor(t, "a worker with a lease", func() bool {
		j, err := w.client.Job(t.Context(), id)
		return err == nil && j.Counts.Leased > 0
	})
	for _, pid := range w.workers() {
		_ = syscall.Kill(pid, syscall.SIGSTOP) // and never again awake
	}
	l.balance()
}

func TestFaultPoisonTaskIsDeadLettered(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 120, 60*time.Millisecond, "-spawner", "process", "-spawner-concurrency", "4")
	l := newLedger(w)
	innocent := l.mustSubmit("innocent", 4, func(n *api.NewJob) { n.Priority = 1 })
	// The poison is a task that takes its worker down: whoever holds it is killed.
	j, err := w.client.Create(t.Context(), api.NewJob{
		Name: "poison", Lines: "synthetic:poison 1/4\nsynthetic:poison 2/4\nsynthetic:poison 3/4\nsynthetic:poison 4/4 #!#deadly", MaxAttempts: 3,
	}, "poison")
	if err != nil {
		t.Fatal(err)
	}
	waitFor(t, "the poisoned job to end", func() bool {
		for _, k := range w.tasks(j.ID) {
			if k.InputID == "deadly" && k.State == job.TaskLeased {
				for _, pid := range w.workersOf(j.ID) {
					_ = syscall.Kill(pid, syscall.SIGKILL)
				}
			}
		}
		now, err := w.client.Job(t.Context(), j.ID)
		return err == nil && now.State.Terminal()
	})
	for _, k := range w.tasks(j.ID) {
		if k.InputID == "deadly" {
			if k.State != job.TaskDead || k.Attempts != 3 {
				t.Errorf("the poison is %s after %d attempts, want dead after 3: %s", k.State, k.Attempts, k.Error)
			}
		} else if k.State != job.TaskDone {
			t.Errorf("innocent task %d is %s: %s", k.ID, k.State, k.Error)
		}
	}
	if j = w.waitTerminal(j.ID); j.State != job.Succeeded || !j.Partial {
		t.Errorf("the poisoned job ended %s, partial %v: want succeeded and partial", j.State, j.Partial)
	}
	l.balance()
	for _, k := range w.tasks(innocent) {
		if k.Attempts != 1 {
			t.Errorf("task %d of the other job has %d attempts: the poison touched it", k.ID, k.Attempts)
		}
	}
}

func TestFaultCapHoldsAndNothingStarves(t *testing.T) {
	const limit = 4
	w := newWorld(t, 4, 0, "-spawner", "process", "-spawner-max-workers", fmt.Sprint(limit))
	l := newLedger(w)
	jobs := runs(100)
	for i := range jobs {
		l.mustSubmit("cap", 1, func(n *api.NewJob) { n.Priority = i % 11 })
	}
	most := 0
	for w.anyOpen(l) {
		most = max(most, len(w.workers()))
		pause(t.Context(), 5*time.Millisecond)
	}
	lost, doubled := l.balance()
	if most > limit {
		t.Errorf("%d workers lived at once, above the cap of %d", most, limit)
	}
	t.Logf("%d jobs at cap %d: at most %d workers at once, %d lost, %d doubled", jobs, limit, most, lost, doubled)
}

func TestFaultSigtermHandsBackUncharged(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 400, 50*time.Millisecond, "-spawner", "process", "-spawner-concurrency", "2")
	l := newLedger(w)
	id := l.mustSubmit("sigterm", 6, nil)
	waitFor(t, "a worker with a lease", func() bool {
		j, err := w.client.Job(t.Context(), id)
		return err == nil && j.Counts.Leased > 0
	})
	for _, pid := range w.workers() {
		_ = syscall.Kill(pid, syscall.SIGTERM)
	}
	waitFor(t, "the worker to go", func() bool {
		s := w.spawns(id)
		return len(s) > 0 && !s[len(s)-1].Live()
	})
	waitFor(t, "a second worker", func() bool { return len(w.spawns(id)) > 1 })
	w.manager.terminate(t) // and the whole Manager too
	if n := len(w.workers()); n > 0 {
		t.Errorf("%d workers are left after the Manager's SIGTERM", n)
	}
	w.startManager()
	l.balance()
	for _, k := range w.tasks(id) {
		if k.Attempts != 1 {
			t.Errorf("task %d has %d attempts: a drain was charged", k.ID, k.Attempts)
		}
	}
}

func TestFaultManagerAwayLosesNoWork(t *testing.T) {
	t.Parallel()
	for name, away := range map[string]func(*world){
		"stopped": func(w *world) {
			w.manager.signal(syscall.SIGSTOP)
			pause(t.Context(), 3*leaseTTL)
			w.manager.signal(syscall.SIGCONT)
		},
		"killed": func(w *world) {
			w.manager.kill()
			pause(t.Context(), 3*leaseTTL)
			w.startManager()
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, 600, 100*time.Millisecond, "-spawner", "process", "-spawner-concurrency", "2")
			l := newLedger(w)
			id := l.mustSubmit("away", 4, nil)
			waitFor(t, "rows", func() bool {
				j, err := w.client.Job(t.Context(), id)
				return err == nil && j.Counts.Places > 0
			})
			away(w)
			l.balance()
			for _, k := range w.tasks(id) {
				if k.Attempts != 1 {
					t.Errorf("task %d has %d attempts: its work was thrown away", k.ID, k.Attempts)
				}
			}
		})
	}
}

func TestFaultHostileInputIsRefused(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 10, 0)
	url := "http://" + w.addr + api.PathJobs
	keyword := strings.Repeat("k", 10<<10)
	for name, body := range map[string]string{
		"deep JSON":     strings.Repeat(`{"a":`, 200_000) + "1" + strings.Repeat("}", 200_000),
		"long keyword":  `{"lines": "` + keyword + `"}`,
		"NUL":           `{"lines": "caf\u0000e"}`,
		"no input":      `{}`,
		"bad zoom":      `{"lines": "cafe", "area": {"zoom": 99, "center": {"lat": 1, "lng": 2}}}`,
		"bad latitude":  `{"lines": "cafe", "area": {"center": {"lat": 91, "lng": 2}}}`,
		"unknown field": `{"lines": "cafe", "dept": 3}`,
		"not JSON":      `lines=cafe`,
		"100 MB":        `{"lines": "` + strings.Repeat("x", 100<<20) + `"}`,
	} {
		t.Run(name, func(t *testing.T) {
			req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, bytes.NewReader([]byte(body)))
			if err != nil {
				t.Fatal(err)
			}
			req.Header.Set("Content-Type", "application/json")
			req.Header.Set("Authorization", "Bearer "+w.key)
			res, err := http.DefaultClient.Do(req)
			if errors.Is(err, syscall.EPIPE) || errors.Is(err, syscall.ECONNRESET) {
				return // cut off in the middle of a body that is too large: refused as well
			}
			if err != nil {
				t.Fatal(err)
			}
			defer res.Body.Close()
			if res.StatusCode < 400 || res.StatusCode > 499 {
				t.Errorf("answered %s, want a 4xx", res.Status)
			}
			if ct := res.Header.Get("Content-Type"); !strings.HasPrefix(ct, "application/problem+json") {
				t.Errorf("answered %q, want a problem", ct)
			}
		})
	}
	page, err := w.client.Jobs(t.Context(), api.JobQuery{})
	if err != nil {
		t.Fatal(err)
	}
	if len(page.Jobs) != 0 {
		t.Errorf("%d jobs were stored", len(page.Jobs))
	}
}

// anyOpen reports whether a job of the ledger may still have work.
func (w *world) anyOpen(l *ledger) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	for id := range l.expected {
		j, err := w.client.Job(w.t.Context(), id)
		if err != nil || !j.State.Terminal() {
			return true
		}
	}
	return false
}

// workersOf are the live workers of one job.
func (w *world) workersOf(id job.ID) []int {
	var pids []int
	for _, pid := range w.workers() {
		if strings.Contains(environ(pid), "JOB_ID="+string(id)) {
			pids = append(pids, pid)
		}
	}
	return pids
}

func (w *world) events(id job.ID) []job.Event {
	page, err := w.client.Events(w.t.Context(), id, api.EventQuery{Limit: 500})
	if err != nil {
		return nil
	}
	return page.Events
}

// pause waits as a nemesis does between its deeds: at random, not for a condition.
func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}
