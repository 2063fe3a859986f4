package test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"gmaps-scraper/api"
	"gmaps-scraper/job"
)

// The fault tests run the real program as processes and containers and do to them what an operator, a kernel or a power cut does.
// After each, the ledger must balance: every acknowledged job ended, every place of it there once, nothing of the workers left.

func TestFaultWorkersAreKilledAtRandomPoints(t *testing.T) {
	t.Parallel()
	eachGround(t, func(t *testing.T, s setup) {
		s.size, s.latency, s.flags = 300, 20*time.Millisecond, []string{"-spawner-max-workers", "4"}
		w := newWorld(t, s)
		l, r := newLedger(w), seeded(t)
		jobs := runs(map[string]int{onProcess: 50, onDocker: 10, onSwarm: 4}[s.ground])
		for i := range jobs {
			l.mustSubmit(fmt.Sprintf("w%d", i%7), 4, nil)
		}
		kills := 0
		for kills < jobs && w.working() {
			if w.killWorker(r, 300*time.Millisecond) {
				kills++
			}
		}
		l.balance("worker killed at random", kills)
		if kills < jobs/5 {
			t.Errorf("only %d workers were killed: the test shows nothing", kills)
		}
	}, onProcess, onDocker, onSwarm)
}

func TestFaultDoneTasksAreNotRedoneAfterAWorkerDies(t *testing.T) {
	t.Parallel()
	const tasks = 100
	eachGround(t, func(t *testing.T, s setup) {
		s.size, s.latency, s.flags = 10*tasks, 5*time.Millisecond, []string{"-spawner-concurrency", "1"}
		w := newWorld(t, s)
		l := newLedger(w)
		id := l.mustSubmit("resume", tasks, nil)
		done := map[job.TaskID]time.Time{}
		for _, percent := range []int{10, 50, 99} {
			for _, reached := range []int{percent - 4, percent} { // twice, since a long wait looks too seldom to find the last task undone
				w.waitJob(id, fmt.Sprintf("%d %% of its tasks done", reached), func(j job.Job) bool { return j.Counts.Done >= tasks*reached/100 })
			}
			for _, k := range w.tasks(id) {
				if k.State == job.TaskDone {
					done[k.ID] = k.UpdatedAt
				}
			}
			each(w.workers(), killed)
		}
		l.balance("worker killed at 10, 50, 99 %", 3)
		for _, k := range w.tasks(id) {
			if at, was := done[k.ID]; was && (!k.UpdatedAt.Equal(at) || k.Attempts > 2) {
				t.Errorf("task %d was done and ran again: attempts %d", k.ID, k.Attempts)
			}
		}
		if n := len(w.spawns(id)); n < 3 {
			t.Errorf("%d spawns: the job went on without a new worker?", n)
		}
	}, onProcess, onDocker)
}

func TestFaultZombieWritesNothing(t *testing.T) {
	t.Parallel()
	eachGround(t, func(t *testing.T, s setup) {
		s.size, s.latency, s.flags = 400, 30*time.Millisecond, []string{"-spawner-concurrency", "2"}
		w := newWorld(t, s)
		l := newLedger(w)
		id := l.mustSubmit("zombie", 8, func(n *api.NewJob) { n.MaxWorkers = 2 })
		w.waitJob(id, "a worker with a lease", func(j job.Job) bool { return j.Counts.Leased > 0 && j.Counts.Places > 0 })
		asleep := w.workers()
		zombies := each(asleep, frozen)
		waitFor(t, "the leases of the sleepers to end", func() bool {
			return slices.ContainsFunc(w.events(id), func(e job.Event) bool { return e.Kind == job.EventLeaseLost })
		})
		each(asleep, thawed)
		l.balance("worker paused past its lease", zombies)
		if zombies == 0 {
			t.Error("no worker was paused: the test shows nothing")
		}
	}, onProcess, onDocker, onSwarm)
}

func TestFaultHungWorkerDoesNotHoldItsJob(t *testing.T) {
	t.Parallel()
	eachGround(t, func(t *testing.T, s setup) {
		s.size, s.latency, s.flags = 200, 20*time.Millisecond, []string{"-spawner-max-workers", "1"}
		w := newWorld(t, s)
		l := newLedger(w)
		id := l.mustSubmit("hung", 4, nil)
		w.waitJob(id, "a worker with a lease", leased)
		hung := each(w.workers(), frozen) // and never again awake
		l.balance("worker paused for ever", hung)
	}, onProcess, onDocker)
}

func TestFaultPoisonTaskIsDeadLettered(t *testing.T) {
	t.Parallel()
	eachGround(t, func(t *testing.T, s setup) {
		s.size, s.latency, s.flags = 120, 60*time.Millisecond, []string{"-spawner-concurrency", "4"}
		w := newWorld(t, s)
		l := newLedger(w)
		innocent := l.mustSubmit("innocent", 4, func(n *api.NewJob) { n.Priority = 1 })
		// The poison is a task that takes its worker down: whoever holds it is killed.
		j, err := w.client.Create(t.Context(), api.NewJob{
			Name: "poison", Lines: "synthetic:poison 1/4\nsynthetic:poison 2/4\nsynthetic:poison 3/4\nsynthetic:poison 4/4 #!#deadly", MaxAttempts: 3,
		}, "poison")
		if err != nil {
			t.Fatal(err)
		}
		kills := 0
		waitFor(t, "the poisoned job to end", func() bool {
			for _, k := range w.tasks(j.ID) {
				if k.InputID == "deadly" && k.State == job.TaskLeased {
					kills += each(w.workersOf(j.ID), killed)
				}
			}
			now, err := w.client.Job(t.Context(), j.ID)
			return err == nil && now.State.Terminal()
		})
		for _, k := range w.tasks(j.ID) {
			switch {
			case k.InputID == "deadly" && (k.State != job.TaskDead || k.Attempts != 3):
				t.Errorf("the poison is %s after %d attempts, want dead after 3: %s", k.State, k.Attempts, k.Error)
			case k.InputID != "deadly" && k.State != job.TaskDone:
				t.Errorf("innocent task %d is %s: %s", k.ID, k.State, k.Error)
			}
		}
		if j = w.waitTerminal(j.ID); j.State != job.Succeeded || !j.Partial {
			t.Errorf("the poisoned job ended %s, partial %v: want succeeded and partial", j.State, j.Partial)
		}
		l.balance("poison task", kills)
		w.wantAttempts(t, innocent, 1, "the poison touched another job")
	}, onProcess, onDocker)
}

// handBackWithin is what a worker may take after SIGTERM.
const handBackWithin = 10 * time.Second

func TestFaultSigtermHandsBackUncharged(t *testing.T) {
	t.Parallel()
	eachGround(t, func(t *testing.T, s setup) {
		s.size, s.latency, s.flags = 400, 50*time.Millisecond, []string{"-spawner-concurrency", "2"}
		w := newWorld(t, s)
		l := newLedger(w)
		id := l.mustSubmit("sigterm", 6, nil)
		w.waitJob(id, "a worker with a lease", leased)
		first := w.workers()
		if each(first, stopped) == 0 {
			t.Fatal("no worker was stopped")
		}
		within(t, handBackWithin, "the stopped worker to hand back and go", func() bool {
			return slices.ContainsFunc(w.spawns(id), func(x job.Spawn) bool { return x.ID == first[0].spawn && !x.Live() })
		})
		for _, x := range w.spawns(id) {
			if x.ID == first[0].spawn && (x.ExitCode == nil || *x.ExitCode != 0) {
				t.Errorf("the stopped worker ended %s, code %v (%s): want 0", x.Outcome, x.ExitCode, x.Reason)
			}
		}
		waitFor(t, "a second worker", func() bool { return len(w.spawns(id)) > 1 })
		w.manager.terminate(t) // and the whole Manager too: its children go with it, containers do not
		if n := len(w.workers()); n > 0 && s.ground == onProcess {
			t.Errorf("%d workers are left after the Manager's SIGTERM", n)
		}
		w.startManager()
		l.balance("SIGTERM of worker and Manager", 2)
		w.wantAttempts(t, id, 1, "a drain was charged")
	}, onProcess, onDocker, onSwarm)
}

func TestFaultSwarmServiceIsRemovedFromOutside(t *testing.T) {
	t.Parallel()
	eachGround(t, func(t *testing.T, s setup) {
		s.size, s.latency, s.flags = 400, 300*time.Millisecond, []string{"-spawner-concurrency", "2"} // a swarm takes seconds to end a task
		w := newWorld(t, s)
		l := newLedger(w)
		id := l.mustSubmit("removed", 6, nil)
		w.waitJob(id, "a worker with a lease", leased)
		e := w.ground.(*engine)
		removed := 0
		for _, x := range e.services() {
			if err := e.api.ServiceRemove(t.Context(), x.ID); err != nil {
				t.Fatal(err)
			}
			removed++
		}
		l.balance("service removed from outside", removed)
		w.wantAttempts(t, id, 1, "a hand-back was charged")
		if n := len(w.spawns(id)); n < 2 {
			t.Errorf("%d spawns: the job went on without a new worker?", n)
		}
	}, onSwarm)
}

// TestLedgerReportsWhatIsLostWithoutASweep is the proof that the ledger can fail: a Manager that never looks for dead workers loses the
// job of one that is killed, and the ledger says so. On containers the engine tells of a death, sweep or no sweep.
func TestLedgerReportsWhatIsLostWithoutASweep(t *testing.T) {
	t.Parallel()
	eachGround(t, func(t *testing.T, s setup) {
		s.size, s.latency, s.flags = 400, 50*time.Millisecond, []string{"-sweep-interval", "0", "-spawner-concurrency", "1"}
		w := newWorld(t, s)
		l := newLedger(w)
		id := l.mustSubmit("unswept", 6, nil)
		w.waitJob(id, "rows", func(j job.Job) bool { return j.Counts.Leased > 0 && j.Counts.Places > 0 })
		kills := each(w.workers(), killed)
		pause(t.Context(), 5*leaseTTL) // what would have mended it has had its time
		row := l.count("worker killed, sweep off: must lose", kills)
		if j := w.waitJob(id, "been read", func(job.Job) bool { return true }); row.lost == 0 || j.State.Terminal() {
			t.Errorf("nothing is lost and the job is %s: either the sweep is not off or the ledger is blind", j.State)
		}
	}, onProcess)
}
