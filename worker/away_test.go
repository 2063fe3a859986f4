package worker

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"gmaps-scraper/api"
	"gmaps-scraper/gmaps"
	"gmaps-scraper/job"
)

// away makes the manager unreachable between two moments from now.
func away(m *fakeManager, from, to time.Duration) {
	start := time.Now()
	gone := func() error {
		if d := time.Since(start); d >= from && d < to {
			return errAway
		}
		return nil
	}
	m.onLease = func(api.LeaseRequest) error { return gone() }
	m.onSubmit = func(job.Fence, job.Batch) error { return gone() }
	m.onRenew = func(job.Fence) (job.Order, error) { return job.Continue, gone() }
}

func TestAllIsDeliveredInOrderAfterTwoMinutesWithoutAManager(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*Config){
		"memory":       func(*Config) {},
		"disk":         func(c *Config) { c.MemoryBytes, c.SpoolDir = 1, t.TempDir() },
		"little disk":  func(c *Config) { c.MemoryBytes, c.SpoolDir, c.SpoolBytes = 1, t.TempDir(), 10_000 },
		"no disk":      func(c *Config) { c.MemoryBytes = 100_000 },
		"broken disk":  func(c *Config) { c.MemoryBytes, c.SpoolDir = 100_000, filepath.Join(os.DevNull, "no") },
		"small memory": func(c *Config) { c.MemoryBytes, c.SpoolDir = 100_000, t.TempDir() },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				m := newManager(keywords(6)...)
				away(m, 5*time.Second, 125*time.Second)
				w := newWorker(t, m, pagesOf(50, 5, time.Second), change)
				if err := w.Run(t.Context()); err != nil {
					t.Fatal(err)
				}
				m.checkPlaces(t, 50, 5)
				for id, cursors := range m.cursors {
					at := make([]int, 0, len(cursors))
					for _, c := range cursors[:len(cursors)-1] { // the last is the empty one of a task that is done
						n, err := strconv.Atoi(string(c))
						if err != nil {
							t.Fatal(err)
						}
						at = append(at, n)
					}
					if !slices.IsSorted(at) {
						t.Errorf("task %d went %v", id, at)
					}
				}
				if w.budget.memory != 0 || w.budget.disk != 0 {
					t.Errorf("%d bytes of memory and %d of disk were not freed", w.budget.memory, w.budget.disk)
				}
			})
		})
	}
}

func TestASpoolThatCannotBeReadLosesNoPage(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := newManager("a")
		away(m, 3*time.Second, 30*time.Second)
		w := newWorker(t, m, pagesOf(100, 20, time.Second), func(c *Config) { c.MemoryBytes, c.SpoolDir = 100_000, t.TempDir() })
		answer, err := m.Lease(t.Context(), api.LeaseRequest{Max: 1})
		if err != nil {
			t.Fatal(err)
		}
		l := newLease(w, *answer.Lease, m.ttl)
		time.AfterFunc(20*time.Second, func() {
			l.box.mu.Lock()
			defer l.box.mu.Unlock()
			if err := l.box.disk.file.Close(); err != nil {
				t.Error(err)
			}
		})
		if err := l.run(t.Context(), t.Context()); err != nil {
			t.Fatal(err)
		}
		if len(m.back) != 1 || w.budget.memory != 0 || w.budget.disk != 0 {
			t.Fatalf("handed back %v, %d bytes of memory and %d of disk are held", m.back, w.budget.memory, w.budget.disk)
		}
		if err := newWorker(t, m, pagesOf(100, 20, 0)).Run(t.Context()); err != nil {
			t.Fatal(err)
		}
		m.checkPlaces(t, 100, 20)
	})
}

func TestFetchingPausesWhileNothingMoreCanBeKept(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := newManager("a")
		away(m, 0, 10*time.Minute)
		m.onLease = nil
		var fetched atomic.Int64
		inner := pagesOf(500, 20, time.Second)
		e := fakeEngine(func(ctx context.Context, q gmaps.Query, from gmaps.Cursor) seq {
			return func(yield func(gmaps.Page, error) bool) {
				for p, err := range inner(ctx, q, from) {
					fetched.Add(1)
					if !yield(p, err) {
						return
					}
				}
			}
		})
		w := newWorker(t, m, e, func(c *Config) { c.MemoryBytes = 1 << 20 })
		time.AfterFunc(9*time.Minute, func() {
			if n := fetched.Load(); n > 20 {
				t.Errorf("%d pages were fetched with nowhere to put them", n)
			}
		})
		if err := w.Run(t.Context()); err != nil {
			t.Fatal(err)
		}
		m.checkPlaces(t, 500, 20)
	})
}

func TestAnAnswerThatAsksForADayIsAskedAgainWithinMinutes(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := newManager("a")
		asked := 0
		m.onLease = func(api.LeaseRequest) error {
			if asked++; asked == 1 { // as a proxy answers while it is under maintenance
				return &api.Problem{Status: http.StatusServiceUnavailable, RetryAfter: 24 * time.Hour}
			}
			return nil
		}
		start := time.Now()
		if err := newWorker(t, m, pagesOf(1, 1, 0)).Run(t.Context()); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(start); took > 5*time.Minute {
			t.Errorf("went on after %s", took)
		}
		m.checkPlaces(t, 1, 1)
	})
}

func TestASpawnedWorkerGivesUpAndAStandingOneDoesNot(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := newManager("a")
		away(m, 5*time.Second, 2*time.Hour)
		start := time.Now()
		err := newWorker(t, m, pagesOf(10, 1, time.Second)).Run(t.Context())
		if took := time.Since(start); !errors.Is(err, errGaveUp) || took < 30*time.Minute || took > 31*time.Minute {
			t.Errorf("after %s: %v", took, err)
		}

		m = newManager("a")
		m.after = api.LeaseAnswer{RetryIn: job.Duration(time.Second)}
		away(m, 5*time.Second, 2*time.Hour)
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Hour)
		defer cancel()
		if err := newWorker(t, m, pagesOf(10, 1, time.Second), standingWorker).Run(ctx); err != nil {
			t.Fatal(err)
		}
		m.checkPlaces(t, 10, 1)
	})
}

func TestALostAnswerIsRepeatedAndDoublesNothing(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := newManager(keywords(3)...)
		lost := map[string]bool{}
		s := &lossy{fakeManager: m, lose: func(b job.Batch) bool {
			key := fmt.Sprint(b.Tasks)
			if lost[key] || slices.ContainsFunc(b.Tasks, func(s job.TaskStep) bool { return s.Done }) {
				return false
			}
			lost[key] = true
			return true
		}}
		w := newWorker(t, m, pagesOf(10, 3, time.Second), func(c *Config) { c.Source = s; c.Concurrency = 1 })
		if err := w.Run(t.Context()); err != nil {
			t.Fatal(err)
		}
		for id, n := range m.places {
			if n > 2 { // acknowledged, and once more by the repeat, which the store knows
				t.Errorf("place %s came %d times", id, n)
			}
		}
		if len(m.places) != 90 || len(lost) == 0 {
			t.Errorf("%d places, %d lost answers", len(m.places), len(lost))
		}
	})
}

// lossy is a Manager whose answers to some submits never arrive.
type lossy struct {
	*fakeManager
	lose func(job.Batch) bool
}

func (l *lossy) Submit(ctx context.Context, f job.Fence, b job.Batch) (job.Ack, error) {
	ack, err := l.fakeManager.Submit(ctx, f, b)
	if err == nil && l.lose(b) {
		return job.Ack{}, errAway
	}
	return ack, err
}

func TestABatchThatIsTooLargeIsSplit(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := newManager("a")
		m.onSubmit = func(_ job.Fence, b job.Batch) error {
			weight := 0
			for _, p := range b.Places {
				weight += 1 + len(p.Place.ExtraReviews)
			}
			if weight > 30 {
				return &api.Problem{Status: http.StatusRequestEntityTooLarge}
			}
			if len(b.Tasks) > 0 && len(m.places)+len(b.Places) < 100 {
				t.Errorf("the cursor came with %d of 100 places", len(m.places)+len(b.Places))
			}
			return nil
		}
		e := fakeEngine(func(context.Context, gmaps.Query, gmaps.Cursor) seq {
			return func(yield func(gmaps.Page, error) bool) {
				var p gmaps.Page
				for i := range 100 {
					p.Places = append(p.Places, gmaps.Place{DataID: strconv.Itoa(i)})
				}
				p.Places[40].ExtraReviews = make([]gmaps.Review, 500)
				yield(p, nil)
			}
		})
		if err := newWorker(t, m, e).Run(t.Context()); err != nil {
			t.Fatal(err)
		}
		if len(m.places) != 100 || !m.steps[1].Done {
			t.Errorf("%d places, step %+v", len(m.places), m.steps[1])
		}
	})
}

func TestRefusedResultsFailTheirTasksAndNoOther(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := newManager("bad", "good")
		m.onSubmit = func(_ job.Fence, b job.Batch) error {
			for _, p := range b.Places {
				if p.TaskID == 1 {
					return &api.Problem{Status: http.StatusUnprocessableEntity, Detail: "holds a NUL"}
				}
			}
			return nil
		}
		w := newWorker(t, m, pagesOf(30, 3, time.Second), func(c *Config) { c.Concurrency = 1 })
		if err := w.Run(t.Context()); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff([]job.TaskID{1, 2}, names(m.steps)); diff != "" {
			t.Error(diff)
		}
		if !m.steps[2].Done || m.steps[1].Error != "manager refused the results: holds a NUL" {
			t.Errorf("steps %+v", m.steps)
		}
	})
}
