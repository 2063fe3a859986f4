package main

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"gmaps-scraper/api"
	"gmaps-scraper/job"
	"gmaps-scraper/manager"
	"gmaps-scraper/store"
	"gmaps-scraper/store/postgres"
)

// settle is the pause before each job whose way is timed, so that the worker waits. River's side makes the same.
const settle = 20 * time.Millisecond

// benchLease is B3. Both sides are timed inside their own process: ours from the call that creates the job at the Manager's API until
// the worker's long poll has brought its lease, River's from the call of Insert until the worker is called. With one Manager the bell rings in
// its memory; with two the job is created at one and the worker waits at the other, so that LISTEN and NOTIFY carry the ring, as River's.
func benchLease(ctx context.Context, rounds int) (result, error) {
	return withDatabase(ctx, func(d *database) (result, error) {
		return withRiver(ctx, func(river *riverProgram) (result, error) {
			return withPair(ctx, d, func(one, other *instance) (result, error) { return compareLease(ctx, rounds, one, other, river) })
		})
	})
}

// withRiver runs the baseline on a database of its own on the same server.
func withRiver(ctx context.Context, do func(*riverProgram) (result, error)) (_ result, err error) {
	d, err := newDatabase(ctx)
	if err != nil {
		return result{}, err
	}
	defer func() { err = errors.Join(err, d.drop(ctx)) }()
	river, err := startRiver(ctx, d.dsn)
	if err != nil {
		return result{}, err
	}
	defer func() { err = errors.Join(err, river.stop()) }()
	return do(river)
}

// withPair runs two Managers of one store, each with a worker that waits at it while it is let.
func withPair(ctx context.Context, d *database, do func(one, other *instance) (result, error)) (_ result, err error) {
	one, err := startInstance(ctx, d.dsn)
	if err != nil {
		return result{}, err
	}
	defer func() { err = errors.Join(err, one.stop()) }()
	other, err := startInstance(ctx, d.dsn)
	if err != nil {
		return result{}, err
	}
	defer func() { err = errors.Join(err, other.stop()) }()
	return do(one, other)
}

func compareLease(ctx context.Context, rounds int, one, other *instance, river *riverProgram) (result, error) {
	const turns, jobs = 5, 20 // of a round
	near, far := ratio{name: "p50, one Manager", goal: atMost(1)}, ratio{name: "p50, two", goal: atMost(1)}
	sides := []func(n int) ([]time.Duration, error){
		func(n int) ([]time.Duration, error) { return one.latencies(ctx, one, n) },
		func(n int) ([]time.Duration, error) { return one.latencies(ctx, other, n) },
		func(n int) ([]time.Duration, error) { return river.ask("latency %d", n) },
	}
	for _, side := range sides { // what comes once: connections, statements, plans
		if _, err := side(jobs); err != nil {
			return result{}, fmt.Errorf("warm up: %w", err)
		}
	}
	var middle, late [3]time.Duration
	for range rounds {
		var took [3][]time.Duration
		for range turns {
			for i, side := range sides {
				some, err := side(jobs)
				if err != nil {
					return result{}, err
				}
				took[i] = append(took[i], some...)
			}
		}
		for i := range took {
			middle[i], late[i] = percentile(took[i], 50), percentile(took[i], 99)
		}
		near.samples = append(near.samples, float64(middle[0])/float64(middle[2]))
		far.samples = append(far.samples, float64(middle[1])/float64(middle[2]))
	}
	return result{ratios: []ratio{near, far}, notes: []string{
		fmt.Sprintf("last round, p50 and p99: one Manager %v, %v; two %v, %v; River %v, %v", middle[0], late[0], middle[1], late[1], middle[2], late[2]),
	}}, nil
}

// percentile is by nearest rank.
func percentile(all []time.Duration, percent int) time.Duration {
	s := slices.Sorted(slices.Values(all))
	return s[max(0, (len(s)*percent+99)/100-1)]
}

// instance is one Manager on PostgreSQL, reached in memory, with no spawner: its workers are standing ones.
type instance struct {
	store  *postgres.Store
	bell   *postgres.Bell
	client *api.Client
	end    context.CancelFunc
	run    errgroup.Group

	// Its worker asks for a lease once for each poll, and tells when it got it once it is done.
	polls  chan struct{}
	leased chan time.Time
	failed context.Context // ends when the worker has failed
}

func startInstance(ctx context.Context, dsn string) (_ *instance, err error) {
	s, err := postgres.Open(ctx, dsn, postgres.Config{})
	if err != nil {
		return nil, err
	}
	i := &instance{store: s, bell: s.Bell(ctx), polls: make(chan struct{}), leased: make(chan time.Time)}
	m, err := manager.New(ctx, manager.Config{Store: s, Bell: i.bell, Leader: s, Open: true})
	if err == nil {
		i.client, err = api.NewClient("http://bench", "", api.InProcess(m.Handler()))
	}
	if err != nil {
		return nil, errors.Join(err, s.Close())
	}
	ctx, i.end = context.WithCancel(ctx)
	failed, fail := context.WithCancelCause(ctx)
	i.failed = failed
	i.run.Go(func() error { return m.Run(ctx) })
	i.run.Go(func() error {
		err := i.work(ctx)
		fail(err)
		return err
	})
	return i, nil
}

func (i *instance) stop() error {
	i.end()
	err := i.run.Wait()
	if errors.Is(err, context.Canceled) {
		err = nil
	}
	return errors.Join(err, i.store.Close())
}

// latencies creates n jobs, one after the other was leased and done by the worker that waits at the other instance.
func (i *instance) latencies(ctx context.Context, at *instance, n int) (took []time.Duration, err error) {
	for range n {
		select {
		case at.polls <- struct{}{}:
		case <-at.failed.Done():
			return nil, context.Cause(at.failed)
		}
		time.Sleep(settle)
		begin := time.Now()
		if _, err := i.client.Create(ctx, api.NewJob{Inputs: []job.Input{{Text: "coffee in Limassol"}}}, ""); err != nil {
			return nil, err
		}
		select {
		case end := <-at.leased:
			took = append(took, end.Sub(begin))
		case <-at.failed.Done():
			return nil, context.Cause(at.failed)
		}
	}
	return took, nil
}

// work is a worker that finds nothing. It is never broken off inside a call, which would cost its Manager a connection.
func (i *instance) work(ctx context.Context) error {
	client := i.client.With("")
	if _, err := client.Join(ctx, api.Join{Nonce: string(job.NewID()), Concurrency: 1}); err != nil {
		return err
	}
	for {
		select {
		case <-i.polls:
		case <-ctx.Done():
			return nil
		}
		var lease *job.Lease
		for lease == nil {
			answer, err := client.Lease(ctx, api.LeaseRequest{Max: 1, Wait: job.Duration(30 * time.Second)})
			if err != nil {
				return err
			}
			lease = answer.Lease
		}
		at := time.Now()
		done := job.Batch{Tasks: []job.TaskStep{{TaskID: lease.Tasks[0].ID, Done: true}}}
		if _, err := client.Submit(ctx, lease.Fence, done); err != nil {
			return err
		}
		select {
		case i.leased <- at:
		case <-ctx.Done():
			return nil
		}
	}
}

// benchSubmit is B4: the store creates a job of one task with all that belongs to it, then the bell is rung, as the Manager does. River
// inserts a job and notifies. Nobody works on either.
func benchSubmit(ctx context.Context, rounds int) (result, error) {
	return withDatabase(ctx, func(d *database) (result, error) {
		return withRiver(ctx, func(river *riverProgram) (_ result, err error) {
			s, err := postgres.Open(ctx, d.dsn, postgres.Config{})
			if err != nil {
				return result{}, err
			}
			defer func() { err = errors.Join(err, s.Close()) }()
			return compareSubmit(ctx, rounds, s, river)
		})
	})
}

func compareSubmit(ctx context.Context, rounds int, s *postgres.Store, river *riverProgram) (result, error) {
	const turns, jobs, writers = 5, 400, 8
	bell := s.Bell(ctx)
	if _, err := createMany(ctx, s, bell, jobs, writers); err != nil {
		return result{}, fmt.Errorf("warm up: %w", err)
	}
	if _, err := river.ask("insert %d %d", jobs, writers); err != nil {
		return result{}, fmt.Errorf("warm up: %w", err)
	}
	r := ratio{name: "submits/s", goal: atLeast(1)}
	var ours, baseline time.Duration
	for range rounds {
		runtime.GC()
		ours, baseline = 0, 0
		for range turns {
			a, err := createMany(ctx, s, bell, jobs, writers)
			if err != nil {
				return result{}, err
			}
			b, err := river.ask("insert %d %d", jobs, writers)
			if err != nil {
				return result{}, err
			}
			ours, baseline = ours+a, baseline+b[0]
		}
		r.samples = append(r.samples, baseline.Seconds()/ours.Seconds())
	}
	const all = turns * jobs
	return result{ratios: []ratio{r}, notes: []string{
		fmt.Sprintf("last round, %d writers: ours %.0f/s, River %.0f/s", writers, all/ours.Seconds(), all/baseline.Seconds()),
	}}, nil
}

// createMany creates n jobs with so many writers and returns what that took.
func createMany(ctx context.Context, s store.Store, bell *postgres.Bell, n, writers int) (time.Duration, error) {
	errs := make([]error, writers)
	var left atomic.Int64
	left.Store(int64(n))
	var all sync.WaitGroup
	begin := time.Now()
	for i := range writers {
		all.Go(func() {
			for errs[i] == nil && left.Add(-1) >= 0 {
				if _, errs[i] = queue(ctx, s, "coffee in Limassol"); errs[i] == nil {
					errs[i] = bell.Ring(ctx)
				}
			}
		})
	}
	all.Wait()
	return time.Since(begin), errors.Join(errs...)
}
