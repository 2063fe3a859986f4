package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"runtime"
	"time"

	"golang.org/x/sync/errgroup"

	"gmaps-scraper/api"
	"gmaps-scraper/gmaps"
	"gmaps-scraper/gmaps/simulator"
	"gmaps-scraper/job"
	"gmaps-scraper/manager"
	"gmaps-scraper/spawner"
	"gmaps-scraper/store/postgres"
)

// benchFirstRequest is B1: from POST /jobs until the Manager hears from the worker that it started for it, one at a time.
func benchFirstRequest(ctx context.Context, rounds int) (result, error) {
	return withSpawner(ctx, 1, func(s *spawning) (result, error) { return s.compareFirstRequest(ctx, rounds) })
}

// benchManyJobs is B2: jobs of one task each, from the first POST until all have ended and the last container is gone. The baseline
// creates, starts, awaits and removes as many containers that do the same work.
func benchManyJobs(ctx context.Context, rounds int) (result, error) {
	return withSpawner(ctx, manyJobsCap, func(s *spawning) (result, error) { return s.compareManyJobs(ctx, rounds) })
}

const (
	manyJobs    = 200
	manyJobsCap = 4
	// keyword is a search of one page in the simulator, so that the work is small beside what is measured.
	keyword = "synthetic 1/400"
)

// oneSearch is the whole of a job.
func oneSearch(keyword string) (job.Spec, error) {
	spec := job.Spec{Inputs: []job.Input{{Text: keyword}}, Depth: 1, Detail: gmaps.DetailNever}
	return spec, spec.Validate()
}

// spawning is a Manager with the Docker spawner on one side, the bare Engine API on the other.
type spawning struct {
	bare   *bare
	canned *canned
	client *api.Client
	// joined is when a worker of either side made its first request.
	joined, bareJoined chan time.Time
}

// withSpawner runs both sides' servers where containers reach them, and a simulator for their workers.
func withSpawner(ctx context.Context, limit int, do func(*spawning) (result, error)) (result, error) {
	return withDatabase(ctx, func(d *database) (_ result, err error) {
		b, err := newBare(ctx)
		if err != nil {
			return result{}, err
		}
		defer func() { err = errors.Join(err, b.close(ctx)) }()
		st, err := postgres.Open(ctx, d.dsn, postgres.Config{})
		if err != nil {
			return result{}, err
		}
		defer func() { err = errors.Join(err, st.Close()) }()
		docker, err := spawner.NewDocker(spawner.DockerConfig{
			Image: b.image, Network: b.name, Instance: b.name, PullPolicy: spawner.PullNever, MemoryMiB: spawner.DefaultMemoryMiB, PIDs: spawner.DefaultPIDs,
		})
		if err != nil {
			return result{}, err
		}
		defer func() { err = errors.Join(err, docker.Close()) }()

		sim, err := simulator.New(simulator.Config{Seed: 1})
		if err != nil {
			return result{}, err
		}
		simURL, stopSim, err := listenOn(b.gateway, sim)
		if err != nil {
			return result{}, fmt.Errorf("the engine must run on this machine: %w", err)
		}
		defer stopSim()
		s := &spawning{bare: b, joined: make(chan time.Time, 1), bareJoined: make(chan time.Time, 1)}
		if s.canned, err = newCanned(keyword, s.bareJoined); err != nil {
			return result{}, err
		}
		cannedURL, stopCanned, err := listenOn(b.gateway, s.canned)
		if err != nil {
			return result{}, err
		}
		defer stopCanned()

		front := &frontDoor{joined: s.joined}
		url, stop, err := listenOn(b.gateway, front)
		if err != nil {
			return result{}, err
		}
		defer stop()
		m, err := manager.New(ctx, manager.Config{
			Store: st, Bell: st.Bell(ctx), Leader: st, Spawner: docker, Open: true, Concurrency: 1, MaxWorkers: limit, AutoRemove: true,
			ManagerURL: url, WorkerEnv: map[string]string{"GMAPS_MAPS_URL": simURL},
		})
		if err != nil {
			return result{}, err
		}
		front.open(m.Handler())
		if s.client, err = api.NewClient(url, "", nil); err != nil {
			return result{}, err
		}
		running, end := context.WithCancel(ctx)
		var run errgroup.Group
		run.Go(func() error { return m.Run(running) })
		defer func() {
			end()
			if e := run.Wait(); !errors.Is(e, context.Canceled) {
				err = errors.Join(err, e)
			}
		}()
		if err := s.warmUp(ctx, cannedURL); err != nil {
			return result{}, fmt.Errorf("warm up: %w", err)
		}
		r, err := do(s)
		if err == nil && s.canned.sessions() == 0 {
			err = errors.New("no worker of the baseline ever asked for a lease")
		}
		return r, err
	})
}

// frontDoor is the Manager's handler, which is there once its address is known. It tells when workers join.
type frontDoor struct {
	handler http.Handler
	joined  chan<- time.Time
}

func (f *frontDoor) open(h http.Handler) { f.handler = h } // before anybody knows the address

func (f *frontDoor) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == api.PathWorkerJoin {
		select {
		case f.joined <- time.Now():
		default: // nobody listens
		}
	}
	f.handler.ServeHTTP(w, r)
}

// warmUp lets each side start a worker, and the baseline learn from the spawner's how to.
func (s *spawning) warmUp(ctx context.Context, cannedURL string) error {
	if _, err := s.create(ctx); err != nil {
		return err
	}
	if _, err := await(ctx, s.joined); err != nil {
		return err
	}
	if err := s.bare.imitate(ctx, cannedURL); err != nil {
		return err
	}
	if err := s.drained(ctx); err != nil {
		return err
	}
	_, err := s.bareFirst(ctx)
	return err
}

func (s *spawning) create(ctx context.Context) (job.Job, error) {
	return s.client.Create(ctx, api.NewJob{Inputs: []job.Input{{Text: keyword}}, Depth: 1, Detail: gmaps.DetailNever}, "")
}

// forget drops the request of a worker that came twice.
func forget(joined <-chan time.Time) {
	select {
	case <-joined:
	default:
	}
}

// await returns when a worker's first request came.
func await(ctx context.Context, joined <-chan time.Time) (time.Time, error) {
	const patience = time.Minute
	select {
	case at := <-joined:
		return at, nil
	case <-ctx.Done():
		return time.Time{}, context.Cause(ctx)
	case <-time.After(patience):
		return time.Time{}, fmt.Errorf("no worker came within %s", patience)
	}
}

// drained waits until all jobs have ended and no container of the spawner is left, and fails if one did not succeed.
func (s *spawning) drained(ctx context.Context) error {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-tick.C:
		}
		stats, err := s.client.Stats(ctx)
		if err != nil {
			return err
		}
		if stats.Jobs[job.Pending]+stats.Jobs[job.Running] > 0 {
			continue
		}
		if n := stats.Jobs[job.Failed] + stats.Jobs[job.Cancelled]; n > 0 {
			return fmt.Errorf("%d jobs failed", n)
		}
		if left, err := s.bare.workers(ctx); err != nil || left == 0 {
			return err
		}
	}
}

// spawnFirst is one sample of ours.
func (s *spawning) spawnFirst(ctx context.Context) (time.Duration, error) {
	forget(s.joined)
	begin := time.Now()
	if _, err := s.create(ctx); err != nil {
		return 0, err
	}
	at, err := await(ctx, s.joined)
	if err != nil {
		return 0, err
	}
	return at.Sub(begin), s.drained(ctx)
}

// bareFirst is one of the baseline.
func (s *spawning) bareFirst(ctx context.Context) (time.Duration, error) {
	forget(s.bareJoined)
	begin := time.Now()
	id, err := s.bare.start(ctx)
	if err != nil {
		return 0, err
	}
	at, err := await(ctx, s.bareJoined)
	if err != nil {
		return 0, err
	}
	return at.Sub(begin), s.bare.finish(ctx, id)
}

func (s *spawning) compareFirstRequest(ctx context.Context, rounds int) (result, error) {
	const samples = 50 // of a round: its p99 is its worst
	p50, p99 := ratio{name: "p50", goal: atMost(1.10)}, ratio{name: "p99", goal: atMost(1.25)}
	var ours, baseline []time.Duration
	for range rounds {
		ours, baseline = nil, nil
		for range samples {
			a, err := s.spawnFirst(ctx)
			if err != nil {
				return result{}, err
			}
			b, err := s.bareFirst(ctx)
			if err != nil {
				return result{}, fmt.Errorf("baseline: %w", err)
			}
			ours, baseline = append(ours, a), append(baseline, b)
		}
		p50.samples = append(p50.samples, float64(percentile(ours, 50))/float64(percentile(baseline, 50)))
		p99.samples = append(p99.samples, float64(percentile(ours, 99))/float64(percentile(baseline, 99)))
	}
	return result{ratios: []ratio{p50, p99}, notes: []string{
		fmt.Sprintf("last round: p50 %v ÷ %v, p99 of %d %v ÷ %v", percentile(ours, 50).Round(time.Millisecond), percentile(baseline, 50).Round(time.Millisecond),
			samples, percentile(ours, 99).Round(time.Millisecond), percentile(baseline, 99).Round(time.Millisecond)),
	}}, nil
}

func (s *spawning) compareManyJobs(ctx context.Context, rounds int) (result, error) {
	r := ratio{name: "wall time", goal: atMost(1.05)}
	var a, b time.Duration
	var err error
	for range rounds {
		runtime.GC()
		if a, err = s.spawnMany(ctx, manyJobs); err != nil {
			return result{}, err
		}
		if b, err = s.bareMany(ctx, manyJobs); err != nil {
			return result{}, fmt.Errorf("baseline: %w", err)
		}
		r.samples = append(r.samples, float64(a)/float64(b))
	}
	return result{ratios: []ratio{r}, notes: []string{
		fmt.Sprintf("last round, %d jobs, %d at a time: %v ÷ %v", manyJobs, manyJobsCap, a.Round(time.Millisecond), b.Round(time.Millisecond)),
	}}, nil
}

func (s *spawning) spawnMany(ctx context.Context, jobs int) (time.Duration, error) {
	begin := time.Now()
	for range jobs {
		if _, err := s.create(ctx); err != nil {
			return 0, err
		}
	}
	err := s.drained(ctx)
	return time.Since(begin), err
}

func (s *spawning) bareMany(ctx context.Context, jobs int) (time.Duration, error) {
	before := s.canned.sessions()
	begin := time.Now()
	group, within := errgroup.WithContext(ctx)
	group.SetLimit(manyJobsCap)
	for range jobs {
		group.Go(func() error {
			id, err := s.bare.start(within)
			if err != nil {
				return err
			}
			return s.bare.finish(within, id)
		})
	}
	err := group.Wait()
	took := time.Since(begin)
	if got := s.canned.sessions() - before; err == nil && got != jobs {
		err = fmt.Errorf("%d of %d workers asked for work", got, jobs)
	}
	return took, err
}
