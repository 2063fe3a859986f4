package manager

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"gmaps-scraper/job"
	"gmaps-scraper/spawner"
	"gmaps-scraper/store"
	"gmaps-scraper/wakeup"
)

// standing is the backend of workers that were started by hand.
const standing = "none"

// Bounds of single calls to a backend. None of them holds up the sweep of leases.
const (
	listDeadline   = 10 * time.Second
	createDeadline = 60 * time.Second
	stopGrace      = 10 * time.Second
	endDeadline    = 60 * time.Second // stop, collect, record and remove together
	drainDeadline  = 25 * time.Second
	standingPause  = 250 * time.Millisecond
)

// reconcilerConfig is what a reconciler is made of. Store and Bell are required; without a Spawner it only watches over
// standing workers.
type reconcilerConfig struct {
	Store   store.Store
	Spawner spawner.Spawner
	Bell    wakeup.Bell
	// Leader says whether it is this reconciler that acts. nil: it is.
	Leader Leader
	// Token is the one-time token of a spawn's worker.
	Token func(job.SpawnID) string
	// Reach is asked before each start. ManagerURL is for people.
	Reach      func(context.Context) (Reach, error)
	ManagerURL string
	Args       []string
	// Concurrency is how many tasks a worker runs at a time. Default 4.
	Concurrency int
	// MaxWorkers caps the live spawns. 0: the backend's own ceiling.
	MaxWorkers int
	// AutoRemove removes an ended worker's remains once they are stored.
	AutoRemove bool
	// StopWorkersOnExit stops all workers when Run ends. Always so with the backend process: who stops a Manager on a laptop
	// expects nothing to be left. Others are adopted by the next Manager.
	StopWorkersOnExit bool
	LeaseTTL          time.Duration // default 30 s
	Interval          time.Duration // default 2 s
	NoSweep           bool          // look only when woken
	Logger            *slog.Logger
	Registerer        prometheus.Registerer
	now               func() time.Time
}

// reconciler makes the workers that run those that must run. It is level-triggered: each tick looks at what the backend lists
// and what the rows say, and does the next thing for each. It remembers nothing that a restart may not forget.
type reconciler struct {
	cfg     reconcilerConfig
	store   store.Store
	spawner spawner.Spawner
	backend string
	log     *slog.Logger
	now     func() time.Time
	breaker breaker
	sweeper *sweeper
	metrics *reconcilerMetrics

	// ops are calls under way that a tick does not wait for. kick wakes the loop when one has ended.
	ops  errgroup.Group
	kick chan struct{}
	// reached is the Manager's URL that the worker started last was told.
	reached atomic.Pointer[string]

	mu     sync.Mutex
	busy   map[string]struct{} // keys of ops
	status ReconcilerStatus

	// Only the tick touches these.
	sightings
	told        bool // waitingText is what jobs say
	waitingText string
	waitingDue  time.Time
	lastTick    time.Time
}

// ReconcilerStatus says how the reconciler does.
type ReconcilerStatus struct {
	Backend string
	// Breaker says why no worker is started at present; empty: they are.
	Breaker string
	// BackoffUntil is when the next start is tried; zero: at once.
	BackoffUntil time.Time
	LastTick     time.Time
	// Following: another Manager of this store reconciles.
	Following bool
	// Failures counts starts that failed by cause, since this Manager began.
	Failures map[string]int
}

func newReconciler(cfg reconcilerConfig) *reconciler {
	if cfg.Concurrency == 0 {
		cfg.Concurrency = 4
	}
	if cfg.LeaseTTL == 0 {
		cfg.LeaseTTL = 30 * time.Second
	}
	if cfg.Interval == 0 {
		cfg.Interval = 2 * time.Second
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.Leader == nil {
		cfg.Leader = alone{}
	}
	if cfg.Token == nil {
		cfg.Token = func(job.SpawnID) string { return "" }
	}
	if cfg.now == nil {
		cfg.now = time.Now
	}
	r := &reconciler{
		cfg: cfg, store: cfg.Store, spawner: cfg.Spawner, backend: standing, now: cfg.now,
		kick: make(chan struct{}, 1), busy: make(map[string]struct{}), sightings: newSightings(),
	}
	if r.spawner != nil {
		r.backend = r.spawner.Backend()
	}
	r.log = cfg.Logger.With("backend", r.backend)
	r.status = ReconcilerStatus{Backend: r.backend, Failures: make(map[string]int)}
	r.sweeper = &sweeper{store: cfg.Store, bell: cfg.Bell, leader: cfg.Leader, ttl: cfg.LeaseTTL, interval: cfg.Interval, log: cfg.Logger, now: cfg.now}
	r.metrics = newReconcilerMetrics(cfg.Registerer, r)
	return r
}

// Run sweeps and reconciles until ctx ends, then waits for what is under way, and stops the workers where that is wanted.
// It needs the API to be served until it returns: stopped workers hand their tasks back.
func (r *reconciler) Run(ctx context.Context) error {
	g, gctx := errgroup.WithContext(ctx)
	if !r.cfg.NoSweep {
		g.Go(func() error { return r.sweeper.Run(gctx) })
	}
	g.Go(func() error { return r.loop(gctx) })
	if w, ok := r.spawner.(spawner.Watcher); ok {
		g.Go(func() error { return r.watchBackend(gctx, w) })
	}
	err := errors.Join(g.Wait(), r.ops.Wait())
	if r.spawner == nil || (!r.cfg.StopWorkersOnExit && r.backend != "process") {
		return err
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainDeadline)
	defer cancel()
	return errors.Join(err, r.drain(ctx))
}

func (r *reconciler) loop(ctx context.Context) error {
	every := time.NewTicker(r.cfg.Interval)
	defer every.Stop()
	if r.cfg.NoSweep {
		every.Stop()
	}
	for healthy := true; ; {
		rung := r.cfg.Bell.Next() // before the look, so that no ring falls between
		err := r.tick(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil && healthy {
			r.log.ErrorContext(ctx, "workers not reconciled", "err", err)
		}
		healthy = err == nil
		select {
		case <-ctx.Done():
			return nil
		case <-rung:
			if r.spawner == nil {
				r.giveWay(ctx)
			}
		case <-r.kick:
		case <-every.C:
		}
	}
}

// giveWay lets the workers that a ring woke ask first, and takes further rings for the same. It is for a Manager that starts no workers:
// what it has to tell, that jobs wait, is told soon enough.
func (r *reconciler) giveWay(ctx context.Context) {
	pause := time.NewTimer(standingPause)
	defer pause.Stop()
	select {
	case <-ctx.Done():
	case <-pause.C:
	}
}

// watchBackend wakes the loop at each change that the backend tells, until ctx ends. While the backend tells nothing, the ticker does.
func (r *reconciler) watchBackend(ctx context.Context, w spawner.Watcher) error {
	again := time.NewTicker(r.cfg.Interval)
	defer again.Stop()
	for {
		if err := w.Watch(ctx, r.wake); err != nil && ctx.Err() == nil {
			r.log.DebugContext(ctx, "watch of the backend broke off", "err", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-again.C:
		}
		r.wake() // what happened between two watches was not told
	}
}

// wake lets the loop look once more, now or when its tick is over.
func (r *reconciler) wake() {
	select {
	case r.kick <- struct{}{}:
	default: // woken already
	}
}

// alone is the Leader of a Manager that has its store for itself.
type alone struct{}

func (alone) Lead(context.Context) (bool, error) { return true, nil }

// tick looks once and begins what must be done, if this Manager leads. A tick that fails has done a part; the next does the rest.
func (r *reconciler) tick(ctx context.Context) error {
	lead, err := r.cfg.Leader.Lead(ctx)
	if err != nil {
		return fmt.Errorf("find out who leads: %w", err)
	}
	r.mu.Lock()
	r.status.Following = !lead
	r.mu.Unlock()
	if !lead {
		// As if away: the time of the last tick stays. What another does now leaves nothing true of what this one knew of starts and texts.
		r.told = false
		r.breaker.forget()
		return nil
	}
	begun := r.now()
	if !r.lastTick.IsZero() && begun.Sub(r.lastTick) > max(r.cfg.LeaseTTL/2, 2*r.cfg.Interval) {
		r.sightings = newSightings() // we were away: nobody's silence counts from before
	}
	err = r.reconcile(ctx, begun)
	r.lastTick = r.now()
	r.metrics.tick(r.lastTick.Sub(begun), err)
	r.mu.Lock()
	r.status.LastTick = r.lastTick
	r.mu.Unlock()
	return err
}

func (r *reconciler) reconcile(ctx context.Context, now time.Time) error {
	// Of every backend but ours: of workers started by hand, and of a backend that an earlier Manager was told to use, nobody else sees the end.
	hands, err := r.rows(ctx, "")
	if err != nil {
		return err
	}
	if r.spawner != nil {
		hands = slices.DeleteFunc(hands, func(s job.Spawn) bool { return s.Backend == r.backend })
	}
	if err := r.endSilent(ctx, now, hands); err != nil {
		return err
	}
	if r.spawner == nil {
		r.forget(hands)
		why := ""
		if len(hands) == 0 {
			why = "no worker: start one with: gmaps-scraper -worker -manager-url " + cmp.Or(r.cfg.ManagerURL, "URL") + " -api-key KEY"
		}
		return r.tellWaiting(ctx, now, why, hands)
	}

	// The order matters. What was under way before the look may change what it sees, so it is left alone; and a worker that is
	// listed has a row by then, since rows come first.
	busy := r.underWay()
	workers, listed, unseen := r.list(ctx)
	rows, err := r.rows(ctx, r.backend)
	if err != nil {
		return err
	}
	if err := r.settle(ctx, append(hands, rows...)); err != nil {
		return err
	}
	if unseen != nil {
		r.count("list")
		return errors.Join(unseen, r.tellWaiting(ctx, now, fmt.Sprintf("the worker backend %s does not answer: %v", r.backend, unseen), rows))
	}
	if !listed {
		workers = r.seenEnds(ctx, rows)
	}
	if rows, err = r.observe(ctx, now, rows, look{workers, listed, busy}); err != nil {
		return err
	}
	started, ceiling, err := r.plan(ctx, now, rows, busy)
	if err != nil {
		return err
	}
	counted, err := r.counted(ctx, len(rows)+len(started))
	if err != nil {
		return err
	}
	return r.tellWaiting(ctx, now, r.why(now, counted, ceiling), append(rows, started...))
}

// rows returns all live spawns of a backend; of "", those of all.
func (r *reconciler) rows(ctx context.Context, backend string) ([]job.Spawn, error) {
	return r.find(ctx, store.SpawnFilter{Backend: backend, Live: true})
}

// find returns all spawns of a filter, page by page.
func (r *reconciler) find(ctx context.Context, f store.SpawnFilter) ([]job.Spawn, error) {
	const page = 500
	var rows []job.Spawn
	for f.Limit = page; ; {
		some, err := r.store.Spawns(ctx, f)
		if err != nil {
			return nil, fmt.Errorf("read spawns: %w", err)
		}
		rows = append(rows, some...)
		if len(some) < page {
			return rows, nil
		}
		f.Before = some[len(some)-1].ID
	}
}

// list asks the backend. listed is false if it can never tell.
func (r *reconciler) list(ctx context.Context) (workers []spawner.Worker, listed bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, listDeadline)
	defer cancel()
	workers, err = r.spawner.List(ctx)
	if errors.Is(err, errors.ErrUnsupported) {
		return nil, false, nil
	}
	if err != nil {
		return nil, false, fmt.Errorf("list workers: %w", err)
	}
	return workers, true, nil
}

// plan starts what lacks: first the rows that a Manager before us, or a create of unknown end, left pending; then new ones.
func (r *reconciler) plan(ctx context.Context, now time.Time, rows []job.Spawn, busy map[string]struct{}) (planned []job.Spawn, ceiling int, err error) {
	limits := r.spawner.Limits()
	ceiling = r.cfg.MaxWorkers
	if ceiling == 0 || limits.Flag != "" && limits.MaxWorkers < ceiling {
		ceiling = limits.MaxWorkers
	}
	slots := limits.Creates
	if slots <= 0 {
		slots = 4 // a container engine gains nothing from more
	}
	unproven := 0
	var pending []job.Spawn
	for _, row := range rows {
		_, creating := busy[createKey(row.ID)]
		switch {
		case creating:
			slots--
			unproven++
		case row.State == job.SpawnStarted, row.State == job.SpawnRunning && !askedForWork(row):
			unproven++
		case row.State == job.SpawnPending:
			pending = append(pending, row)
		}
	}
	n := r.breaker.allow(now, max(0, slots), unproven)
	if n == 0 {
		return nil, ceiling, nil
	}
	generation := r.breaker.current()
	for i := len(pending) - 1; i >= 0 && n > 0; i-- { // oldest first
		r.begin(ctx, pending[i], generation)
		n--
	}
	if n == 0 {
		return nil, ceiling, nil
	}
	planned, err = r.store.PlanSpawns(ctx, store.Plan{Backend: r.backend, Cap: ceiling, New: n, Concurrency: r.cfg.Concurrency})
	if err != nil {
		return nil, ceiling, fmt.Errorf("plan spawns: %w", err)
	}
	for _, row := range planned {
		r.begin(ctx, row, generation)
	}
	return planned, ceiling, nil
}

// Status says how the reconciler does.
func (r *reconciler) Status() ReconcilerStatus {
	_, until, reason := r.breaker.state(r.now())
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.status
	s.Breaker, s.BackoffUntil = reason, until
	s.Failures = maps.Clone(r.status.Failures)
	return s
}

// do runs fn beside the ticks, once at a time for a key.
func (r *reconciler) do(ctx context.Context, key string, fn func(context.Context) error) {
	r.mu.Lock()
	_, busy := r.busy[key]
	r.busy[key] = struct{}{}
	r.mu.Unlock()
	if busy {
		return
	}
	r.ops.Go(func() error {
		err := fn(ctx)
		r.mu.Lock()
		delete(r.busy, key)
		r.mu.Unlock()
		if err != nil {
			if ctx.Err() == nil {
				r.log.WarnContext(ctx, "worker not brought on", "op", key, "err", err)
			}
			return nil // the rows say what is left to do; the next tick in turn tries again
		}
		r.wake()
		return nil
	})
}

func (r *reconciler) underWay() map[string]struct{} {
	r.mu.Lock()
	defer r.mu.Unlock()
	return maps.Clone(r.busy)
}

// count counts a failure by its cause.
func (r *reconciler) count(cause string) {
	r.metrics.failures.WithLabelValues(cause).Inc()
	r.mu.Lock()
	r.status.Failures[cause]++
	r.mu.Unlock()
}

func createKey(id job.SpawnID) string { return "create " + string(id) }
func endKey(id job.SpawnID) string    { return "end " + string(id) }
func reapKey(id spawner.ID) string    { return "reap " + string(id) }
