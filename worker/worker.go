// Package worker leases tasks from a Manager, fetches their places and hands them in until there is no more to do.
//
// What it found is never lost by its own doing and never counted twice: every page is submitted together with the cursor behind it, under
// the lease's fence, and kept until the Manager has acknowledged it. What is not acknowledged when the worker ends is handed back from the
// last acknowledged cursor.
package worker

import (
	"context"
	crand "crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"gmaps-scraper/api"
	"gmaps-scraper/gmaps"
	"gmaps-scraper/job"
)

// Source is where work comes from and results go. *api.Client is one. Its errors are classed by package api.
type Source interface {
	// Join introduces the worker. A repeat with the same nonce is the same worker.
	Join(ctx context.Context, j api.Join) (api.Joined, error)
	// Lease asks for tasks and may wait for some as long as r says.
	Lease(ctx context.Context, r api.LeaseRequest) (api.LeaseAnswer, error)
	// Renew is the heartbeat of a lease.
	Renew(ctx context.Context, f job.Fence) (api.OrderAnswer, error)
	// Submit hands in a batch, all or nothing. A repeat changes nothing.
	Submit(ctx context.Context, f job.Fence, b job.Batch) (job.Ack, error)
	// HandBack opens the remaining tasks of a lease again.
	HandBack(ctx context.Context, f job.Fence, h api.HandBack) error
}

var _ Source = (*api.Client)(nil)

// Bell wakes a worker that waits for work. Rings may be lost, doubled and reordered.
type Bell interface {
	// Next returns a channel that the next ring closes.
	Next() <-chan struct{}
}

// Seen remembers which places of a job are stored, for all its workers. What it forgets, or cannot say in time, is fetched once more.
type Seen interface {
	// Has says of each key, in their order, whether its place is stored. nil: of none.
	Has(ctx context.Context, scope string, keys []string) []bool
	// Mark says that the places of the keys are stored.
	Mark(ctx context.Context, scope string, keys []string)
}

// Config is what a Worker goes by. Source and Engine are needed; every other zero value is a default.
type Config struct {
	Source Source
	Engine gmaps.Engine
	// SpawnID is the spawn that started this worker. Empty for a standing one.
	SpawnID job.SpawnID
	// Concurrency is how many tasks are fetched at one time. Default 4.
	Concurrency int
	// Standing keeps the worker when there is no work, and lets it join anew when the Manager has forgotten it.
	Standing bool
	// Version is told to the Manager.
	Version string
	// Bell wakes the worker when there may be work. A standing one then waits for rings instead of holding a request open, and asks every
	// 2 s all the same. A spawned one only waits shorter. nil: none.
	Bell Bell
	// Seen spares the details of places that another task or worker of the job has stored. nil: none are spared.
	Seen Seen

	// FlushPlaces and FlushAfter say when a batch is submitted: at so many places, or when its oldest page has waited so long;
	// and at once when a task is over. Defaults 200 and 1 s.
	FlushPlaces int
	FlushAfter  time.Duration
	// MemoryBytes bounds, roughly, what waits in memory for the Manager. Default 64 MiB.
	MemoryBytes int64
	// SpoolDir is where pages wait that exceed MemoryBytes, in files without a name: they vanish with the process. Empty: nowhere;
	// fetching pauses instead. SpoolBytes bounds them; fetching pauses beyond. Default 1 GiB.
	SpoolDir   string
	SpoolBytes int64

	// LeaseWait is how long the Manager may hold a request for work. Default 20 s, at most 30 s.
	LeaseWait time.Duration
	// DrainTimeout bounds the time from the end of Run's context to its return. Default 9 s: whoever stops workers kills them after 10.
	DrainTimeout time.Duration
	// GiveUp ends a spawned worker to which the Manager has not answered at all for so long. Default 30 min. A standing one never gives up.
	GiveUp time.Duration
	// JoinWithin ends a spawned worker whose first call is not answered for so long: one that was never heard of has nothing to hand in.
	// 0: as GiveUp.
	JoinWithin time.Duration

	Logger *slog.Logger // default: discards
}

func (c Config) withDefaults() (Config, error) {
	setDefault(&c.Concurrency, 4)
	setDefault(&c.FlushPlaces, 200)
	setDefault(&c.FlushAfter, time.Second)
	setDefault(&c.MemoryBytes, 64<<20)
	setDefault(&c.SpoolBytes, 1<<30)
	setDefault(&c.LeaseWait, 20*time.Second)
	setDefault(&c.DrainTimeout, 9*time.Second)
	setDefault(&c.GiveUp, 30*time.Minute)
	setDefault(&c.JoinWithin, c.GiveUp)
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	switch {
	case c.Source == nil:
		return c, errors.New("source: is missing")
	case c.Engine == nil:
		return c, errors.New("engine: is missing")
	case c.Concurrency < 1 || c.Concurrency > 1024:
		return c, fmt.Errorf("concurrency: %d is not between 1 and 1024", c.Concurrency)
	case c.FlushPlaces < 1:
		return c, fmt.Errorf("flush places: %d is below 1", c.FlushPlaces)
	case c.LeaseWait < 0 || c.LeaseWait > 30*time.Second:
		return c, fmt.Errorf("lease wait: %s is not between 0s and 30s", c.LeaseWait)
	case c.FlushAfter < 0 || c.MemoryBytes < 0 || c.SpoolBytes < 0 || c.DrainTimeout < 0 || c.GiveUp < 0 || c.JoinWithin < 0:
		return c, errors.New("a bound is below 0")
	case !c.Standing && c.SpawnID == "":
		return c, errors.New("spawn id: is missing, and the worker is not a standing one")
	}
	return c, nil
}

func setDefault[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

// Causes with which the fetches of a lease end early. None of them is a failure of a task.
var (
	errDraining     = errors.New("worker is draining")
	errCancelled    = errors.New("job was cancelled")
	errStale        = errors.New("lease has ended")
	errRefused      = errors.New("manager refused the results")
	errDrainTimeout = errors.New("drain took too long")
)

// Worker runs tasks. Make one with New and call Run once.
type Worker struct {
	config Config
	log    *slog.Logger
	slots  *slots
	budget *budget
	link   link
	ended  chan struct{} // a lease has ended
	leases atomic.Int64  // live ones
	sums   sums
}

// New checks c. An error names the field and its bound.
func New(c Config) (*Worker, error) {
	c, err := c.withDefaults()
	if err != nil {
		return nil, err
	}
	disk := c.SpoolBytes
	if c.SpoolDir == "" {
		disk = 0
	}
	return &Worker{
		config: c, log: c.Logger, slots: newSlots(c.Concurrency),
		budget: newBudget(c.MemoryBytes, disk), ended: make(chan struct{}, 1),
	}, nil
}

// Run works until the Manager has no more for this worker, or ctx ends. Then it takes no more tasks, ends the fetches, submits what they
// found, hands back what they left, and returns nil. Another worker in its place, and a spawn that has ended, are no error either.
// An error is a Manager that refuses this worker or has not answered for Config.GiveUp, or a drain that did not end in time.
func (w *Worker) Run(ctx context.Context) error {
	// Calls outlive ctx: what was found must still be handed in.
	calls, end := context.WithCancelCause(context.WithoutCancel(ctx))
	defer end(nil)
	g, alive := errgroup.WithContext(calls)
	fetching, stop := context.WithCancelCause(alive)
	defer stop(nil)
	unlink := context.AfterFunc(ctx, func() {
		stop(errDraining)
		select {
		case <-calls.Done():
		case <-time.After(w.config.DrainTimeout):
			end(errDrainTimeout)
		}
	})
	defer unlink()

	w.link.answered(time.Now())
	g.Go(func() error {
		return w.takeLeases(alive, fetching, func(l job.Lease, ttl time.Duration) {
			w.leases.Add(1)
			g.Go(func() error {
				defer w.leaseEnded()
				return newLease(w, l, ttl).run(alive, fetching)
			})
		})
	})
	err := g.Wait()
	w.log.Info("worker ended", "summary", w.Summary())
	if err != nil {
		return fmt.Errorf("work: %w", err)
	}
	return nil
}

func (w *Worker) leaseEnded() {
	w.leases.Add(-1)
	select {
	case w.ended <- struct{}{}:
	default:
	}
}

const (
	gatherSlots = 10 * time.Millisecond // how long the first free slot waits for others, so that they share a lease
	exitRecheck = time.Second           // between the questions of a worker that may go when its last lease is over
	shortPause  = 100 * time.Millisecond
	rejoinPause = 5 * time.Second
	lingerTime  = time.Second
	sweep       = 2 * time.Second // the most that a lost ring costs
)

// takeLeases joins, then leases as many tasks as there are free slots until there is no more, or ctx ends.
func (w *Worker) takeLeases(calls, ctx context.Context, start func(job.Lease, time.Duration)) error {
	joined, err := w.join(ctx)
	if err != nil || joined == nil {
		return err
	}
	for {
		free, err := w.slots.take(ctx)
		if err != nil {
			return w.drainOrCause(ctx)
		}
		rung := w.nextRing()         // before the question, so that no ring falls between
		idle := w.leases.Load() == 0 // before the question: a lease that ends meanwhile may have brought more
		var answer api.LeaseAnswer
		err = w.persist(ctx, "lease", func() (err error) {
			asking, stop := linger(calls, ctx)
			defer stop()
			answer, err = w.config.Source.Lease(asking, api.LeaseRequest{Max: free, Wait: job.Duration(w.leaseWait())})
			return err
		})
		if err == nil && answer.Lease != nil && len(answer.Lease.Tasks) > 0 {
			w.slots.give(free - len(answer.Lease.Tasks))
			start(*answer.Lease, leaseTTL(answer, joined))
			continue
		}
		w.slots.give(free)
		switch {
		case err == nil && answer.Exit && idle && !w.config.Standing:
			return w.ends(EndedNoWork)
		case err == nil && w.waitsForRings():
			w.pause(ctx, sweep/2+rand.N(sweep/2), rung) // at random, so that those who missed a ring do not all come at once
		case err == nil && answer.Exit:
			w.pause(ctx, exitRecheck, nil) // a saturated cell of a live lease may still bring more
		case err == nil:
			w.pause(ctx, max(shortPause, time.Duration(answer.RetryIn)), rung)
		case ctx.Err() != nil:
			return w.drainOrCause(ctx)
		case w.config.Standing && (api.IsGone(err) || api.IsUnauthorized(err)):
			w.log.Info("worker was forgotten, joins anew", "err", err)
			w.pause(ctx, rejoinPause, nil)
			if joined, err = w.join(ctx); err != nil || joined == nil {
				return err
			}
		case api.IsGone(err) || api.IsSpawnTaken(err):
			w.log.Info("spawn has ended", "err", err)
			return w.ends(EndedOver)
		default:
			return fmt.Errorf("lease: %w", err)
		}
	}
}

// linger returns a context that ends with calls, or lingerTime after ctx: a lease that is being granted when a drain begins would be
// lost with its answer, and its tasks lie idle until it expires.
func linger(calls, ctx context.Context) (context.Context, context.CancelFunc) {
	asking, stop := context.WithCancel(calls)
	unlink := context.AfterFunc(ctx, func() {
		select {
		case <-time.After(lingerTime):
			stop()
		case <-asking.Done():
		}
	})
	return asking, func() { unlink(); stop() }
}

// join returns nil without an error if there is nothing to do for this worker.
func (w *Worker) join(ctx context.Context) (*api.Joined, error) {
	// One nonce for all tries: the answer to an earlier one may have been lost.
	ask := api.Join{SpawnID: w.config.SpawnID, Nonce: crand.Text(), Concurrency: w.config.Concurrency, Version: w.config.Version}
	var joined api.Joined
	err := w.persist(ctx, opJoin, func() (err error) {
		joined, err = w.config.Source.Join(ctx, ask)
		return err
	})
	switch {
	case err == nil:
		w.log = w.config.Logger.With("spawn", joined.SpawnID)
		w.log.Info("worker started", "job", joined.JobID, "concurrency", w.config.Concurrency)
		return &joined, nil
	case ctx.Err() != nil:
		return nil, w.drainOrCause(ctx)
	case api.IsSpawnTaken(err):
		w.log.Info("another worker has this spawn", "spawn", w.config.SpawnID)
		return nil, w.ends(EndedTaken)
	case api.IsGone(err):
		w.log.Info("spawn has ended", "spawn", w.config.SpawnID)
		return nil, w.ends(EndedOver)
	}
	return nil, fmt.Errorf("join: %w", err)
}

// drainOrCause is nil when ctx ended for a drain: that is no failure.
func (w *Worker) drainOrCause(ctx context.Context) error {
	if cause := context.Cause(ctx); !errors.Is(cause, errDraining) {
		return cause
	}
	return w.ends(EndedDrained)
}

func leaseTTL(a api.LeaseAnswer, j *api.Joined) time.Duration {
	const fallback = 30 * time.Second
	for _, d := range []job.Duration{a.TTL, j.LeaseTTL} {
		if d > 0 {
			return time.Duration(d)
		}
	}
	return fallback
}

// waitsForRings says whether the worker waits for the bell, and not for the Manager's answer.
func (w *Worker) waitsForRings() bool { return w.config.Standing && w.config.Bell != nil }

func (w *Worker) leaseWait() time.Duration {
	if w.waitsForRings() {
		return 0
	}
	return w.config.LeaseWait
}

// nextRing is nil, which never rings, without a bell.
func (w *Worker) nextRing() <-chan struct{} {
	if w.config.Bell == nil {
		return nil
	}
	return w.config.Bell.Next()
}

// pause waits for d, a ring, the end of a lease or that of ctx, whichever comes first. A ring is heeded after shortPause only: a bell that
// rings without end must not make the worker ask without end.
func (w *Worker) pause(ctx context.Context, d time.Duration, rung <-chan struct{}) {
	timer, heed := time.NewTimer(d), time.NewTimer(shortPause)
	defer timer.Stop()
	defer heed.Stop()
	select {
	case <-timer.C:
	case <-rung:
		select {
		case <-heed.C:
		case <-ctx.Done():
		}
	case <-w.ended:
	case <-ctx.Done():
	}
}

// slots counts the tasks that may still be fetched at the same time.
type slots struct {
	all     int
	mu      sync.Mutex
	free    int
	changed chan struct{}
}

func newSlots(n int) *slots { return &slots{all: n, free: n, changed: make(chan struct{}, 1)} }

// take waits for free slots and takes them all.
func (s *slots) take(ctx context.Context) (int, error) {
	gathered := false
	for {
		if ctx.Err() != nil {
			return 0, context.Cause(ctx)
		}
		s.mu.Lock()
		n := s.free
		if n == s.all || n > 0 && gathered {
			s.free = 0
			s.mu.Unlock()
			return n, nil
		}
		s.mu.Unlock()
		var gather <-chan time.Time
		if n > 0 {
			gather = time.After(gatherSlots)
		}
		select {
		case <-s.changed:
		case <-gather:
			gathered = true
		case <-ctx.Done():
			return 0, context.Cause(ctx)
		}
	}
}

func (s *slots) give(n int) {
	s.mu.Lock()
	s.free += n
	s.mu.Unlock()
	select {
	case s.changed <- struct{}{}:
	default:
	}
}
