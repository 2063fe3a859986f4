package manager

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"gmaps-scraper/api"
	"gmaps-scraper/job"
	"gmaps-scraper/spawner"
	"gmaps-scraper/store"
)

const lifetime = 15 * time.Minute

// newUnlisted is a trial of a backend that can neither list nor stop, as Lambda.
func newUnlisted(t *testing.T, change func(*scripted)) *trial {
	t.Helper()
	return newTrial(t, func(_ *reconcilerConfig, b *scripted) {
		b.listErr, b.pointer = errors.ErrUnsupported, "see the log group"
		b.limits = spawner.Limits{MaxWorkers: 1, Flag: "spawner-lambda-max-conc", Creates: 4, JoinDeadline: 30 * time.Second, Lifetime: lifetime, USDPerSecond: 0.01}
		if change != nil {
			change(b)
		}
	})
}

// The invocation of a worker that fell silent runs on, for all that we know.
func TestSilentWorkerThatCannotBeStoppedHoldsItsPlaceUnderTheCap(t *testing.T) {
	t.Parallel()
	c := newUnlisted(t, nil)
	row := c.running()
	c.ticks(92 * time.Second)
	got := c.wantSpawn(row.ID, job.SpawnEnded, job.Silent)
	if want := got.JoinedAt.Add(lifetime); !got.MayRunUntil.Equal(want) {
		t.Fatalf("may run until %v, want %v", got.MayRunUntil, want)
	}
	if got.LogTail != "see the log group" {
		t.Errorf("log tail %q, want the pointer", got.LogTail)
	}
	c.restart() // what a Manager remembers is not what holds
	c.ticks(5 * time.Minute)
	if n := c.b.created(); n != 1 {
		t.Fatalf("%d workers were started under a cap of 1 while the first may run", n)
	}
	if w := c.getJob(row.JobID).Waiting; !strings.Contains(w, "-spawner-lambda-max-conc 1") {
		t.Errorf("the job waits for %q, want the cap's flag", w)
	}
	c.ticks(lifetime - 5*time.Minute)
	if n := c.b.created(); n < 2 {
		t.Errorf("%d workers were started once the first cannot run any more, want the second too", n)
	}
}

func TestJobOfASilentWorkerGetsAnotherAtOnceUnderTheCap(t *testing.T) {
	t.Parallel()
	c := newUnlisted(t, func(b *scripted) { b.limits.MaxWorkers = 2 })
	row := c.running()
	c.ticks(92 * time.Second)
	c.wantSpawn(row.ID, job.SpawnEnded, job.Silent)
	if n := c.b.created(); n != 2 {
		t.Errorf("%d workers were started, want the silent one's successor too", n)
	}
}

func TestMaxWorkersCanOnlyLowerTheBackendsOwnCap(t *testing.T) {
	t.Parallel()
	for max, want := range map[int]int{0: 3, 2: 2, 500: 3} {
		c := newTrial(t, func(cfg *reconcilerConfig, b *scripted) {
			b.limits = spawner.Limits{MaxWorkers: 3, Flag: "spawner-lambda-max-conc", Creates: 9, Lifetime: lifetime}
			cfg.MaxWorkers = max
		})
		for range 5 {
			c.job()
		}
		c.tick()
		if n := c.b.created(); n != want {
			t.Errorf("with -spawner-max-workers %d: %d workers, want %d", max, n, want)
		}
	}
}

func TestEventThatIsNeverRunExpiresAndIsSentAgainUncharged(t *testing.T) {
	t.Parallel()
	c := newUnlisted(t, nil)
	id := c.job()
	c.tick()
	row := c.spawn(id)
	c.ticks(32 * time.Second)
	got := c.wantSpawn(row.ID, job.SpawnEnded, job.NeverLeased)
	if got.MayRunUntil.After(c.now()) {
		t.Errorf("it holds its place until %v, though it can be begun no more", got.MayRunUntil)
	}
	c.tick()
	if n := c.b.created(); n != 2 {
		t.Errorf("%d invocations, want a second", n)
	}
	if a := c.getJob(id).Counts; a.Dead != 0 || a.Open != 1 {
		t.Errorf("counts %+v: the job was charged", a)
	}
}

func TestEndThatTheBackendSawIsRecordedAtOnceWithItsEvidence(t *testing.T) {
	t.Parallel()
	c := newUnlisted(t, func(b *scripted) { b.pointer = "" })
	row := c.running()
	c.b.exit(row.ID, spawner.Exit{Code: 1, LogTail: "REPORT", Detail: "timed out", EndedAt: c.now(), CostUSD: 0.25})
	c.tick()
	got := c.wantSpawn(row.ID, job.SpawnEnded, job.Exited)
	if got.ExitCode == nil || *got.ExitCode != 1 || got.LogTail != "REPORT" || got.CostUSD != 0.25 || !got.MayRunUntil.IsZero() {
		t.Errorf("row %+v: want code, log, cost, and no place held", got)
	}
	if c.rows().ends[row.ID].GaveBack {
		t.Error("its tasks are not charged: they may be what ended it")
	}
}

func TestGoodbyeEndsASpawnAtOnce(t *testing.T) {
	t.Parallel()
	c := newUnlisted(t, nil)
	row := c.running()
	end, tells := c.r.goodbye(t.Context(), c.spawn(row.JobID), api.Leave{Ran: job.Duration(100 * time.Second)})
	if tells {
		t.Fatal("the end of an event is told by nobody else")
	}
	if end.Outcome != job.Exited || !end.GaveBack || end.CostUSD != 1 || end.LogTail != "see the log group" || !end.MayRunUntil.IsZero() {
		t.Errorf("end %+v: want exited, given back, 1 USD, the pointer, no place held", end)
	}
	if end, _ = c.r.goodbye(t.Context(), c.spawn(row.JobID), api.Leave{Ran: job.Duration(24 * time.Hour)}); end.CostUSD != 9 {
		t.Errorf("cost %v, want that of the backend's longest run", end.CostUSD)
	}
}

func TestGoodbyeOfAWorkerWhoseEndIsWatchedIsLeftToTheWatch(t *testing.T) {
	t.Parallel()
	c := newUnlisted(t, func(b *scripted) { b.pointer, b.watched = "", true })
	row := c.running()
	if _, tells := c.r.goodbye(t.Context(), c.spawn(row.JobID), api.Leave{}); !tells {
		t.Error("the answer that is about to come holds log and cost: it was not waited for")
	}
	c = newTrial(t, nil)
	row = c.running()
	if _, tells := c.r.goodbye(t.Context(), c.spawn(row.JobID), api.Leave{}); !tells {
		t.Error("a backend that lists its workers tells of their ends")
	}
}

// follower never leads.
type follower struct{}

func (follower) Lead(context.Context) (bool, error) { return false, nil }

// A Manager that led before still holds the call, and records nothing of it any more.
func TestGoodbyeToAManagerThatFollowsIsRecordedAtOnce(t *testing.T) {
	t.Parallel()
	c := newUnlisted(t, func(b *scripted) { b.pointer, b.watched = "", true })
	row := c.running()
	c.cfg.Leader = follower{}
	c.restart()
	c.tick()
	if end, tells := c.r.goodbye(t.Context(), c.spawn(row.JobID), api.Leave{}); tells || !end.MayRunUntil.IsZero() {
		t.Errorf("end %+v, told by the backend %v: want it recorded by the goodbye", end, tells)
	}
}

func TestWorkerThatWasGivenUpFreesItsPlaceWhenItsEndIsSeen(t *testing.T) {
	t.Parallel()
	c := newUnlisted(t, nil)
	row := c.running()
	c.ticks(92 * time.Second)
	c.wantSpawn(row.ID, job.SpawnEnded, job.Silent)
	if n := c.b.created(); n != 1 {
		t.Fatalf("%d workers under a cap of 1", n)
	}
	c.b.exit(row.ID, spawner.Exit{Code: 1, EndedAt: c.now()})
	c.ticks(4 * time.Second)
	if got := c.wantSpawn(row.ID, job.SpawnEnded, job.Silent); !got.MayRunUntil.IsZero() {
		t.Errorf("its place is held until %v", got.MayRunUntil)
	}
	if n := c.b.created(); n != 2 {
		t.Errorf("%d workers were started, want the next one", n)
	}
}

// A worker may join, work and say goodbye between two looks.
func TestBreakerHearsOfWorkersThatEndedBetweenTwoLooks(t *testing.T) {
	t.Parallel()
	for name, worked := range map[string]bool{"worked": true, "failed at once": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := newUnlisted(t, nil)
			id := c.job()
			c.tick()
			if worked {
				c.b.set(func() { c.b.createErr = &spawner.Error{Reason: "throttled", Cause: "throttled", Retry: true} })
				c.rows().setSpawnEnded(c, c.spawn(id).ID, store.SpawnEnd{Outcome: job.NeverLeased, Reason: "x"})
				c.tick() // fails
				c.b.set(func() { c.b.createErr = nil })
				c.ticks(6 * time.Second)
				if c.r.Status().Breaker == "" {
					t.Fatal("no failure is told")
				}
			}
			row := c.spawn(id)
			code, reason := 0, ""
			if worked {
				c.join(row.ID)
			} else {
				code, reason = 1, "the Manager refuses this worker"
			}
			c.rows().setSpawnEnded(c, row.ID, store.SpawnEnd{Outcome: job.Exited, ExitCode: &code, Reason: reason})
			c.tick()
			if got := c.r.Status().Breaker; (got == "") != worked {
				t.Errorf("breaker says %q, worked %v", got, worked)
			}
		})
	}
}

// setSpawnEnded is what a goodbye brings about.
func (s *rowStore) setSpawnEnded(c *trial, id job.SpawnID, e store.SpawnEnd) {
	c.Helper()
	if err := s.SpawnEnded(c.Context(), id, e); err != nil {
		c.Fatal(err)
	}
}
