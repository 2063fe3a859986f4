package worker

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"gmaps-scraper/api"
	"gmaps-scraper/gmaps"
	"gmaps-scraper/job"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fakeEngine is an Engine with a fault to inject.
type fakeEngine func(ctx context.Context, q gmaps.Query, from gmaps.Cursor) iter.Seq2[gmaps.Page, error]

func (f fakeEngine) Search(ctx context.Context, q gmaps.Query, from gmaps.Cursor) seq {
	return f(ctx, q, from)
}

// pagesOf is an engine that brings n pages of the given number of places each, one every pace. The places are named
// keyword/page/number, the cursors are page numbers.
func pagesOf(n, places int, pace time.Duration) fakeEngine {
	return func(ctx context.Context, q gmaps.Query, from gmaps.Cursor) seq {
		return func(yield func(gmaps.Page, error) bool) {
			at := 0
			if from != "" {
				at, _ = strconv.Atoi(string(from))
			}
			for ; at < n; at++ {
				if pace > 0 {
					select {
					case <-ctx.Done():
					case <-time.After(pace):
					}
				}
				if ctx.Err() != nil {
					yield(gmaps.Page{}, context.Cause(ctx))
					return
				}
				p := gmaps.Page{}
				for i := range places {
					p.Places = append(p.Places, gmaps.Place{DataID: fmt.Sprintf("%s/%d/%d", q.Keyword, at, i)})
				}
				if at < n-1 {
					p.Cursor = gmaps.Cursor(fmt.Sprint(at + 1))
				}
				if !yield(p, nil) {
					return
				}
			}
		}
	}
}

var (
	errAway  = &url.Error{Op: "Post", URL: "http://manager", Err: errors.New("connection refused")}
	errFence = &api.Problem{Type: api.ProblemStaleFence, Status: http.StatusConflict}
	errTaken = &api.Problem{Type: api.ProblemSpawnTaken, Status: http.StatusConflict}
	errGone  = &api.Problem{Type: api.ProblemGone, Status: http.StatusGone}
)

// fakeManager is a Source that keeps the rules of a Manager in memory. Its function fields come first, and answer instead if they
// return true.
type fakeManager struct {
	onJoin   func(api.Join) error
	onLease  func(api.LeaseRequest) error
	onRenew  func(job.Fence) (job.Order, error)
	onSubmit func(job.Fence, job.Batch) error

	spec  job.Spec
	after api.LeaseAnswer // when there is no open task
	ttl   time.Duration

	mu      sync.Mutex
	fence   job.Fence
	open    []job.Task
	leased  map[job.TaskID]job.Fence
	tasks   map[job.TaskID]job.Task
	places  map[string]int // how often each was acknowledged
	cursors map[job.TaskID][]gmaps.Cursor
	steps   map[job.TaskID]job.TaskStep // the last of each task
	batches []job.Batch
	joins   []api.Join
	asked   []int
	back    []job.TaskStep
	renewed int
}

func newManager(keywords ...string) *fakeManager {
	m := &fakeManager{
		after: api.LeaseAnswer{Exit: true}, ttl: 30 * time.Second,
		leased: map[job.TaskID]job.Fence{}, tasks: map[job.TaskID]job.Task{}, places: map[string]int{},
		cursors: map[job.TaskID][]gmaps.Cursor{}, steps: map[job.TaskID]job.TaskStep{},
	}
	for i, k := range keywords {
		t := job.Task{ID: job.TaskID(i + 1), Query: gmaps.Query{Keyword: k}}
		m.open, m.tasks[t.ID] = append(m.open, t), t
	}
	return m
}

func (m *fakeManager) Join(_ context.Context, j api.Join) (api.Joined, error) {
	m.mu.Lock()
	m.joins = append(m.joins, j)
	m.mu.Unlock()
	if m.onJoin != nil {
		if err := m.onJoin(j); err != nil {
			return api.Joined{}, err
		}
	}
	return api.Joined{Session: "s", SpawnID: "spawn", LeaseTTL: job.Duration(m.ttl)}, nil
}

func (m *fakeManager) Lease(ctx context.Context, r api.LeaseRequest) (api.LeaseAnswer, error) {
	if ctx.Err() != nil {
		return api.LeaseAnswer{}, ctx.Err()
	}
	if m.onLease != nil {
		if err := m.onLease(r); err != nil {
			return api.LeaseAnswer{}, err
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.asked = append(m.asked, r.Max)
	if len(m.open) == 0 {
		return m.after, nil
	}
	m.fence++
	n := min(r.Max, len(m.open))
	l := &job.Lease{Fence: m.fence, JobID: "job", Spec: m.spec, Tasks: slices.Clone(m.open[:n])}
	m.open = m.open[n:]
	for _, t := range l.Tasks {
		m.leased[t.ID] = m.fence
	}
	return api.LeaseAnswer{Lease: l, TTL: job.Duration(m.ttl)}, nil
}

func (m *fakeManager) Renew(_ context.Context, f job.Fence) (api.OrderAnswer, error) {
	m.mu.Lock()
	m.renewed++
	m.mu.Unlock()
	if m.onRenew != nil {
		o, err := m.onRenew(f)
		return api.OrderAnswer{Order: o}, err
	}
	return api.OrderAnswer{Order: job.Continue}, nil
}

func (m *fakeManager) Submit(ctx context.Context, f job.Fence, b job.Batch) (job.Ack, error) {
	if ctx.Err() != nil {
		return job.Ack{}, ctx.Err()
	}
	if m.onSubmit != nil {
		if err := m.onSubmit(f, b); err != nil {
			return job.Ack{}, err
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	ack := job.Ack{Order: job.Continue}
	for _, s := range b.Tasks {
		if m.leased[s.TaskID] != f {
			return ack, errFence
		}
	}
	m.batches = append(m.batches, b)
	for _, p := range b.Places {
		if m.places[p.Place.DataID]++; m.places[p.Place.DataID] > 1 {
			ack.Duplicates++
			continue
		}
		ack.New++
	}
	for _, s := range b.Tasks {
		m.steps[s.TaskID] = s
		m.cursors[s.TaskID] = append(m.cursors[s.TaskID], s.Cursor)
		if s.Done || s.Error != "" {
			delete(m.leased, s.TaskID)
		}
	}
	return ack, nil
}

func (m *fakeManager) HandBack(ctx context.Context, f job.Fence, h api.HandBack) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.back = append(m.back, h.Steps...)
	for _, s := range h.Steps {
		if m.leased[s.TaskID] == f {
			t := m.tasks[s.TaskID]
			t.Cursor = s.Cursor
			m.open = append(m.open, t)
			delete(m.leased, s.TaskID)
		}
	}
	return nil
}

// checkPlaces fails the test unless the manager has every place of the engine pagesOf(pages, places) once.
func (m *fakeManager) checkPlaces(t *testing.T, pages, places int) {
	t.Helper()
	m.mu.Lock()
	defer m.mu.Unlock()
	if want := len(m.tasks) * pages * places; len(m.places) != want {
		t.Errorf("%d places were acknowledged, want %d", len(m.places), want)
	}
	for id, n := range m.places {
		if n != 1 {
			t.Errorf("place %s was acknowledged %d times", id, n)
		}
	}
	for id := range m.tasks {
		if !m.steps[id].Done {
			t.Errorf("task %d is not done: %+v", id, m.steps[id])
		}
	}
}

func newWorker(t *testing.T, m *fakeManager, e gmaps.Engine, change ...func(*Config)) *Worker {
	t.Helper()
	c := Config{Source: m, Engine: e, SpawnID: "spawn", Concurrency: 4}
	for _, f := range change {
		f(&c)
	}
	w, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func standingWorker(c *Config) { c.Standing, c.SpawnID = true, "" }

func names(m map[job.TaskID]job.TaskStep) []job.TaskID { return slices.Sorted(maps.Keys(m)) }

type seq = iter.Seq2[gmaps.Page, error]
