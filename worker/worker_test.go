package worker

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"gmaps-scraper/api"
	"gmaps-scraper/gmaps"
	"gmaps-scraper/job"
)

func keywords(n int) []string {
	out := make([]string, n)
	for i := range out {
		out[i] = fmt.Sprintf("k%03d", i)
	}
	return out
}

func TestEveryPageIsAcknowledgedOnceThenTheWorkerExits(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := newManager(keywords(10)...)
		w := newWorker(t, m, pagesOf(6, 20, 300*time.Millisecond))
		if err := w.Run(t.Context()); err != nil {
			t.Fatal(err)
		}
		m.checkPlaces(t, 6, 20)
		for i, n := range m.asked {
			if n > 4 {
				t.Errorf("question %d was for %d tasks with 4 slots", i, n)
			}
		}
		got := w.Summary()
		got.Batches, got.Leases = 0, 0
		if diff := cmp.Diff(Summary{Done: 10, Places: 1200}, got); diff != "" {
			t.Error(diff)
		}
	})
}

func TestSmallPagesShareABatchAndLargeOnesDoNotWait(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := newManager(keywords(4)...)
		w := newWorker(t, m, pagesOf(30, 20, 10*time.Millisecond))
		if err := w.Run(t.Context()); err != nil {
			t.Fatal(err)
		}
		m.checkPlaces(t, 30, 20)
		if n := len(m.batches); n > 4*30*20/200+4 {
			t.Errorf("%d batches for %d places", n, 4*30*20)
		}
	})
}

func TestATaskThatIsOverDoesNotWaitForOthers(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := newManager("a")
		start := time.Now()
		w := newWorker(t, m, pagesOf(2, 1, 0), func(c *Config) { c.FlushAfter = time.Hour })
		if err := w.Run(t.Context()); err != nil {
			t.Fatal(err)
		}
		m.checkPlaces(t, 2, 1)
		if took := time.Since(start); took > time.Second {
			t.Errorf("it took %s", took)
		}
	})
}

func TestAResumedTaskBeginsAtItsCursor(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := newManager("a")
		m.open[0].Cursor = "3"
		if err := newWorker(t, m, pagesOf(5, 1, 0)).Run(t.Context()); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(map[string]int{"a/3/0": 1, "a/4/0": 1}, m.places); diff != "" {
			t.Error(diff)
		}
	})
}

func TestDrainHandsBackFromTheLastAcknowledgedCursor(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := newManager("a", "b")
		w := newWorker(t, m, pagesOf(100, 20, 700*time.Millisecond))
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(10*time.Second, cancel)
		start := time.Now()
		if err := w.Run(ctx); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(start); took > 20*time.Second {
			t.Errorf("the drain took %s", took-10*time.Second)
		}
		want := []job.TaskStep{{TaskID: 1, Cursor: "14"}, {TaskID: 2, Cursor: "14"}} // 14 pages in 10 s
		if diff := cmp.Diff(want, m.back); diff != "" {
			t.Error(diff)
		}
		if len(m.places) != 2*14*20 {
			t.Errorf("%d places", len(m.places))
		}
		// The next worker goes on from there, and nothing is lost or doubled.
		if err := newWorker(t, m, pagesOf(100, 20, 0)).Run(t.Context()); err != nil {
			t.Fatal(err)
		}
		m.checkPlaces(t, 100, 20)
	})
}

func TestALeaseThatIsGrantedWhileTheDrainBeginsIsHandedBack(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := newManager("a")
		ctx, cancel := context.WithCancel(t.Context())
		s := &slowGrant{m, func() { cancel(); time.Sleep(lingerTime / 2) }}
		start := time.Now()
		if err := newWorker(t, m, pagesOf(1, 1, time.Second), func(c *Config) { c.Source = s }).Run(ctx); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff([]job.TaskStep{{TaskID: 1}}, m.back); diff != "" {
			t.Error(diff)
		}
		if took := time.Since(start); took > 2*lingerTime {
			t.Errorf("it took %s", took)
		}
	})
}

// slowGrant is a Manager whose answer to a question for work takes its time after the grant.
type slowGrant struct {
	*fakeManager
	then func()
}

func (s *slowGrant) Lease(ctx context.Context, r api.LeaseRequest) (api.LeaseAnswer, error) {
	answer, err := s.fakeManager.Lease(ctx, r)
	s.then()
	if ctx.Err() != nil {
		return api.LeaseAnswer{}, ctx.Err()
	}
	return answer, err
}

func TestDrainWithoutAManagerEndsInTime(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := newManager("a")
		m.onSubmit = func(job.Fence, job.Batch) error { return errAway }
		w := newWorker(t, m, pagesOf(100, 20, time.Second))
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(10*time.Second, cancel)
		start := time.Now()
		err := w.Run(ctx)
		if took := time.Since(start); took > 20*time.Second || !errors.Is(err, errDrainTimeout) {
			t.Errorf("after %s: %v", took, err)
		}
	})
}

func TestAPausedJobIsHandedBackAndTheWorkerAsksOn(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := newManager("a")
		m.onRenew = func(f job.Fence) (job.Order, error) {
			if f == 1 {
				return job.Drain, nil
			}
			return job.Continue, nil
		}
		w := newWorker(t, m, pagesOf(50, 2, time.Second))
		if err := w.Run(t.Context()); err != nil {
			t.Fatal(err)
		}
		m.checkPlaces(t, 50, 2)
		if s := w.Summary(); s.HandedBack != 1 || s.Failed != 0 {
			t.Errorf("summary %+v", s)
		}
	})
}

func TestCancelStopsTheFetchesAtOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := newManager("a")
		var ordered time.Time
		m.onRenew = func(job.Fence) (job.Order, error) { ordered = time.Now(); return job.Cancel, nil }
		var ended time.Time
		var cause error
		hang := fakeEngine(func(ctx context.Context, _ gmaps.Query, _ gmaps.Cursor) seq {
			return func(yield func(gmaps.Page, error) bool) {
				if !yield(gmaps.Page{Cursor: "1"}, nil) {
					return
				}
				<-ctx.Done()
				ended, cause = time.Now(), context.Cause(ctx)
				yield(gmaps.Page{}, cause)
			}
		})
		w := newWorker(t, m, hang, func(c *Config) { c.FlushAfter = time.Hour }) // found, but not handed in yet
		if err := w.Run(t.Context()); err != nil {
			t.Fatal(err)
		}
		if !errors.Is(cause, errCancelled) || !ended.Equal(ordered) {
			t.Errorf("the fetch ended %s after the order with %v", ended.Sub(ordered), cause)
		}
		if len(m.batches)+len(m.back) > 0 {
			t.Errorf("after the order came %v %v", m.batches, m.back)
		}
	})
}

func TestAStaleFenceStopsAllWrites(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := newManager("a")
		zombie := false
		var after int
		m.onRenew = func(job.Fence) (job.Order, error) { zombie = true; return "", errFence }
		m.onSubmit = func(job.Fence, job.Batch) error {
			if zombie {
				after++
			}
			return nil
		}
		w := newWorker(t, m, pagesOf(100, 20, 400*time.Millisecond))
		if err := w.Run(t.Context()); err != nil {
			t.Fatal(err)
		}
		if after > 0 || len(m.back) > 0 {
			t.Errorf("%d submits and %d hand-backs came under a stale fence", after, len(m.back))
		}
		if s := w.Summary(); s.Lost != 1 {
			t.Errorf("summary %+v", s)
		}
	})
}

func TestAZombieThatLearnsTwiceAtOnceGoesOn(t *testing.T) {
	t.Parallel()
	for name, answer := range map[string]error{"the same": errFence, "another refusal": &api.Problem{Status: 400}} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := newManager("a")
				m.onRenew = func(job.Fence) (job.Order, error) { return "", errFence }
				m.onSubmit = func(job.Fence, job.Batch) error {
					time.Sleep(time.Minute) // the heartbeat has learned it while this submit was under way
					return answer
				}
				if err := newWorker(t, m, pagesOf(100, 20, time.Second)).Run(t.Context()); err != nil {
					t.Errorf("a lease that ended took its worker down: %v", err)
				}
			})
		})
	}
}

func TestAZombieLearnsFromItsSubmit(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := newManager("a")
		submits := 0
		m.onSubmit = func(job.Fence, job.Batch) error { submits++; return errFence }
		if err := newWorker(t, m, pagesOf(100, 20, time.Second)).Run(t.Context()); err != nil {
			t.Fatal(err)
		}
		if submits != 1 || len(m.back) > 0 {
			t.Errorf("%d submits, %d handed back", submits, len(m.back))
		}
	})
}

func TestAPanicOfTheEngineIsTheTasksError(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := newManager("good", "bad", "good too")
		good := pagesOf(3, 2, time.Second)
		e := fakeEngine(func(ctx context.Context, q gmaps.Query, from gmaps.Cursor) seq {
			if q.Keyword != "bad" {
				return good(ctx, q, from)
			}
			return func(yield func(gmaps.Page, error) bool) {
				yield(gmaps.Page{Places: []gmaps.Place{{DataID: "before"}}, Cursor: "1"}, nil)
				panic("index out of range")
			}
		})
		w := newWorker(t, m, e)
		if err := w.Run(t.Context()); err != nil {
			t.Fatal(err)
		}
		if !m.steps[1].Done || !m.steps[3].Done || m.steps[2].Error != "engine panicked: index out of range" || m.steps[2].Cursor != "1" || m.places["before"] != 1 {
			t.Errorf("steps %+v", m.steps)
		}
		if s := w.Summary(); s.Panics != 1 || s.Failed != 1 || s.Done != 2 {
			t.Errorf("summary %+v", s)
		}
	})
}

func TestErrorsOfTheEngineBecomeSteps(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		err      error
		attempts int
		text     string
		retry    time.Duration
	}{
		"blocked":       {&gmaps.BlockedError{Kind: gmaps.BlockedRate, URL: "u"}, 1, "blocked (rate): google refused (rate) at u", 30 * time.Second},
		"blocked for":   {&gmaps.BlockedError{Kind: gmaps.BlockedCaptcha, RetryAfter: time.Minute}, 1, "blocked (captcha): google refused (captcha) at ", time.Minute},
		"decode":        {&gmaps.DecodeError{URL: "u", Err: errors.New("no JSON")}, 1, "decode answer of u: no JSON", 2 * time.Second},
		"third attempt": {errors.New("x"), 3, "x", 8 * time.Second},
		"long":          {errors.New(strings.Repeat("é", 3000)), 60, strings.Repeat("é", 500), 2 * time.Minute},
		"no last page":  {nil, 0, "engine ended the search before its last page", 2 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				m := newManager("a")
				m.open[0].Attempts = c.attempts
				e := fakeEngine(func(context.Context, gmaps.Query, gmaps.Cursor) seq {
					return func(yield func(gmaps.Page, error) bool) {
						if c.err != nil {
							yield(gmaps.Page{}, c.err)
						}
					}
				})
				if err := newWorker(t, m, e).Run(t.Context()); err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(job.TaskStep{TaskID: 1, Error: c.text, RetryAfter: job.Duration(c.retry)}, m.steps[1]); diff != "" {
					t.Error(diff)
				}
			})
		})
	}
}

func TestPlacesOutsideAStrictAreaAreDropped(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := newManager("a")
		m.spec.Area = job.Area{Box: &job.Box{MinLat: 0, MaxLat: 1, MinLng: 0, MaxLng: 1}, Strict: true}
		e := fakeEngine(func(context.Context, gmaps.Query, gmaps.Cursor) seq {
			return func(yield func(gmaps.Page, error) bool) {
				yield(gmaps.Page{Saturated: true, Places: []gmaps.Place{
					{DataID: "in", Location: &gmaps.Point{Lat: 0.5, Lng: 0.5}}, {DataID: "out", Location: &gmaps.Point{Lat: 2, Lng: 0.5}}, {DataID: "nowhere"},
				}}, nil)
			}
		})
		w := newWorker(t, m, e)
		if err := w.Run(t.Context()); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(map[string]int{"in": 1, "nowhere": 1}, m.places); diff != "" {
			t.Error(diff)
		}
		if s := m.steps[1]; !s.Saturated || w.Summary().Outside != 1 {
			t.Errorf("step %+v, summary %+v", s, w.Summary())
		}
	})
}

func TestJoinIsRepeatedWithTheSameNonce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := newManager("a")
		m.onJoin = func(api.Join) error {
			if len(m.joins) < 4 {
				return errAway // the answer was lost
			}
			return nil
		}
		if err := newWorker(t, m, pagesOf(1, 1, 0)).Run(t.Context()); err != nil {
			t.Fatal(err)
		}
		m.checkPlaces(t, 1, 1)
		for _, j := range m.joins {
			if j != m.joins[0] || len(j.Nonce) < 16 || len(j.Nonce) > 64 {
				t.Errorf("joined as %+v, before as %+v", j, m.joins[0])
			}
		}
	})
}

func TestNothingToDoIsNoError(t *testing.T) {
	t.Parallel()
	for name, refusal := range map[string]error{"taken": errTaken, "gone": errGone} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := newManager("a")
			m.onJoin = func(api.Join) error { return refusal }
			if err := newWorker(t, m, pagesOf(1, 1, 0)).Run(t.Context()); err != nil {
				t.Error(err)
			}
			m = newManager("a")
			m.onLease = func(api.LeaseRequest) error { return refusal }
			if err := newWorker(t, m, pagesOf(1, 1, 0)).Run(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestAWrongTokenIsAnError(t *testing.T) {
	t.Parallel()
	m := newManager("a")
	m.onJoin = func(api.Join) error { return &api.Problem{Status: http.StatusForbidden, Title: "Forbidden"} }
	if err := newWorker(t, m, pagesOf(1, 1, 0)).Run(t.Context()); !api.IsUnauthorized(err) {
		t.Errorf("got %v", err)
	}
}

func TestAStandingWorkerWaitsForWorkAndJoinsAnewWhenForgotten(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := newManager("a")
		m.after = api.LeaseAnswer{RetryIn: job.Duration(time.Second)}
		forgotten := false
		m.onLease = func(api.LeaseRequest) error {
			if !forgotten && len(m.asked) == 20 {
				forgotten = true
				return errGone
			}
			return nil
		}
		w := newWorker(t, m, pagesOf(2, 1, 0), standingWorker)
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(40*time.Second, func() {
			m.mu.Lock()
			defer m.mu.Unlock()
			late := job.Task{ID: 9, Query: gmaps.Query{Keyword: "late"}}
			m.open, m.tasks[9] = append(m.open, late), late
		})
		time.AfterFunc(time.Minute, cancel)
		if err := w.Run(ctx); err != nil {
			t.Fatal(err)
		}
		m.checkPlaces(t, 2, 1)
		if len(m.joins) != 2 || m.joins[0].Nonce == m.joins[1].Nonce {
			t.Errorf("joins %+v", m.joins)
		}
		if len(m.asked) > 100 {
			t.Errorf("%d questions in a minute", len(m.asked))
		}
	})
}

func TestAWorkerStaysWhileItsOwnLeaseMayBringMore(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := newManager("a", "b")
		m.onSubmit = func(_ job.Fence, b job.Batch) error {
			for _, s := range b.Tasks {
				if s.TaskID == 2 && s.Done { // a cell that was saturated
					m.mu.Lock()
					child := job.Task{ID: 3, Query: gmaps.Query{Keyword: "child"}}
					m.open, m.tasks[3] = append(m.open, child), child
					m.mu.Unlock()
				}
			}
			return nil
		}
		slow := pagesOf(2, 1, 20*time.Second)
		fast := pagesOf(2, 1, 0)
		e := fakeEngine(func(ctx context.Context, q gmaps.Query, from gmaps.Cursor) seq {
			if q.Keyword == "b" {
				return slow(ctx, q, from)
			}
			return fast(ctx, q, from)
		})
		if err := newWorker(t, m, e).Run(t.Context()); err != nil {
			t.Fatal(err)
		}
		m.checkPlaces(t, 2, 1)
	})
}

func TestConfigIsChecked(t *testing.T) {
	t.Parallel()
	ok := Config{Source: newManager(), Engine: pagesOf(1, 1, 0), SpawnID: "s"}
	for want, change := range map[string]func(*Config){
		"source":      func(c *Config) { c.Source = nil },
		"engine":      func(c *Config) { c.Engine = nil },
		"concurrency": func(c *Config) { c.Concurrency = -1 },
		"lease wait":  func(c *Config) { c.LeaseWait = time.Minute },
		"spawn id":    func(c *Config) { c.SpawnID = "" },
	} {
		c := ok
		change(&c)
		if _, err := New(c); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%s: got %v", want, err)
		}
	}
}
