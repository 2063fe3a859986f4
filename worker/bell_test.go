package worker

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"gmaps-scraper/api"
	"gmaps-scraper/cache"
	"gmaps-scraper/gmaps"
	"gmaps-scraper/job"
	"gmaps-scraper/wakeup"
)

// arrive opens a task after a time and, if b is not nil, rings.
func arrive(m *fakeManager, after time.Duration, b *wakeup.Memory) {
	time.AfterFunc(after, func() {
		m.mu.Lock()
		late := job.Task{ID: 9, Query: gmaps.Query{Keyword: "late"}}
		m.open, m.tasks[9] = append(m.open, late), late
		m.mu.Unlock()
		if b != nil {
			_ = b.Ring(context.Background())
			_ = b.Ring(context.Background()) // a doubled one is nothing
		}
	})
}

func TestARingWakesAStandingWorkerAndALostOneCostsASweep(t *testing.T) {
	t.Parallel()
	for name, lost := range map[string]bool{"rung": false, "lost": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				m := newManager()
				m.after = api.LeaseAnswer{RetryIn: job.Duration(time.Minute)}
				m.onLease = func(r api.LeaseRequest) error {
					if r.Wait != 0 {
						t.Errorf("a request is held open for %s", time.Duration(r.Wait))
					}
					return nil
				}
				bell := &wakeup.Memory{}
				ctx, cancel := context.WithCancel(t.Context())
				rang, most := 10*time.Second+500*time.Millisecond, shortPause
				if lost {
					bell, most = nil, sweep
				}
				arrive(m, rang, bell)
				start := time.Now()
				m.onSubmit = func(job.Fence, job.Batch) error {
					if took := time.Since(start) - rang; took > most {
						t.Errorf("work waited for %s", took)
					}
					cancel()
					return nil
				}
				if bell == nil {
					bell = &wakeup.Memory{} // that nobody rings
				}
				w := newWorker(t, m, pagesOf(1, 1, 0), standingWorker, func(c *Config) { c.Bell = bell })
				if err := w.Run(ctx); err != nil {
					t.Fatal(err)
				}
				m.checkPlaces(t, 1, 1)
			})
		})
	}
}

// countingSeen tells what was marked before the manager had it.
type countingSeen struct {
	cache.Memory
	t  *testing.T
	m  *fakeManager
	mu sync.Mutex
	n  int
}

func (s *countingSeen) Mark(ctx context.Context, scope string, keys []string) {
	s.m.mu.Lock()
	for _, k := range keys {
		if s.m.places[k] == 0 {
			s.t.Errorf("%s was marked before it was acknowledged", k)
		}
	}
	s.m.mu.Unlock()
	s.mu.Lock()
	s.n += len(keys)
	s.mu.Unlock()
	s.Memory.Mark(ctx, scope, keys)
}

func TestPlacesAreMarkedAfterTheyAreAcknowledged(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := newManager("a")
		s := &countingSeen{t: t, m: m}
		w := newWorker(t, m, pagesOf(3, 20, 0), func(c *Config) { c.Seen = s })
		if err := w.Run(t.Context()); err != nil {
			t.Fatal(err)
		}
		if s.n != 60 {
			t.Errorf("%d places were marked, want 60", s.n)
		}
		if got := s.Has(t.Context(), "job", []string{"a/0/0", "b/0/0"}); !got[0] || got[1] {
			t.Errorf("seen: %v", got)
		}
	})
}
