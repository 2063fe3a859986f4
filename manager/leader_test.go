package manager

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"gmaps-scraper/job"
	"gmaps-scraper/spawner"
)

// vote is a Leader whose answer a test gives.
type vote struct{ lead atomic.Bool }

func (v *vote) Lead(context.Context) (bool, error) { return v.lead.Load(), nil }

func TestFollowerNeitherSpawnsNorSweeps(t *testing.T) {
	t.Parallel()
	var v vote
	c := newTrial(t, func(cfg *reconcilerConfig, _ *scripted) { cfg.Leader = &v })
	c.job()
	c.ticks(20 * time.Second)
	if err := c.r.sweeper.sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := c.b.created(); n != 0 || len(c.rows().sweeps) != 0 {
		t.Errorf("a follower made %d creates and swept %q", n, c.rows().sweeps)
	}
	if !c.r.Status().Following {
		t.Error("the status does not say that it follows")
	}
	v.lead.Store(true)
	c.tick()
	if err := c.r.sweeper.sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := c.b.created(); n != 1 || strings.Join(c.rows().sweeps, " ") != "extend expire" {
		t.Errorf("the new leader made %d creates and swept %q, want 1 and the leases extended first", n, c.rows().sweeps)
	}
}

// What one saw before another led is no evidence against a worker: it spoke to others meanwhile.
func TestLeaderAgainHoldsNoSilenceAgainstWorkers(t *testing.T) {
	t.Parallel()
	var v vote
	v.lead.Store(true)
	c := newTrial(t, func(cfg *reconcilerConfig, _ *scripted) { cfg.Leader = &v })
	id := c.job()
	c.tick()
	s := c.spawn(id).ID
	c.join(s)
	c.tick()
	v.lead.Store(false)
	c.ticks(10 * time.Minute)
	v.lead.Store(true)
	c.tick()
	c.wantSpawn(s, job.SpawnRunning, "")
}

// watched is a backend that tells of changes.
type watched struct {
	*scripted
	changed chan func()
}

func (w watched) Watch(ctx context.Context, changed func()) error {
	w.changed <- changed
	<-ctx.Done()
	return ctx.Err()
}

func TestExitIsSeenWhenTheBackendTellsIt(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		backend := watched{changed: make(chan func(), 1)}
		c := newTrial(t, func(cfg *reconcilerConfig, b *scripted) {
			backend.scripted = b
			cfg.Spawner, cfg.Interval, cfg.now = backend, time.Hour, time.Now
			cfg.LeaseTTL = 24 * time.Hour
		})
		id := c.job()
		ctx, cancel := withCancel(t)
		done := make(chan error, 1)
		go func() { done <- c.r.Run(ctx) }()
		changed := <-backend.changed
		synctest.Wait()
		s := c.spawn(id).ID
		c.join(s)
		c.b.exit(s, spawner.Exit{Code: 0})
		begun := time.Now()
		changed()
		synctest.Wait()
		if got := c.wantSpawn(s, job.SpawnEnded, job.Exited); got.ExitCode == nil || time.Since(begun) > time.Minute {
			t.Errorf("the exit was recorded as %+v after %s", got, time.Since(begun))
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// Where the way to the Manager is not known, no worker is started in vain, and the job says so.
func TestStartWaitsForAWayToTheManager(t *testing.T) {
	t.Parallel()
	lost := &spawner.Error{Op: "route", Reason: "network gmaps-network not found", Mend: "docker network create gmaps-network", Cause: "network"}
	var found atomic.Bool
	c := newTrial(t, func(cfg *reconcilerConfig, _ *scripted) {
		cfg.Reach = func(context.Context) (Reach, error) {
			if !found.Load() {
				return Reach{}, lost
			}
			return Reach{ManagerURL: "http://172.18.0.1:8080"}, nil
		}
	})
	id := c.job()
	c.ticks(6 * time.Second)
	if j := c.getJob(id); c.b.created() != 0 || !strings.Contains(j.Waiting, lost.Error()) || c.r.Status().Failures["network"] == 0 {
		t.Errorf("%d creates, the job waits for %q, want none and %q", c.b.created(), j.Waiting, lost)
	}
	found.Store(true)
	c.ticks(6 * time.Second)
	if c.b.created() != 1 || c.b.workers[0].spec.Env["GMAPS_MANAGER_URL"] != "http://172.18.0.1:8080" {
		t.Errorf("%d creates, %+v", c.b.created(), c.b.workers)
	}
}

// A Manager that is started with another backend must not wait for ever for workers that nobody looks after any more.
func TestSilentWorkersOfAnotherBackendAreEnded(t *testing.T) {
	t.Parallel()
	c := newTrial(t, nil)
	id := c.job()
	c.tick()
	old := c.spawn(id)
	c.join(old.ID)
	c.cfg.Spawner = &scripted{name: "another", now: c.now, limits: c.b.limits, hang: map[string]bool{}}
	c.restart()
	for range 30 {
		c.ticks(2 * time.Second)
		c.touch(old.ID)
	}
	c.wantSpawn(old.ID, job.SpawnRunning, "")
	c.ticks(2 * c.r.silence())
	c.wantSpawn(old.ID, job.SpawnEnded, job.Silent)
	if next := c.spawn(id); next.Backend != "another" {
		t.Errorf("the job's last worker is of backend %s", next.Backend)
	}
}

// Why a worker was stopped must not be forgotten when stopping it takes more than one try.
func TestVerdictOutlivesAStopThatTakesLong(t *testing.T) {
	t.Parallel()
	c := newTrial(t, nil)
	id := c.job()
	c.tick()
	row := c.spawn(id)
	c.b.set(func() { c.b.collectErr = errors.New("engine breaks off") })
	c.ticks(32 * time.Second)
	c.wantSpawn(row.ID, job.SpawnStopping, "")
	c.b.set(func() { c.b.collectErr = nil })
	c.ticks(4 * time.Second)
	got := c.wantSpawn(row.ID, job.SpawnEnded, job.NeverLeased)
	if got.ExitCode == nil || got.LogTail == "" {
		t.Errorf("its evidence is lost: %+v", got)
	}
	if c.r.Status().Failures["never_joined"] != 1 {
		t.Errorf("failures %v, want the start counted as failed", c.r.Status().Failures)
	}
}

func TestBreakerIsForgottenWhileAnotherLeads(t *testing.T) {
	t.Parallel()
	var v vote
	v.lead.Store(true)
	c := newTrial(t, func(cfg *reconcilerConfig, b *scripted) { cfg.Leader, b.createErr = &v, errImage })
	c.job()
	c.ticks(20 * time.Second)
	if c.r.Status().Breaker == "" {
		t.Fatal("no start has failed")
	}
	v.lead.Store(false)
	c.tick()
	if got := c.r.Status(); got.Breaker != "" || !got.BackoffUntil.IsZero() {
		t.Errorf("a follower still tells of %q", got.Breaker)
	}
}
