package worker_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"net/http"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"gmaps-scraper/api"
	"gmaps-scraper/gmaps"
	"gmaps-scraper/job"
	"gmaps-scraper/manager"
	"gmaps-scraper/store/sqlite"
	"gmaps-scraper/worker"
)

// countingEngine brings pages of 20 places each, named after keyword and position; its cursors are page numbers.
type countingEngine struct {
	pages  int
	pace   time.Duration
	onPage func()
}

func (e countingEngine) Search(ctx context.Context, q gmaps.Query, from gmaps.Cursor) iter.Seq2[gmaps.Page, error] {
	return func(yield func(gmaps.Page, error) bool) {
		at := 0
		if from != "" {
			if _, err := fmt.Sscan(string(from), &at); err != nil {
				yield(gmaps.Page{}, err)
				return
			}
		}
		for ; at < e.pages; at++ {
			if e.pace > 0 {
				select {
				case <-ctx.Done():
					yield(gmaps.Page{}, context.Cause(ctx))
					return
				case <-time.After(e.pace):
				}
			}
			p := gmaps.Page{}
			for i := range gmaps.PageSize {
				id := fmt.Sprintf("%s/%d/%d", q.Keyword, at, i)
				p.Places = append(p.Places, gmaps.Place{
					DataID: id, PlaceID: "ChIJ" + id, Title: "Place " + id, Categories: []string{"Cafe"}, Address: "1 Main Street, Springfield",
					Location: &gmaps.Point{Lat: 1, Lng: 2}, Website: "https://example.org/" + id, Rating: 4.5, ReviewCount: 10,
				})
			}
			if at < e.pages-1 {
				p.Cursor = gmaps.Cursor(fmt.Sprint(at + 1))
			}
			e.onPage()
			if !yield(p, nil) {
				return
			}
		}
	}
}

// flaky is a connection that breaks: of every ten worker calls one does not arrive, and the answer to one is lost.
type flaky struct {
	http.RoundTripper
	calls atomic.Int64
}

var errBroken = errors.New("connection reset")

func (f *flaky) RoundTrip(r *http.Request) (*http.Response, error) {
	if !strings.HasPrefix(r.URL.Path, "/api/v1/worker/leases/") {
		return f.RoundTripper.RoundTrip(r)
	}
	n := f.calls.Add(1) % 10
	if n == 3 {
		return nil, errBroken
	}
	res, err := f.RoundTripper.RoundTrip(r)
	if err == nil && n == 7 {
		res.Body.Close()
		return nil, errBroken
	}
	return res, err
}

// openManager runs a real Manager over a real store and returns a way to it.
func openManager(t testing.TB) http.RoundTripper {
	t.Helper()
	st, err := sqlite.Open(t.Context(), filepath.Join(t.TempDir(), "gmaps.db"), sqlite.Config{})
	if err != nil {
		t.Fatal(err)
	}
	m, err := manager.New(t.Context(), manager.Config{Store: st, Open: true, Logger: slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelWarn}))})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	var g errgroup.Group
	g.Go(func() error { return m.Run(ctx) })
	t.Cleanup(func() {
		cancel()
		if err := g.Wait(); err != nil && !errors.Is(err, context.Canceled) {
			t.Errorf("manager: %v", err)
		}
		if err := st.Close(); err != nil {
			t.Error(err)
		}
	})
	return api.InProcess(m.Handler())
}

func newClient(t testing.TB, rt http.RoundTripper) *api.Client {
	t.Helper()
	c, err := api.NewClient("http://manager", "", rt)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func createJob(t testing.TB, c *api.Client, keywords int) job.Job {
	t.Helper()
	var lines strings.Builder
	for i := range keywords {
		fmt.Fprintf(&lines, "keyword %d\n", i)
	}
	j, err := c.Create(t.Context(), api.NewJob{Lines: lines.String()}, "")
	if err != nil {
		t.Fatal(err)
	}
	return j
}

// work runs a worker until the job is terminal, or the engine has brought so many pages (0: all).
func work(t testing.TB, c *api.Client, source worker.Source, e countingEngine, id job.ID, pages int64) (job.Job, worker.Summary) {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var brought atomic.Int64
	e.onPage = func() {
		if brought.Add(1) == pages {
			stop()
		}
	}
	w, err := worker.New(worker.Config{Source: source, Engine: e, Standing: true, Concurrency: 8})
	if err != nil {
		t.Fatal(err)
	}
	var g errgroup.Group
	g.Go(func() error { return w.Run(ctx) })
	for p, err := range c.Stream(ctx, id) { // ends with the job, or with ctx
		if err != nil && ctx.Err() == nil {
			t.Errorf("after %+v: %v", p, err)
		}
	}
	stop()
	if err := g.Wait(); err != nil {
		t.Errorf("worker: %v", err)
	}
	j, err := c.Job(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	return j, w.Summary()
}

func TestARealManagerGetsEveryPlaceOnceOverABrokenConnection(t *testing.T) {
	t.Parallel()
	const keywords, pages = 30, 6
	rt := openManager(t)
	c := newClient(t, rt)
	j := createJob(t, c, keywords)
	source := newClient(t, &flaky{RoundTripper: rt})
	engine := countingEngine{pages: pages, pace: 5 * time.Millisecond}

	// The first worker is stopped in the middle; the second goes on.
	half, first := work(t, c, source, engine, j.ID, keywords*pages/3)
	done, second := work(t, c, newClient(t, &flaky{RoundTripper: rt}), engine, j.ID, 0)
	t.Logf("first worker %+v, second %+v", first, second)

	if half.Counts.Leased != 0 || half.State.Terminal() {
		t.Errorf("after the first worker: %s, %+v", half.State, half.Counts)
	}
	if done.State != job.Succeeded || done.Partial || done.Counts.Places != keywords*pages*gmaps.PageSize || done.Counts.Duplicates != 0 {
		t.Errorf("the job %s with %+v", done.State, done.Counts)
	}
	seen := map[string]bool{}
	for after := int64(0); ; {
		page, err := c.Results(t.Context(), j.ID, api.ResultQuery{After: after, Limit: 1000})
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range page.Results {
			if seen[r.Place.DataID] {
				t.Errorf("place %s is there twice", r.Place.DataID)
			}
			seen[r.Place.DataID] = true
			after = r.Seq
		}
		if page.Next == "" {
			break
		}
	}
	if len(seen) != keywords*pages*gmaps.PageSize {
		t.Errorf("%d places are there", len(seen))
	}
	if first.HandedBack == 0 || first.Failed+second.Failed > 0 {
		t.Errorf("first worker %+v, second %+v", first, second)
	}
}

// BenchmarkWorker is a worker with an engine that costs nothing, over a real Manager and store.
func BenchmarkWorker(b *testing.B) {
	const keywords, pages = 200, 6
	rt := openManager(b)
	c := newClient(b, rt)
	for b.Loop() {
		j := createJob(b, c, keywords)
		j, _ = work(b, c, newClient(b, rt), countingEngine{pages: pages}, j.ID, 0)
		if j.Counts.Places != keywords*pages*gmaps.PageSize {
			b.Fatalf("%+v", j.Counts)
		}
	}
	b.ReportMetric(float64(b.N*keywords*pages*gmaps.PageSize)/b.Elapsed().Seconds(), "places/s")
}
