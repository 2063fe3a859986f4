package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"time"

	"golang.org/x/sync/errgroup"

	"gmaps-scraper/gmaps"
	"gmaps-scraper/job"
	"gmaps-scraper/store"
	"gmaps-scraper/store/postgres"
	"gmaps-scraper/store/sqlite"
)

// kind is a store that B8 and B9 are run on.
type kind struct {
	name    string
	writers int // that queue jobs at a time
	// open opens the store of that name, which is empty at first; the same name opens the same again.
	open func(ctx context.Context, name string) (store.Store, error)
	size func(ctx context.Context, name string) (int64, error)
}

// withKinds has do run on each kind of store, and puts the results together.
func withKinds(ctx context.Context, do func(k kind) (result, error)) (_ result, err error) {
	dir, err := os.MkdirTemp("", "bench-store-")
	if err != nil {
		return result{}, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	path := func(name string) string { return filepath.Join(dir, name+".db") }
	bases := databases{}
	defer func() { err = errors.Join(err, bases.drop(ctx)) }()
	var all result
	for _, k := range []kind{
		{
			name: "SQLite", writers: 1,
			open: func(ctx context.Context, name string) (store.Store, error) {
				return sqlite.Open(ctx, path(name), sqlite.Config{})
			},
			size: func(_ context.Context, name string) (int64, error) {
				info, err := os.Stat(path(name))
				if err != nil {
					return 0, err
				}
				return info.Size(), nil
			},
		},
		{
			name: "PostgreSQL", writers: 8,
			open: func(ctx context.Context, name string) (store.Store, error) {
				d, err := bases.named(ctx, name)
				if err != nil {
					return nil, err
				}
				return postgres.Open(ctx, d.dsn, postgres.Config{})
			},
			size: bases.size,
		},
	} {
		r, err := do(k)
		if err != nil {
			return all, fmt.Errorf("%s: %w", k.name, err)
		}
		for _, one := range r.ratios {
			one.name = k.name + ", " + one.name
			all.ratios = append(all.ratios, one)
		}
		for _, note := range r.notes {
			all.notes = append(all.notes, k.name+": "+note)
		}
	}
	return all, nil
}

// benchMemory is B8: what queued jobs add to the memory of a process that holds the store, per job, against 1 KB. With SQLite that is the
// database's memory too.
func benchMemory(ctx context.Context, rounds int) (result, error) {
	return withKinds(ctx, func(k kind) (result, error) { return k.memory(ctx, rounds) })
}

func (k kind) memory(ctx context.Context, rounds int) (result, error) {
	const (
		kilobyte    = 1024
		few, many   = 10_000, 100_000
		queuedAnew  = few / 10
		alreadyHere = many - queuedAnew
	)
	start := time.Now()
	if _, err := k.occupied(ctx, "large", alreadyHere); err != nil {
		return result{}, err
	}
	queueing := time.Since(start)

	small, big := ratio{name: "10k jobs", goal: atMost(1)}, ratio{name: "100k jobs", goal: atMost(1)}
	var none, a, b int
	var err error
	for i := range rounds {
		if none, err = k.occupied(ctx, fmt.Sprint("empty", i), 0); err != nil {
			return result{}, err
		}
		if a, err = k.occupied(ctx, fmt.Sprint("few", i), few); err != nil {
			return result{}, err
		}
		if b, err = k.occupied(ctx, "large", queuedAnew); err != nil {
			return result{}, err
		}
		small.samples = append(small.samples, float64(a-none)/few/kilobyte)
		big.samples = append(big.samples, float64(b-none)/float64(many+i*queuedAnew)/kilobyte)
	}
	const mb = 1 << 20
	return result{
		ratios: []ratio{small, big},
		notes: []string{
			fmt.Sprintf("last round: %d MB with no jobs, %d MB with 10k, %d MB with 100k (resident where the system tells it, else Go's)", none/mb, a/mb, b/mb),
			fmt.Sprintf("%.0f jobs queued a second, %d at a time, each synced to the disk if the database does that", alreadyHere/queueing.Seconds(), k.writers),
		},
	}, nil
}

// occupied queues n more jobs in the store of that name, asks what a Manager asks, and returns the memory that the process then holds.
func (k kind) occupied(ctx context.Context, name string, n int) (bytes int, err error) {
	s, err := k.open(ctx, name)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	group, within := errgroup.WithContext(ctx)
	group.SetLimit(k.writers)
	for i := range n {
		group.Go(func() error {
			_, err := queue(within, s, fmt.Sprint("cafe ", i))
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return 0, err
	}
	for range 20 {
		if _, err := s.Jobs(ctx, store.JobFilter{}); err != nil {
			return 0, err
		}
		if _, err := s.Stats(ctx); err != nil {
			return 0, err
		}
		if _, err := s.PlanSpawns(ctx, store.Plan{Backend: "process", Cap: 4, Concurrency: 1}); err != nil {
			return 0, err
		}
		if _, err := s.Expire(ctx); err != nil {
			return 0, err
		}
	}
	debug.FreeOSMemory()
	return resident(), nil
}

func queue(ctx context.Context, s store.Store, keyword string) (job.Job, error) {
	spec := job.Spec{Inputs: []job.Input{{Text: keyword}}}
	if err := spec.Validate(); err != nil {
		return job.Job{}, err
	}
	tasks, err := spec.Tasks()
	if err != nil {
		return job.Job{}, err
	}
	j, _, err := s.CreateJob(ctx, store.NewJob{Spec: spec, Tasks: tasks})
	return j, err
}

// resident is the memory of this process: SQLite's own lies outside of Go's heap, so only the system knows all.
func resident() int {
	var pages, unused int
	statm, err := os.ReadFile("/proc/self/statm")
	if err == nil {
		_, err = fmt.Sscan(string(statm), &unused, &pages)
	}
	if err != nil { // no Linux
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int(m.Sys - m.HeapReleased)
	}
	return pages * os.Getpagesize()
}

// benchPages is B9: a page of jobs and a page of results in a large store, against a small one.
func benchPages(ctx context.Context, rounds int) (result, error) {
	return withKinds(ctx, func(k kind) (result, error) { return k.pages(ctx, rounds) })
}

func (k kind) pages(ctx context.Context, rounds int) (_ result, err error) {
	start := time.Now()
	large, err := k.fill(ctx, "large", 5_000, 1_000_000)
	if err != nil {
		return result{}, err
	}
	defer func() { err = errors.Join(err, large.Close()) }()
	took := time.Since(start)
	small, err := k.fill(ctx, "small", 100, 1_000)
	if err != nil {
		return result{}, err
	}
	defer func() { err = errors.Join(err, small.Close()) }()

	const pages = 100
	var ratios []ratio
	var notes []string
	for _, one := range []struct {
		name string
		page func(f *filled) error
	}{
		{"jobs page", func(f *filled) error { return f.jobsPage(ctx) }},
		{"results page", func(f *filled) error { return f.resultsPage(ctx) }},
	} {
		r := ratio{name: one.name, goal: atMost(2)}
		var a, b cost
		for range rounds {
			if a, err = measure(pages, func() error { return one.page(large) }); err != nil {
				return result{}, fmt.Errorf("%s of the large store: %w", one.name, err)
			}
			if b, err = measure(pages, func() error { return one.page(small) }); err != nil {
				return result{}, fmt.Errorf("%s of the small store: %w", one.name, err)
			}
			r.samples = append(r.samples, float64(a.time)/float64(b.time))
		}
		ratios = append(ratios, r)
		notes = append(notes, fmt.Sprintf("%s, last round: %v ÷ %v", one.name, a.time, b.time))
	}
	size, err := k.size(ctx, "large")
	if err != nil {
		return result{}, err
	}
	notes = append(notes, fmt.Sprintf("1 M results stored in %v, %.0f a second, %d MB", took.Round(time.Second), 1e6/took.Seconds(), size>>20))
	return result{ratios: ratios, notes: notes}, nil
}

// filled is a store with one job that has results, among others that wait.
type filled struct {
	store.Store
	job     job.ID
	results int
}

func (k kind) fill(ctx context.Context, name string, jobs, results int) (_ *filled, err error) {
	s, err := k.open(ctx, name)
	if err != nil {
		return nil, err
	}
	f := &filled{Store: s, results: results}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.Close())
		}
	}()
	for i := range jobs {
		j, err := queue(ctx, s, fmt.Sprint("cafe ", i))
		if err != nil {
			return nil, err
		}
		if i == 0 {
			f.job = j.ID
		}
	}
	w, err := s.JoinStanding(ctx, "bench", 1)
	if err != nil {
		return nil, err
	}
	lease, err := s.Grant(ctx, w.ID, 1, 24*time.Hour) // the oldest job is first
	if err != nil {
		return nil, err
	}
	const batch = 500
	for from := 0; from < results; from += batch {
		b := job.Batch{Places: make([]job.Found, batch)}
		for i := range b.Places {
			b.Places[i] = job.Found{TaskID: lease.Tasks[0].ID, Place: listed(from + i)}
		}
		if _, err := s.Submit(ctx, lease.Fence, b); err != nil {
			return nil, err
		}
	}
	return f, nil
}

// listed is a place with about what a listing says. Its id is scattered as Google's are, not in the order of storing.
func listed(n int) gmaps.Place {
	id := uint64(n+1) * 0x9e3779b97f4a7c15 // Fibonacci hashing
	return gmaps.Place{
		DataID: fmt.Sprintf("0x14e7%012x:0x%x", id>>20, id), CID: fmt.Sprint(id), PlaceID: fmt.Sprintf("ChIJ%016x", id),
		Title: fmt.Sprint("Café number ", n), Categories: []string{"Coffee shop", "Café"}, CategoryIDs: []string{"coffee_shop", "cafe"},
		Address: fmt.Sprintf("%d Makariou Avenue, Limassol 3040, Cyprus", n%500), AddressParts: gmaps.AddressParts{Street: "Makariou Avenue", City: "Limassol", PostalCode: "3040", CountryCode: "CY"},
		Location: &gmaps.Point{Lat: 34.5 + float64(n%1000)/1000, Lng: 33 + float64(n%777)/777}, Timezone: "Asia/Nicosia",
		Phone: "25 123456", PhoneInternational: "+357 25 123456", Website: "https://cafe.example/", Domain: "cafe.example",
		Rating: 1 + float64(n%40)/10, ReviewCount: n % 2000, Status: "Open ⋅ Closes 10 pm",
	}
}

// jobsPage asks for the first page, as the dashboard does.
func (f *filled) jobsPage(ctx context.Context) error {
	jobs, err := f.Jobs(ctx, store.JobFilter{Limit: 50})
	if err == nil && len(jobs) != 50 {
		err = fmt.Errorf("%d jobs on a page", len(jobs))
	}
	return err
}

// resultsPage asks for a page anywhere in the list.
func (f *filled) resultsPage(ctx context.Context) error {
	const page = 100
	results, err := f.Results(ctx, f.job, store.ResultFilter{After: int64(rand.IntN(f.results - page)), Limit: page})
	if err == nil && len(results) != page {
		err = fmt.Errorf("%d results on a page", len(results))
	}
	return err
}
