package manager

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"gmaps-scraper/job"
	"gmaps-scraper/spawner"
	"gmaps-scraper/store"
)

func TestReconcilerStartsAWorkerForAJob(t *testing.T) {
	t.Parallel()
	c := newTrial(t, func(cfg *reconcilerConfig, _ *scripted) {
		cfg.Reach = reach(Reach{
			ManagerURL: "http://manager:8080", Secrets: map[string]string{"GMAPS_REDIS_PASSWORD": "s3cret"},
			Env: map[string]string{"GMAPS_MAPS_URL": "http://maps", "GMAPS_SPAWN_ID": "not this"},
		})
		cfg.Args = []string{"-log-level", "debug"}
	})
	id := c.job(func(s *job.Spec) { s.Priority = 7 })
	c.tick()
	row := c.wantSpawn(c.spawn(id).ID, job.SpawnStarted, "")
	want := spawner.Spec{
		Name: row.Name(), SpawnID: string(row.ID), JobID: string(id), Priority: 7,
		Args: []string{"-worker", "-log-level", "debug"},
		Env: map[string]string{
			"GMAPS_MAPS_URL": "http://maps", "GMAPS_MANAGER_URL": "http://manager:8080", "GMAPS_SPAWN_ID": string(row.ID),
			"GMAPS_CONCURRENCY": "4", "JOB_ID": string(id), "JOB_PRIORITY": "7",
		},
		Secrets: map[string]string{"GMAPS_REDIS_PASSWORD": "s3cret", "GMAPS_WORKER_TOKEN": "gw_" + string(row.ID)},
	}
	if diff := cmp.Diff(want, c.b.workers[0].spec); diff != "" {
		t.Errorf("spec (-want +got):\n%s", diff)
	}
	c.ticks(20 * time.Second)
	if n := c.b.created(); n != 1 {
		t.Errorf("%d creates, want 1", n)
	}
}

// The Manager dies after the create and before recording it.
func TestWorkerWhoseStartWasNotRecordedIsAdopted(t *testing.T) {
	t.Parallel()
	c := newTrial(t, nil)
	id := c.job()
	planned, err := c.store.PlanSpawns(t.Context(), store.Plan{Backend: "scripted", Concurrency: 4})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.b.Create(t.Context(), c.r.spec(planned[0], c.getJob(id), Reach{})); err != nil {
		t.Fatal(err)
	}
	c.restart()
	c.ticks(10 * time.Second)
	row := c.wantSpawn(planned[0].ID, job.SpawnStarted, "")
	if row.ExternalID == "" || len(c.spawns(id)) != 1 || len(c.b.running()) != 1 || c.b.created() != 1 {
		t.Errorf("row %+v, %d rows, running %v, %d creates; want one of each", row, len(c.spawns(id)), c.b.running(), c.b.created())
	}
}

// The Manager dies after the row and before the create.
func TestPendingRowWithoutWorkerIsCreated(t *testing.T) {
	t.Parallel()
	c := newTrial(t, nil)
	id := c.job()
	planned, err := c.store.PlanSpawns(t.Context(), store.Plan{Backend: "scripted", Concurrency: 4})
	if err != nil {
		t.Fatal(err)
	}
	c.restart()
	c.tick()
	c.wantSpawn(planned[0].ID, job.SpawnStarted, "")
	if len(c.spawns(id)) != 1 || len(c.b.running()) != 1 {
		t.Errorf("%d rows, running %v; want one", len(c.spawns(id)), c.b.running())
	}
}

func TestEvidenceIsStoredBeforeItIsRemoved(t *testing.T) {
	t.Parallel()
	c := newTrial(t, nil)
	row := c.running()
	removed := false
	c.b.onRemove = func(spawner.Worker) {
		removed = true
		got := c.wantSpawn(row.ID, job.SpawnEnded, job.Exited)
		if got.ExitCode == nil || *got.ExitCode != 137 || got.LogTail != "last words\n" || !strings.Contains(got.Reason, "memory") {
			t.Errorf("at removal the row has %+v, want code, log and reason", got)
		}
	}
	c.b.exit(row.ID, spawner.Exit{Code: 137, LogTail: "last words\n", Detail: "out of memory"})
	c.tick()
	if !removed {
		t.Error("the worker was not removed")
	}
}

func TestWithoutAutoRemoveRemainsAreKeptAndReadOnce(t *testing.T) {
	t.Parallel()
	c := newTrial(t, func(cfg *reconcilerConfig, _ *scripted) { cfg.AutoRemove = false })
	row := c.running()
	c.rows().setState(row.JobID, job.Succeeded)
	c.b.exit(row.ID, spawner.Exit{})
	c.ticks(time.Minute)
	c.wantSpawn(row.ID, job.SpawnEnded, job.Exited)
	if len(c.b.workers) != 1 || c.b.collects != 1 {
		t.Errorf("%d workers kept, %d collects; want 1 and 1", len(c.b.workers), c.b.collects)
	}
}

func TestUnreadableEvidenceDoesNotHoldUpTheEnd(t *testing.T) {
	t.Parallel()
	c := newTrial(t, nil)
	row := c.running()
	c.b.set(func() { c.b.collectErr = errors.New("log driver cannot read") })
	c.b.exit(row.ID, spawner.Exit{Code: 1})
	c.ticks(30 * time.Second)
	got := c.wantSpawn(row.ID, job.SpawnEnded, job.Exited)
	if !strings.Contains(got.Reason, "log driver cannot read") {
		t.Errorf("reason %q, want why there is no evidence", got.Reason)
	}
}

func TestStrayWorkerIsReapedAtTheSecondSighting(t *testing.T) {
	t.Parallel()
	for name, stray := range map[string]func(*trial) spawner.Worker{
		"without a row": func(*trial) spawner.Worker {
			return spawner.Worker{ID: "stray", Name: "gmaps-worker-x", SpawnID: "x", Running: true}
		},
		"whose row has ended": func(c *trial) spawner.Worker {
			row := c.running()
			c.b.vanish(row.ID)
			c.rows().setState(row.JobID, job.Succeeded)
			c.ticks(2 * lingering)
			c.wantSpawn(row.ID, job.SpawnEnded, job.Stopped)
			return spawner.Worker{ID: "stray", Name: row.Name(), SpawnID: string(row.ID), Running: true}
		},
		"second of a live row": func(c *trial) spawner.Worker {
			row := c.running()
			return spawner.Worker{ID: "stray", Name: row.Name(), SpawnID: string(row.ID), Running: true}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := newTrial(t, nil)
			w := stray(c)
			others := len(c.b.running())
			c.b.add(w)
			c.tick()
			c.tick() // rung: too soon to be a second sighting
			if slices.Contains(c.b.stops, w.ID) {
				t.Error("stopped at first sight")
			}
			c.ticks(2 * c.cfg.Interval)
			if !slices.Contains(c.b.stops, w.ID) || len(c.b.running()) != others {
				t.Errorf("stopped %v, running %v; want the stray gone and no other", c.b.stops, c.b.running())
			}
		})
	}
}

// A service removed from outside leaves its worker ten seconds to hand back what it has.
func TestVanishedWorkerIsEndedOnceItCannotBeHandingBack(t *testing.T) {
	t.Parallel()
	c := newTrial(t, nil)
	row := c.running()
	c.b.vanish(row.ID)
	c.tick()
	c.tick()
	c.wantSpawn(row.ID, job.SpawnRunning, "")
	c.ticks(stopGrace)
	c.wantSpawn(row.ID, job.SpawnRunning, "")
	c.ticks(c.cfg.Interval)
	c.wantSpawn(row.ID, job.SpawnEnded, job.Vanished)
	if c.rows().ends[row.ID].GaveBack {
		t.Error("its tasks were given back: they may be what killed it")
	}
	if n := len(c.b.running()); n != 1 {
		t.Errorf("%d workers run, want the next one", n)
	}
}

func TestUnlistedWorkerThatSpeaksHasNotVanished(t *testing.T) {
	t.Parallel()
	c := newTrial(t, nil)
	row := c.running()
	c.b.vanish(row.ID)
	for range 20 {
		c.pass(time.Second)
		c.touch(row.ID)
		c.tick()
	}
	c.wantSpawn(row.ID, job.SpawnRunning, "")
}

func TestWorkerThatNeverSpeaksIsStoppedAndCounts(t *testing.T) {
	t.Parallel()
	c := newTrial(t, nil)
	id := c.job()
	c.tick()
	row := c.spawn(id)
	c.ticks(28 * time.Second)
	c.wantSpawn(row.ID, job.SpawnStarted, "")
	c.ticks(4 * time.Second)
	got := c.wantSpawn(row.ID, job.SpawnEnded, job.NeverLeased)
	if got.LogTail == "" || !strings.Contains(got.Reason, "-spawner-manager-url") {
		t.Errorf("row has log %q, reason %q; want evidence and a mend", got.LogTail, got.Reason)
	}
	if s := c.r.Status(); s.Failures["never_joined"] != 1 || s.Breaker == "" {
		t.Errorf("status %+v: want one failure never_joined", s)
	}
	if a := c.getJob(id).Counts; a.Dead != 0 || a.Open != 1 {
		t.Errorf("counts %+v: the job was charged", a)
	}
}

// A swarm takes a service whose task it can place on no node, and waits.
func TestWorkerThatNeverRanSaysWhatItsBackendKnows(t *testing.T) {
	t.Parallel()
	c := newTrial(t, nil)
	c.b.unplaced = "no suitable node"
	id := c.job()
	c.tick()
	row := c.spawn(id)
	c.ticks(32 * time.Second)
	if got := c.wantSpawn(row.ID, job.SpawnEnded, job.NeverLeased); got.Reason != "no suitable node" {
		t.Errorf("reason %q, want the backend's", got.Reason)
	}
}

func TestSilentWorkerIsStopped(t *testing.T) {
	t.Parallel()
	c := newTrial(t, nil)
	row := c.running()
	c.ticks(88 * time.Second)
	c.wantSpawn(row.ID, job.SpawnRunning, "")
	c.ticks(4 * time.Second)
	c.wantSpawn(row.ID, job.SpawnEnded, job.Silent)
	if !slices.Contains(c.b.stops, spawner.ID(row.ExternalID)) {
		t.Errorf("stopped %v, want %s too", c.b.stops, row.ExternalID)
	}
}

// With leases as short as the interval no tick may take itself for one after an absence: it would forget each silence.
func TestSilentWorkerIsStoppedUnderShortLeasesToo(t *testing.T) {
	t.Parallel()
	c := newTrial(t, func(cfg *reconcilerConfig, _ *scripted) { cfg.LeaseTTL = cfg.Interval })
	row := c.running()
	c.ticks(58 * time.Second)
	c.wantSpawn(row.ID, job.SpawnRunning, "")
	c.ticks(4 * time.Second)
	c.wantSpawn(row.ID, job.SpawnEnded, job.Silent)
}

// Workers cannot speak to a Manager that is away: its absence is not their silence.
func TestAbsenceOfTheManagerIsNotTheWorkersSilence(t *testing.T) {
	t.Parallel()
	for name, back := range map[string]func(*trial){
		"stopped":   func(*trial) {},
		"restarted": (*trial).restart,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := newTrial(t, nil)
			row := c.running()
			c.pass(10 * time.Minute)
			back(c)
			c.ticks(20 * time.Second)
			c.wantSpawn(row.ID, job.SpawnRunning, "")
		})
	}
}

func TestBackendThatCannotListReliesOnRows(t *testing.T) {
	t.Parallel()
	c := newTrial(t, func(_ *reconcilerConfig, b *scripted) { b.listErr = errors.ErrUnsupported })
	silent, mute := c.running(), c.job()
	c.tick()
	never := c.spawn(mute)
	c.ticks(20 * time.Second)
	c.wantSpawn(never.ID, job.SpawnStarted, "")
	c.ticks(12 * time.Second)
	c.wantSpawn(never.ID, job.SpawnEnded, job.NeverLeased)
	c.wantSpawn(silent.ID, job.SpawnRunning, "")
	c.ticks(70 * time.Second)
	c.wantSpawn(silent.ID, job.SpawnEnded, job.Silent)
}

func TestCancelWhereStopIsUnsupportedIsToldByRefusal(t *testing.T) {
	t.Parallel()
	c := newTrial(t, func(_ *reconcilerConfig, b *scripted) { b.listErr = errors.ErrUnsupported })
	row := c.running()
	c.rows().setState(row.JobID, job.Cancelled)
	c.ticks(20 * time.Second)
	c.wantSpawn(row.ID, job.SpawnStopping, "")
	c.ticks(100 * time.Second)
	c.wantSpawn(row.ID, job.SpawnEnded, job.Stopped)
}

func TestBackendThatDoesNotAnswerEndsNobody(t *testing.T) {
	t.Parallel()
	c := newTrial(t, nil)
	row, waits := c.running(), c.job()
	creates := c.b.created()
	c.b.set(func() { c.b.listErr = errors.New("dial unix /var/run/docker.sock: connect: connection refused") })
	for range 15 {
		c.pass(c.cfg.Interval)
		if err := c.r.tick(t.Context()); err == nil {
			t.Fatal("tick: no error")
		}
	}
	if got := c.getJob(waits).Waiting; !strings.Contains(got, "docker.sock") {
		t.Errorf("job waits for %q, want the backend's error", got)
	}
	if got := c.getJob(row.JobID).Waiting; got != "" {
		t.Errorf("job with a worker waits for %q", got)
	}
	c.wantSpawn(row.ID, job.SpawnRunning, "")
	if c.b.created() != creates {
		t.Error("workers were created blindly")
	}
	c.b.set(func() { c.b.listErr = nil })
	c.ticks(4 * time.Second)
	c.wantSpawn(row.ID, job.SpawnRunning, "")
	c.wantSpawn(c.spawn(waits).ID, job.SpawnStarted, "")
	if got := c.getJob(waits).Waiting; got != "" {
		t.Errorf("job waits for %q still", got)
	}
}

func TestWorkersOfAJobThatIsOverAreStopped(t *testing.T) {
	t.Parallel()
	for state, after := range map[job.State]time.Duration{job.Cancelled: 0, job.Paused: 0, job.Succeeded: lingering, job.Failed: lingering} {
		t.Run(string(state), func(t *testing.T) {
			t.Parallel()
			c := newTrial(t, nil)
			row := c.running()
			c.rows().setState(row.JobID, state)
			c.tick()
			if after > 0 {
				c.wantSpawn(row.ID, job.SpawnRunning, "") // it notices by itself
				c.ticks(after)
			}
			got := c.wantSpawn(row.ID, job.SpawnEnded, job.Stopped)
			if !strings.Contains(got.Reason, string(state)) || !c.rows().ends[row.ID].GaveBack {
				t.Errorf("reason %q, gave back %v; want the job's state, and no charge", got.Reason, c.rows().ends[row.ID].GaveBack)
			}
			c.ticks(10 * time.Second)
			if len(c.b.workers) != 0 {
				t.Errorf("left: %v", c.b.running())
			}
		})
	}
}

func TestPendingSpawnOfACancelledJobIsNeverCreated(t *testing.T) {
	t.Parallel()
	c := newTrial(t, nil)
	id := c.job()
	planned, err := c.store.PlanSpawns(t.Context(), store.Plan{Backend: "scripted", Concurrency: 4})
	if err != nil {
		t.Fatal(err)
	}
	c.rows().setState(id, job.Cancelled)
	c.tick()
	c.wantSpawn(planned[0].ID, job.SpawnEnded, job.Stopped)
	if c.b.created() != 0 {
		t.Error("a worker was created")
	}
}

func TestInterruptedStopIsTakenUpByTheNextManager(t *testing.T) {
	t.Parallel()
	c := newTrial(t, nil)
	row := c.running()
	if err := c.store.SpawnStopping(t.Context(), row.ID, "its job is paused"); err != nil {
		t.Fatal(err)
	}
	c.restart()
	c.tick()
	c.wantSpawn(row.ID, job.SpawnEnded, job.Stopped)
}

func TestStandingWorkerThatFallsSilentIsEnded(t *testing.T) {
	t.Parallel()
	c := newTrial(t, func(cfg *reconcilerConfig, _ *scripted) { cfg.Spawner = nil })
	id := c.job()
	c.tick()
	if got := c.getJob(id).Waiting; !strings.Contains(got, "gmaps-scraper -worker -manager-url http://manager:8080") {
		t.Errorf("without workers the job waits for %q, want the command that starts one", got)
	}
	row, err := c.store.JoinStanding(t.Context(), "nonce", 4)
	if err != nil {
		t.Fatal(err)
	}
	c.ticks(4 * time.Second)
	if got := c.getJob(id).Waiting; got != "" {
		t.Errorf("with a standing worker the job waits for %q", got)
	}
	c.ticks(80 * time.Second)
	c.wantSpawn(row.ID, job.SpawnRunning, "")
	c.ticks(10 * time.Second)
	c.wantSpawn(row.ID, job.SpawnEnded, job.Silent)
}

// 1,000 jobs at cap 4: the cap holds at any time, and who is more urgent goes first.
func TestThousandJobsUnderACapOfFour(t *testing.T) {
	t.Parallel()
	c := newTrial(t, func(cfg *reconcilerConfig, _ *scripted) { cfg.MaxWorkers = 4 })
	for i := range 1000 {
		c.job(func(s *job.Spec) { s.Priority = i % 11 })
	}
	most := 0
	c.b.onCreate = func(spawner.Worker) {
		n := 0
		for _, w := range c.b.workers {
			if w.Running {
				n++
			}
		}
		most = max(most, n)
	}
	c.tick()
	c.tick()
	last := c.getJob(c.rows().order[0])
	if want := "all 4 workers are busy: waits for a free one (-spawner-max-workers 4)"; last.Waiting != want {
		t.Errorf("a job that waits says %q, want %q", last.Waiting, want)
	}
	for range 1000 {
		live, err := c.store.Spawns(t.Context(), store.SpawnFilter{Backend: "scripted", Live: true, Limit: 100})
		if err != nil {
			t.Fatal(err)
		}
		for _, row := range live {
			if row.State == job.SpawnStarted {
				c.join(row.ID)
				c.rows().setState(row.JobID, job.Succeeded)
				c.b.exit(row.ID, spawner.Exit{})
			}
		}
		if len(live) == 0 {
			break
		}
		c.tick()
		c.tick()
	}
	if most > 4 || c.rows().peak > 4 {
		t.Errorf("at most %d workers and %d rows at once, want 4", most, c.rows().peak)
	}
	if n := len(c.rows().planned); n != 1000 {
		t.Fatalf("%d spawns planned, want 1000", n)
	}
	was := 10
	for i, id := range c.rows().planned {
		p := c.getJob(id).Spec.Priority
		if p > was {
			t.Fatalf("spawn %d is of priority %d, after one of %d", i, p, was)
		}
		was = p
	}
	for id, texts := range c.rows().events {
		if len(texts) > 2 {
			t.Fatalf("job %s has %d waiting events: %q", id, len(texts), texts)
		}
	}
}

func TestCeilingOfTheBackendHoldsWithoutACap(t *testing.T) {
	t.Parallel()
	c := newTrial(t, func(_ *reconcilerConfig, b *scripted) { b.limits.MaxWorkers = 3 })
	var last job.ID
	for range 5 {
		last = c.job()
	}
	c.ticks(20 * time.Second)
	if n := len(c.b.running()); n != 3 {
		t.Errorf("%d workers run, want 3", n)
	}
	if got := c.getJob(last).Waiting; !strings.Contains(got, "all 3 workers are busy") || !strings.Contains(got, "ceiling") {
		t.Errorf("the job waits for %q", got)
	}
}

// Kills the reconciler at random points of random histories: never two workers of a spawn, never more than the cap, and in
// the end every job has been served and nothing is left.
func TestRestartsAtAnyPointKeepTheLedger(t *testing.T) {
	t.Parallel()
	for seed := range 50 {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			newHistory(t, uint64(seed)).run()
		})
	}
}

// running returns the spawn of a new job whose worker has joined.
func (c *trial) running() job.Spawn {
	c.Helper()
	id := c.job()
	c.tick()
	c.join(c.spawn(id).ID)
	c.tick()
	return c.wantSpawn(c.spawn(id).ID, job.SpawnRunning, "")
}

func TestSecondWorkerOfASpawnIsTheOneThatIsNotOnRecord(t *testing.T) {
	t.Parallel()
	c := newTrial(t, nil)
	row := c.running()
	c.b.set(func() {
		second := &scriptedWorker{Worker: spawner.Worker{ID: "second", Name: row.Name(), SpawnID: string(row.ID), Running: true}}
		c.b.workers = slices.Insert(c.b.workers, 0, second)
	})
	c.ticks(3 * c.cfg.Interval)
	if diff := cmp.Diff([]spawner.ID{"second"}, c.b.stops); diff != "" {
		t.Errorf("stopped (-want +got):\n%s", diff)
	}
	c.wantSpawn(row.ID, job.SpawnRunning, "")
}

func TestWorkerThatEndsWhileStoppingIsNotCharged(t *testing.T) {
	t.Parallel()
	c := newTrial(t, nil)
	row := c.running()
	if err := c.store.SpawnStopping(t.Context(), row.ID, "its job is paused"); err != nil {
		t.Fatal(err)
	}
	c.b.exit(row.ID, spawner.Exit{Code: 137})
	c.tick()
	c.wantSpawn(row.ID, job.SpawnEnded, job.Stopped)
	if !c.rows().ends[row.ID].GaveBack {
		t.Error("the stop was charged")
	}
}
