package web_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"gmaps-scraper/gmaps"
	"gmaps-scraper/gmaps/simulator"
	"gmaps-scraper/gmaps/web"
)

const seed = 7

func simulate(t *testing.T, c simulator.Config) (*simulator.Simulator, string) {
	t.Helper()
	c.Seed = seed
	sim, err := simulator.New(c)
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(sim)
	t.Cleanup(server.Close)
	return sim, server.URL
}

func engineFor(t *testing.T, base string, with func(*web.Config)) *web.Engine {
	t.Helper()
	c := web.Config{BaseURL: base, Backoff: time.Millisecond, Timeout: 10 * time.Second}
	if with != nil {
		with(&c)
	}
	e, err := web.New(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(e.Close)
	return e
}

func TestSearchFindsEveryPlaceThroughEachFault(t *testing.T) {
	t.Parallel()
	const n = 230
	want := map[string]bool{}
	for i := range uint32(n) {
		p := simulator.SyntheticPlace(seed, i)
		want[p.Key()] = true
	}
	for _, fault := range []simulator.Fault{
		simulator.FaultNone, simulator.FaultError, simulator.FaultCaptcha, simulator.FaultConsent, simulator.FaultTruncated,
		simulator.FaultCut, simulator.FaultGarbage, simulator.FaultLimited, simulator.FaultNoSession,
	} {
		t.Run("fault "+string(fault), func(t *testing.T) {
			t.Parallel()
			var searches atomic.Int64
			_, base := simulate(t, simulator.Config{Synthetic: n, Fault: func(r *http.Request) simulator.Fault {
				if r.URL.Path == "/search" && searches.Add(1)%3 == 2 {
					return fault
				}
				return simulator.FaultNone
			}})
			e := engineFor(t, base, nil)
			seen := map[string]int{}
			for page, err := range e.Search(t.Context(), gmaps.Query{Keyword: "syntheticall", Detail: gmaps.DetailNever}, "") {
				if err != nil {
					t.Fatal(err)
				}
				for _, p := range page.Places {
					seen[p.Key()]++
				}
			}
			for key := range want {
				if seen[key] != 1 {
					t.Errorf("%s came %d times", key, seen[key])
				}
			}
			if len(seen) != n {
				t.Errorf("got %d places, want %d", len(seen), n)
			}
		})
	}
}

func TestLongSearchDoesNotEndEarlyWherever(t *testing.T) {
	t.Parallel()
	const n = 3000 // many times what a cursor's filter holds
	_, base := simulate(t, simulator.Config{Synthetic: n})
	e := engineFor(t, base, nil)
	q := gmaps.Query{Keyword: "syntheticall", Detail: gmaps.DetailNever}
	seen := map[string]bool{}
	cursor, started := gmaps.Cursor(""), false
	for !started || cursor != "" {
		// As if every worker died after 40 pages.
		pages := 0
		for page, err := range e.Search(t.Context(), q, cursor) {
			if err != nil {
				t.Fatal(err)
			}
			started, cursor = true, page.Cursor
			for _, p := range page.Places {
				seen[p.Key()] = true
			}
			if pages++; pages == 40 {
				break
			}
		}
	}
	if len(seen) != n {
		t.Errorf("got %d places, want %d", len(seen), n)
	}
}

func TestDetailsAreWhatTheSimulatorMade(t *testing.T) {
	t.Parallel()
	const n = 60
	_, base := simulate(t, simulator.Config{Synthetic: n})
	want := map[string]gmaps.Place{}
	for i := range uint32(n) {
		p := simulator.SyntheticPlace(seed, i)
		want[p.Key()] = p
	}
	var drift gmaps.Drift
	e := engineFor(t, base, func(c *web.Config) { c.Drift = &drift })
	for page, err := range e.Search(t.Context(), gmaps.Query{Keyword: "syntheticall", Detail: gmaps.DetailAlways}, "") {
		if err != nil {
			t.Fatal(err)
		}
		for _, got := range page.Places {
			if diff := cmp.Diff(want[got.Key()], got); diff != "" {
				t.Fatalf("%s (-want +got):\n%s", got.Key(), diff)
			}
		}
	}
	if got := drift.Counts(); len(got) != 0 {
		t.Errorf("drift %v, want none", got)
	}
}

func TestReviewsAreAllThere(t *testing.T) {
	t.Parallel()
	_, base := simulate(t, simulator.Config{Synthetic: 200})
	e := engineFor(t, base, nil)
	for i := range uint32(5) {
		place := simulator.SyntheticPlace(seed, i)
		want := simulator.SyntheticReviews(seed, i, gmaps.OrderNewest)
		q := gmaps.Query{Place: &gmaps.PlaceRef{DataID: place.DataID}, Reviews: gmaps.Reviews{Max: 100_000, Order: gmaps.OrderNewest}}
		if diff := cmp.Diff(want, collect(t, e, q, "")[0].Places[0].ExtraReviews); diff != "" {
			t.Fatalf("place %d (-want +got):\n%s", i, diff)
		}
	}
}

func TestKnownPlaceOfTheSimulator(t *testing.T) {
	t.Parallel()
	sim, base := simulate(t, simulator.Config{Synthetic: 200})
	want := simulator.SyntheticPlace(seed, 3)
	e := engineFor(t, base, nil)
	for name, ref := range map[string]gmaps.PlaceRef{
		"data id": {DataID: want.DataID}, "place id": {PlaceID: want.PlaceID}, "cid": {CID: want.CID}, "short link": {URL: base + sim.ShortLink(want.DataID)},
	} {
		pages, err := collectErr(t.Context(), e, gmaps.Query{Place: &ref}, "")
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if diff := cmp.Diff(want, pages[0].Places[0]); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

func TestViewportIsKeptThroughDegradedAnswers(t *testing.T) {
	t.Parallel()
	var searches atomic.Int64
	_, base := simulate(t, simulator.Config{Synthetic: 20_000, Fault: func(r *http.Request) simulator.Fault {
		if r.URL.Path == "/search" && searches.Add(1)%2 == 1 {
			return simulator.FaultDegraded
		}
		return simulator.FaultNone
	}})
	e := engineFor(t, base, nil)
	q := gmaps.Query{Keyword: "synthetic", Detail: gmaps.DetailNever, Viewport: &gmaps.Viewport{Center: athens, RadiusMeters: 3000}}
	for _, page := range collect(t, e, q, "") {
		for _, p := range page.Places {
			if p.Location != nil && (p.Location.Lat < athens.Lat-1 || p.Location.Lat > athens.Lat+1) {
				t.Errorf("%s is at %v, far from the viewport", p.Title, *p.Location)
			}
		}
	}
	if e.Stats().Blocked[gmaps.BlockedDegraded] == 0 {
		t.Error("no degraded answer was recognised")
	}
}

func TestRetryAfterOfTheOnlyExitIsWaitedFor(t *testing.T) {
	t.Parallel()
	var searches atomic.Int64
	_, base := simulate(t, simulator.Config{Synthetic: 30, Fault: func(r *http.Request) simulator.Fault {
		if strings.HasPrefix(r.URL.Path, "/search") && searches.Add(1) == 1 {
			return simulator.FaultRate // Retry-After: 1
		}
		return simulator.FaultNone
	}})
	begin := time.Now()
	pages := collect(t, engineFor(t, base, nil), gmaps.Query{Keyword: "syntheticall", Detail: gmaps.DetailNever}, "")
	if got := len(keys(pages)); got != 30 || time.Since(begin) < time.Second {
		t.Errorf("got %d places after %s, want 30 after a second", got, time.Since(begin))
	}
}

func TestHangingAnswerTimesOutAndIsAskedAgain(t *testing.T) {
	t.Parallel()
	var searches atomic.Int64
	_, base := simulate(t, simulator.Config{Synthetic: 30, Fault: func(r *http.Request) simulator.Fault {
		if r.URL.Path == "/search" && searches.Add(1) == 1 {
			return simulator.FaultHang
		}
		return simulator.FaultNone
	}})
	e := engineFor(t, base, func(c *web.Config) { c.Timeout = 300 * time.Millisecond })
	if got := len(keys(collect(t, e, gmaps.Query{Keyword: "syntheticall", Detail: gmaps.DetailNever}, ""))); got != 30 {
		t.Errorf("got %d places, want 30", got)
	}
}

// BenchmarkSearch is the engine against the simulator; BenchmarkFetch fetches the same bytes and throws them away.
func BenchmarkSearch(b *testing.B) {
	sim, err := simulator.New(simulator.Config{Synthetic: 1_000_000, Seed: seed})
	if err != nil {
		b.Fatal(err)
	}
	server := httptest.NewServer(sim)
	defer server.Close()
	e, err := web.New(web.Config{BaseURL: server.URL})
	if err != nil {
		b.Fatal(err)
	}
	defer e.Close()
	b.ReportAllocs()
	for b.Loop() {
		q := gmaps.Query{Keyword: "syntheticall", MaxPages: 50, Detail: gmaps.DetailNever}
		for _, err := range e.Search(b.Context(), q, "") {
			if err != nil {
				b.Fatal(err)
			}
		}
	}
	b.ReportMetric(float64(e.Stats().Places)/b.Elapsed().Seconds(), "places/s")
}

func BenchmarkFetch(b *testing.B) {
	sim, err := simulator.New(simulator.Config{Synthetic: 1_000_000, Seed: seed})
	if err != nil {
		b.Fatal(err)
	}
	server := httptest.NewServer(sim)
	defer server.Close()
	b.ReportAllocs()
	for b.Loop() {
		for i := range 50 {
			req, err := http.NewRequest(http.MethodGet, gmaps.SearchURL(server.URL, gmaps.Query{Keyword: "syntheticall"}, i*gmaps.PageSize), nil)
			if err != nil {
				b.Fatal(err)
			}
			req.AddCookie(&http.Cookie{Name: "NID", Value: strconv.Itoa(i)})
			resp, err := server.Client().Do(req)
			if err != nil {
				b.Fatal(err)
			}
			if _, err := discard(resp); err != nil {
				b.Fatal(err)
			}
		}
	}
	b.ReportMetric(float64(b.N)*50*gmaps.PageSize/b.Elapsed().Seconds(), "places/s")
}

func discard(resp *http.Response) (int64, error) {
	defer resp.Body.Close()
	return io.Copy(io.Discard, resp.Body)
}

func TestCapturedSearchComesWhole(t *testing.T) {
	t.Parallel()
	dir := os.Getenv("GMAPS_CAPTURES")
	if dir == "" {
		dir = filepath.Join("..", "..", "..", "shared", "captures")
	}
	if _, err := os.Stat(filepath.Join(dir, "search-coffee-ilion.json")); err != nil {
		t.Skipf("NO CAPTURES in %s: the engine is not tried on real payloads (GMAPS_CAPTURES names another folder)", dir)
	}
	_, base := simulate(t, simulator.Config{CapturesDir: dir})
	var drift gmaps.Drift
	e := engineFor(t, base, func(c *web.Config) { c.Drift = &drift })
	pages := collect(t, e, gmaps.Query{Keyword: "coffee"}, "")
	if got := len(keys(pages)); got != 20 {
		t.Errorf("got %d places, want 20", got)
	}
	if got := e.Stats(); got.Details != 0 || got.Retries != 0 {
		t.Errorf("stats %+v: a full listing was doubted or completed", got)
	}
	if got := drift.Counts(); len(got) != 0 {
		t.Errorf("drift %v, want none", got)
	}
}
