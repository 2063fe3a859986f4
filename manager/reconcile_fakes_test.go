package manager

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	"gmaps-scraper/gmaps"
	"gmaps-scraper/job"
	"gmaps-scraper/spawner"
	"gmaps-scraper/store"
	"gmaps-scraper/wakeup"
)

// scripted is a backend in memory whose faults a test switches on.
type scripted struct {
	name string // of the backend
	now  func() time.Time

	mu         sync.Mutex
	limits     spawner.Limits
	workers    []*scriptedWorker
	creates    []string // names asked for, in order
	stops      []spawner.ID
	collects   int
	createErr  error
	listErr    error
	collectErr error
	watched    bool   // the backend is going to see ends
	pointer    string // to the evidence of workers whose end the backend does not see
	unplaced   string // why workers are kept from running at all
	// hang makes Create of these spawns wait for its deadline, having started the worker (true) or not.
	hang     map[string]bool
	onRemove func(spawner.Worker)
	onCreate func(spawner.Worker)
}

type scriptedWorker struct {
	spawner.Worker
	spec spawner.Spec
	exit spawner.Exit
}

func (b *scripted) Backend() string             { return b.name }
func (b *scripted) Limits() spawner.Limits      { return b.limits }
func (b *scripted) Check(context.Context) error { return nil }

func (b *scripted) Create(ctx context.Context, spec spawner.Spec) (spawner.Worker, error) {
	b.mu.Lock()
	b.creates = append(b.creates, spec.Name)
	starts, hangs := b.hang[spec.SpawnID]
	if !hangs {
		starts, hangs = b.hang["*"]
	}
	w, err := b.start(spec, starts || !hangs)
	b.mu.Unlock()
	if hangs {
		<-ctx.Done()
		return spawner.Worker{}, ctx.Err()
	}
	return w, err
}

func (b *scripted) start(spec spawner.Spec, starts bool) (spawner.Worker, error) {
	if b.createErr != nil || !starts {
		return spawner.Worker{}, b.createErr
	}
	for _, w := range b.workers {
		if w.Name == spec.Name {
			return w.Worker, nil
		}
	}
	w := spawner.Worker{ID: spawner.ID("ext-" + spec.SpawnID), Name: spec.Name, SpawnID: spec.SpawnID, JobID: spec.JobID, Running: true, CreatedAt: b.now()}
	b.workers = append(b.workers, &scriptedWorker{Worker: w, spec: spec})
	if b.onCreate != nil {
		b.onCreate(w)
	}
	return w, nil
}

func (b *scripted) List(context.Context) ([]spawner.Worker, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	var list []spawner.Worker
	for _, w := range b.workers {
		list = append(list, w.Worker)
	}
	return list, b.listErr
}

func (b *scripted) Stop(_ context.Context, id spawner.ID, _ time.Duration) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if errors.Is(b.listErr, errors.ErrUnsupported) {
		return errors.ErrUnsupported
	}
	b.stops = append(b.stops, id)
	for _, w := range b.workers {
		if w.ID == id && w.Running {
			w.Running, w.exit = false, spawner.Exit{Code: 0, LogTail: "asked to stop\n", EndedAt: b.now()}
			if b.unplaced != "" {
				w.exit = spawner.Exit{Code: -1, Detail: b.unplaced, EndedAt: b.now()}
			}
		}
	}
	return nil
}

func (b *scripted) Collect(_ context.Context, id spawner.ID) (spawner.Exit, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.collects++
	if b.collectErr != nil {
		return spawner.Exit{}, b.collectErr
	}
	for _, w := range b.workers {
		if w.ID == id && !w.Running {
			return w.exit, nil
		}
	}
	if b.pointer != "" {
		return spawner.Exit{Code: -1, LogTail: b.pointer}, nil
	}
	return spawner.Exit{}, &spawner.Error{Op: "collect", Reason: "no ended worker " + string(id), Cause: "name", Retry: b.watched}
}

func (b *scripted) Remove(_ context.Context, id spawner.ID) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.workers = slices.DeleteFunc(b.workers, func(w *scriptedWorker) bool {
		if w.ID != id || w.Running {
			return false
		}
		if b.onRemove != nil {
			b.onRemove(w.Worker)
		}
		return true
	})
	return nil
}

// exit ends a worker by itself.
func (b *scripted) exit(id job.SpawnID, e spawner.Exit) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, w := range b.workers {
		if w.SpawnID == string(id) {
			w.Running, w.exit = false, e
		}
	}
}

// vanish removes a worker behind everybody's back.
func (b *scripted) vanish(id job.SpawnID) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.workers = slices.DeleteFunc(b.workers, func(w *scriptedWorker) bool { return w.SpawnID == string(id) })
}

func (b *scripted) add(w spawner.Worker) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.workers = append(b.workers, &scriptedWorker{Worker: w})
}

func (b *scripted) set(change func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	change()
}

func (b *scripted) running() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	var names []string
	for _, w := range b.workers {
		if w.Running {
			names = append(names, w.Name)
		}
	}
	return names
}

func (b *scripted) created() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.creates)
}

// trial is a reconciler with a store, a scripted backend and a clock of the test's own.
type trial struct {
	*testing.T
	r     *reconciler
	cfg   reconcilerConfig
	store store.Store
	b     *scripted
	mu    sync.Mutex
	clock time.Time
}

func newTrial(t *testing.T, change func(*reconcilerConfig, *scripted)) *trial {
	t.Helper()
	c := &trial{T: t, clock: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)}
	c.store = reconcilerStore(t, c.now)
	c.b = &scripted{name: "scripted", now: c.now, limits: spawner.Limits{MaxWorkers: 8, Creates: 4, JoinDeadline: 30 * time.Second}, hang: map[string]bool{}}
	c.cfg = reconcilerConfig{
		Store: c.store, Spawner: c.b, Bell: &wakeup.Memory{}, AutoRemove: true, ManagerURL: "http://manager:8080",
		Reach: reach(Reach{ManagerURL: "http://manager:8080"}),
		Token: func(id job.SpawnID) string { return "gw_" + string(id) }, LeaseTTL: 30 * time.Second, Interval: 2 * time.Second, now: c.now,
	}
	if change != nil {
		change(&c.cfg, c.b)
	}
	c.r = newReconciler(c.cfg)
	return c
}

func (c *trial) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.clock
}

func (c *trial) pass(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.clock = c.clock.Add(d)
}

// tick reconciles once and waits for what that began.
func (c *trial) tick() {
	c.Helper()
	if err := c.r.tick(c.Context()); err != nil {
		c.Fatalf("tick: %v", err)
	}
	if err := c.r.ops.Wait(); err != nil {
		c.Fatalf("ops: %v", err)
	}
}

// ticks lets d pass in steps of the interval, with a tick after each.
func (c *trial) ticks(d time.Duration) {
	c.Helper()
	for ; d > 0; d -= c.cfg.Interval {
		c.pass(min(d, c.cfg.Interval))
		c.tick()
	}
}

// restart replaces the reconciler, as after a kill.
func (c *trial) restart() { c.r = newReconciler(c.cfg) }

func (c *trial) job(change ...func(*job.Spec)) job.ID {
	c.Helper()
	spec := job.Spec{Name: "cafes", Inputs: []job.Input{{Text: "cafe"}}, MaxWorkers: 1, MaxAttempts: 3}
	for _, f := range change {
		f(&spec)
	}
	n := store.NewJob{ID: job.NewID(), Spec: spec}
	for _, in := range spec.Inputs {
		n.Tasks = append(n.Tasks, job.Task{Query: gmaps.Query{Keyword: in.Text}})
	}
	if _, _, err := c.store.CreateJob(c.Context(), n); err != nil {
		c.Fatal(err)
	}
	return n.ID
}

func (c *trial) getJob(id job.ID) job.Job {
	c.Helper()
	j, err := c.store.Job(c.Context(), id)
	if err != nil {
		c.Fatal(err)
	}
	return j
}

// spawns returns the spawns of a job, oldest first.
func (c *trial) spawns(id job.ID) []job.Spawn {
	c.Helper()
	list, err := c.store.Spawns(c.Context(), store.SpawnFilter{JobID: id, Limit: 1000})
	if err != nil {
		c.Fatal(err)
	}
	slices.SortFunc(list, func(a, b job.Spawn) int { return cmp.Compare(a.ID, b.ID) })
	return list
}

// spawn returns the newest spawn of a job.
func (c *trial) spawn(id job.ID) job.Spawn {
	c.Helper()
	list := c.spawns(id)
	if len(list) == 0 {
		c.Fatalf("job %s has no spawn", id)
	}
	return list[len(list)-1]
}

// join lets the worker of a spawn join and ask for work.
func (c *trial) join(s job.SpawnID) {
	c.Helper()
	if _, err := c.store.Join(c.Context(), s, "nonce-of-"+string(s)); err != nil {
		c.Fatal(err)
	}
	c.pass(time.Microsecond) // no clock stands still between two calls
	c.touch(s)
}

func (c *trial) touch(s job.SpawnID) {
	c.Helper()
	if err := c.store.Touch(c.Context(), s); err != nil {
		c.Fatal(err)
	}
}

func (c *trial) wantSpawn(s job.SpawnID, state job.SpawnState, outcome job.Outcome) job.Spawn {
	c.Helper()
	got, err := c.store.Spawn(c.Context(), s)
	if err != nil {
		c.Fatal(err)
	}
	if got.State != state || got.Outcome != outcome {
		c.Errorf("spawn %s: got %s %q (%s), want %s %q", s, got.State, got.Outcome, got.Reason, state, outcome)
	}
	return got
}

func reach(r Reach) func(context.Context) (Reach, error) {
	return func(context.Context) (Reach, error) { return r, nil }
}
