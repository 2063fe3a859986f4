package manager

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"gmaps-scraper/job"
	"gmaps-scraper/spawner"
)

var errImage = &spawner.Error{Op: "create", Reason: "image gmaps-scraper:latest not found on this engine", Mend: "build it: make image", Cause: "image"}

func TestFailedStartsBackOffByTheTable(t *testing.T) {
	t.Parallel()
	c := newTrial(t, func(_ *reconcilerConfig, b *scripted) { b.createErr = errImage })
	id := c.job()
	begun := c.now()
	var at []time.Duration // of each create
	for range 400 {
		before := c.b.created()
		c.tick()
		if c.b.created() > before {
			at = append(at, c.now().Sub(begun))
		}
		c.pass(time.Second)
	}
	var waits []time.Duration
	for i := 1; i < len(at) && i <= 8; i++ {
		waits = append(waits, at[i]-at[i-1])
	}
	s := time.Second
	// The delay of 0 shows as the second between two ticks of this test.
	if diff := cmp.Diff([]time.Duration{1 * s, 5 * s, 10 * s, 20 * s, 40 * s, 80 * s, 80 * s, 80 * s}, waits); diff != "" {
		t.Errorf("waits between creates (-want +got):\n%s", diff)
	}

	j := c.getJob(id)
	want := "no worker could be started: image gmaps-scraper:latest not found on this engine; build it: make image"
	if j.Waiting != want {
		t.Errorf("the job waits for %q, want %q", j.Waiting, want)
	}
	if events := c.rows().events[id]; len(events) != 1 {
		t.Errorf("%d waiting events, want 1: %q", len(events), events)
	}
	if j.State != job.Pending || j.Counts.Open != 1 {
		t.Errorf("job %s with %+v: it was charged", j.State, j.Counts)
	}
	if got := c.wantSpawn(c.spawns(id)[0].ID, job.SpawnEnded, job.CreateError); got.Reason != errImage.Error() {
		t.Errorf("reason %q, want %q", got.Reason, errImage.Error())
	}
	if n := c.r.Status().Failures["image"]; n != len(at) {
		t.Errorf("%d failures counted, want %d", n, len(at))
	}
}

func TestBreakerOpensTriesOneAndClosesWhenItSpeaks(t *testing.T) {
	t.Parallel()
	c := newTrial(t, func(_ *reconcilerConfig, b *scripted) { b.createErr = errImage })
	for range 6 {
		c.job()
	}
	c.tick()
	if n := c.b.created(); n != 4 {
		t.Fatalf("%d creates at once, want 4", n)
	}
	if _, until, _ := c.r.breaker.state(c.now()); until.After(c.now()) {
		t.Errorf("backs off until %v: four that failed together are one failure", until)
	}
	c.ticks(20 * time.Second)
	if s, _, _ := c.r.breaker.state(c.now()); s != breakerOpen {
		t.Errorf("after %d creates the breaker is %v, want open", c.b.created(), s)
	}

	c.b.set(func() { c.b.createErr = nil })
	before := c.b.created()
	c.pass(80 * time.Second)
	if s, _, _ := c.r.breaker.state(c.now()); s != breakerHalfOpen {
		t.Errorf("the breaker is %v, want half-open", s)
	}
	c.ticks(10 * time.Second)
	if n := c.b.created() - before; n != 1 {
		t.Fatalf("%d creates before the first has spoken, want 1", n)
	}
	c.join(job.SpawnID(strings.TrimPrefix(c.b.running()[0], "gmaps-worker-")))
	c.ticks(4 * time.Second)
	if n := len(c.b.running()); n != 6 {
		t.Errorf("%d workers run after the breaker closed, want 6", n)
	}
	if got := c.r.Status().Breaker; got != "" {
		t.Errorf("status says %q", got)
	}
}

// An image whose program ends at once is created without an error each time.
func TestWorkerThatEndsUnheardIsAFailedStart(t *testing.T) {
	t.Parallel()
	for _, code := range []int{0, 1} {
		t.Run(fmt.Sprint(code), func(t *testing.T) {
			t.Parallel()
			c := newTrial(t, nil)
			c.b.onCreate = func(spawner.Worker) {
				w := c.b.workers[len(c.b.workers)-1]
				w.Running, w.exit = false, spawner.Exit{Code: code, LogTail: "starting\nno such option: -worker\n"}
			}
			id := c.job()
			c.ticks(120 * time.Second)
			if n := c.b.created(); n < 4 || n > 8 {
				t.Errorf("%d creates within 2 minutes, want it backed off", n)
			}
			want := fmt.Sprintf("no worker could be started: worker ended before it spoke, exit code %d: no such option: -worker", code)
			if got := c.getJob(id).Waiting; got != want {
				t.Errorf("the job waits for %q, want %q", got, want)
			}
		})
	}
}

// A worker that joins and ends before it asks for work charges no task: only the breaker keeps its like from being started for ever.
func TestWorkerThatJoinsAndEndsIsAFailedStart(t *testing.T) {
	t.Parallel()
	c := newTrial(t, nil)
	c.b.onCreate = func(started spawner.Worker) {
		if _, err := c.store.Join(c.Context(), job.SpawnID(started.SpawnID), "nonce"); err != nil {
			t.Error(err)
		}
		w := c.b.workers[len(c.b.workers)-1]
		w.Running, w.exit = false, spawner.Exit{Code: 1, LogTail: "lease: 422 Unprocessable Entity\n"}
	}
	id := c.job()
	c.ticks(120 * time.Second)
	if n := c.b.created(); n < 4 || n > 8 {
		t.Errorf("%d creates within 2 minutes, want it backed off", n)
	}
	want := "no worker could be started: worker ended before it asked for work, exit code 1: lease: 422 Unprocessable Entity"
	if got := c.getJob(id).Waiting; got != want {
		t.Errorf("the job waits for %q, want %q", got, want)
	}
}

// A poison task kills worker after worker; that is the task's fault, and other jobs go on.
func TestWorkerThatSpokeAndCrashedIsNoFailedStart(t *testing.T) {
	t.Parallel()
	c := newTrial(t, nil)
	poison := c.job()
	for i := range 5 {
		c.tick()
		row := c.spawn(poison)
		c.join(row.ID)
		c.b.exit(row.ID, spawner.Exit{Code: 2, LogTail: "panic\n"})
		c.tick()
		c.wantSpawn(row.ID, job.SpawnEnded, job.Exited)
		if c.rows().ends[row.ID].GaveBack {
			t.Error("the crash was not charged")
		}
		if got := c.r.Status(); got.Breaker != "" || len(got.Failures) != 0 {
			t.Fatalf("after crash %d: status %+v", i+1, got)
		}
	}
	other := c.job()
	c.tick()
	c.wantSpawn(c.spawn(other).ID, job.SpawnStarted, "")
}

func TestCreateThatHangsHoldsUpNobodyElse(t *testing.T) {
	t.Parallel()
	for name, starts := range map[string]bool{"and starts nothing": false, "but has started the worker": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				c := newTrial(t, func(cfg *reconcilerConfig, _ *scripted) { cfg.now = time.Now })
				c.store.(*rowStore).now, c.b.now = time.Now, time.Now
				hung := c.job()
				planned, err := c.store.PlanSpawns(t.Context(), planFor(c))
				if err != nil {
					t.Fatal(err)
				}
				c.b.hang[string(planned[0].ID)] = starts
				tick := func() {
					if err := c.r.tick(t.Context()); err != nil {
						t.Fatal(err)
					}
					synctest.Wait()
				}
				tick()
				other := c.job()
				tick()
				c.wantSpawn(c.spawn(other).ID, job.SpawnStarted, "")
				if err := c.r.sweeper.sweep(t.Context()); err != nil {
					t.Fatal(err)
				}
				tick()
				if starts {
					c.wantSpawn(planned[0].ID, job.SpawnStarted, "") // adopted while its create hangs
				} else {
					c.wantSpawn(planned[0].ID, job.SpawnPending, "")
				}
				time.Sleep(createDeadline) // of the bubble's clock
				synctest.Wait()
				delete(c.b.hang, string(planned[0].ID))
				c.join(c.spawn(other).ID)
				time.Sleep(time.Microsecond) // of the bubble's clock
				c.touch(c.spawn(other).ID)
				tick()
				tick()
				if n := c.r.Status().Failures["timeout"]; n != 1 {
					t.Errorf("%d timeouts counted, want 1", n)
				}
				c.wantSpawn(planned[0].ID, job.SpawnStarted, "") // under the same name
				if n := len(c.spawns(hung)); n != 1 || len(c.b.running()) != 2 {
					t.Errorf("%d rows, running %v; want one worker a job", n, c.b.running())
				}
				if err := c.r.ops.Wait(); err != nil {
					t.Fatal(err)
				}
			})
		})
	}
}

func TestRunEndsCleanly(t *testing.T) {
	t.Parallel()
	for backend, left := range map[string]int{"process": 0, "docker": 1} {
		t.Run(backend, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				c := newTrial(t, func(cfg *reconcilerConfig, b *scripted) { b.name, cfg.now = backend, time.Now })
				c.store.(*rowStore).now, c.b.now = time.Now, time.Now
				ctx, stop := withCancel(t)
				done := make(chan error, 1)
				go func() { done <- c.r.Run(ctx) }()
				synctest.Wait()

				id := c.job()
				if err := c.cfg.Bell.Ring(ctx); err != nil {
					t.Fatal(err)
				}
				synctest.Wait() // no time passes: the bell wakes it
				row := c.wantSpawn(c.spawn(id).ID, job.SpawnStarted, "")
				c.join(row.ID)
				second := c.job()
				time.Sleep(c.cfg.Interval) // of the bubble's clock: without a ring it looks all the same
				synctest.Wait()
				c.rows().setState(second, job.Cancelled)
				time.Sleep(c.cfg.Interval)
				synctest.Wait()
				c.wantSpawn(c.spawn(second).ID, job.SpawnEnded, job.Stopped)

				stop()
				if err := <-done; err != nil {
					t.Errorf("run: %v", err)
				}
				if n := len(c.b.workers); n != left {
					t.Errorf("%d workers are left, want %d", n, left)
				}
				if left == 0 {
					c.wantSpawn(row.ID, job.SpawnEnded, job.Stopped)
					if !c.rows().ends[row.ID].GaveBack {
						t.Error("the stop was charged")
					}
				}
			})
		})
	}
}

func TestWhatBeganBeforeAFailureProvesNothing(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	var b breaker
	old := b.current()
	b.fail(old, now, "first")
	b.fail(old, now, "under way together with the first")
	b.succeed(old)
	if n := b.allow(now, 4, 0); n != 1 {
		t.Errorf("after one failure %d starts are allowed, want 1", n)
	}
	b.fail(b.current(), now, "second")
	if n := b.allow(now.Add(5*time.Second-1), 4, 0); n != 0 {
		t.Errorf("within the backoff %d starts are allowed, want 0", n)
	}
	if n := b.allow(now.Add(5*time.Second), 4, 1); n != 0 {
		t.Errorf("beside an unproven one %d starts are allowed, want 0", n)
	}
	b.succeed(b.current())
	if n := b.allow(now, 4, 1); n != 4 {
		t.Errorf("after a success %d starts are allowed, want 4", n)
	}
}

// A worker may speak, do its work and end between two ticks.
func TestFastWorkerClosesTheBreakerToo(t *testing.T) {
	t.Parallel()
	c := newTrial(t, func(_ *reconcilerConfig, b *scripted) { b.createErr = errImage })
	id := c.job()
	c.ticks(20 * time.Second)
	c.b.set(func() { c.b.createErr = nil })
	c.ticks(14 * time.Second)
	c.pass(80 * time.Second)
	c.tick()
	row := c.spawn(id)
	c.wantSpawn(row.ID, job.SpawnStarted, "")
	c.join(row.ID)
	c.rows().setState(id, job.Succeeded)
	c.b.exit(row.ID, spawner.Exit{})
	c.tick()
	c.wantSpawn(row.ID, job.SpawnEnded, job.Exited)
	if s, _, reason := c.r.breaker.state(c.now()); s != breakerClosed || reason != "" {
		t.Errorf("the breaker is %v (%s), want closed", s, reason)
	}
}

func TestCreatesAtOnceAreBounded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := newTrial(t, func(_ *reconcilerConfig, b *scripted) { b.hang["*"] = false })
		for range 8 {
			c.job()
		}
		for range 5 {
			if err := c.r.tick(t.Context()); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
		}
		if n := c.b.created(); n != 4 {
			t.Errorf("%d creates under way, want 4", n)
		}
		if n := len(c.rows().planned); n != 4 {
			t.Errorf("%d rows written, want no more than are created", n)
		}
		if err := c.r.ops.Wait(); err != nil {
			t.Fatal(err)
		}
	})
}

// The job is cancelled while its create hangs: what the create brings is stopped, with its evidence kept.
func TestCancelDuringCreateStopsWhatComes(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := newTrial(t, func(_ *reconcilerConfig, b *scripted) { b.hang["*"] = false })
		id := c.job()
		tick := func() {
			if err := c.r.tick(t.Context()); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
		}
		tick()
		row := c.spawn(id)
		c.rows().setState(id, job.Cancelled)
		tick()
		c.wantSpawn(row.ID, job.SpawnPending, "")
		c.b.add(spawner.Worker{ID: "late", Name: row.Name(), SpawnID: string(row.ID), Running: true})
		tick()
		got := c.wantSpawn(row.ID, job.SpawnEnded, job.Stopped)
		if got.LogTail == "" || len(c.b.running()) != 0 {
			t.Errorf("log %q, running %v; want the worker stopped and its log kept", got.LogTail, c.b.running())
		}
		if err := c.r.ops.Wait(); err != nil {
			t.Fatal(err)
		}
	})
}
