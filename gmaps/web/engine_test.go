package web_test

import (
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"gmaps-scraper/gmaps"
	"gmaps-scraper/gmaps/web"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var athens = gmaps.Point{Lat: 37.98, Lng: 23.73}

// over is a search of a viewport of 5 km around athens.
func over(keyword string) gmaps.Query {
	return gmaps.Query{Keyword: keyword, Viewport: &gmaps.Viewport{Center: athens, RadiusMeters: 5000}, Detail: gmaps.DetailNever}
}

func collect(t *testing.T, e *web.Engine, q gmaps.Query, from gmaps.Cursor) []gmaps.Page {
	t.Helper()
	pages, err := collectErr(t.Context(), e, q, from)
	if err != nil {
		t.Fatal(err)
	}
	return pages
}

func collectErr(ctx context.Context, e *web.Engine, q gmaps.Query, from gmaps.Cursor) ([]gmaps.Page, error) {
	var pages []gmaps.Page
	for page, err := range e.Search(ctx, q, from) {
		if err != nil {
			return pages, err
		}
		pages = append(pages, page)
	}
	return pages, nil
}

func keys(pages []gmaps.Page) []string {
	var all []string
	for _, page := range pages {
		for _, p := range page.Places {
			all = append(all, p.Key())
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}

func TestSearchEndsAfterTwoPagesWithNothingNew(t *testing.T) {
	t.Parallel()
	g := &google{places: makePlaces(45, athens)}
	pages := collect(t, open(t, g, nil), over("cafe"), "")
	if got := len(keys(pages)); got != 45 {
		t.Errorf("got %d places, want 45", got)
	}
	if got := g.count(isSearch); got != 5 {
		t.Errorf("asked %d pages, want 3 with places and 2 without", got)
	}
	if last := pages[len(pages)-1]; last.Cursor != "" || last.Saturated {
		t.Errorf("last page %+v has a cursor or is saturated", last)
	}
}

func TestRepeatedPagesAreNothingNew(t *testing.T) {
	t.Parallel()
	g := &google{places: makePlaces(20, athens)}
	g.answer = func(w http.ResponseWriter, r *http.Request) bool {
		if isSearch(r) {
			writeJSON(w, searchPayload(g.places)) // whatever the offset
		}
		return isSearch(r)
	}
	pages := collect(t, open(t, g, nil), over("cafe"), "")
	total := 0
	for _, p := range pages {
		total += len(p.Places)
	}
	if total != 20 || g.count(isSearch) != 3 {
		t.Errorf("got %d places in %d requests, want 20 in 3", total, g.count(isSearch))
	}
}

func TestSingleHitTakesOneRequest(t *testing.T) {
	t.Parallel()
	g := &google{places: makePlaces(1, athens)}
	pages := collect(t, open(t, g, nil), over("cafe"), "")
	if len(keys(pages)) != 1 || g.count(isSearch) != 1 {
		t.Errorf("got %d places in %d requests, want 1 in 1", len(keys(pages)), g.count(isSearch))
	}
}

func TestSaturation(t *testing.T) {
	t.Parallel()
	anywhere := over("cafe")
	anywhere.Viewport = nil
	for name, c := range map[string]struct {
		q         gmaps.Query
		places    int
		maxPages  int
		saturated bool
		requests  int
	}{
		"page limit, more to come":  {over("cafe"), 100, 2, true, 2},
		"page limit, last one thin": {over("cafe"), 25, 2, false, 2},
		"exhausted under the limit": {over("cafe"), 119, 0, false, 8},
		"exhausted at the limit":    {over("cafe"), 120, 0, true, 8},
		"limit of the whole earth":  {anywhere, 120, 0, false, 8},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := &google{places: makePlaces(c.places, athens)}
			c.q.MaxPages = c.maxPages
			pages := collect(t, open(t, g, nil), c.q, "")
			last := pages[len(pages)-1]
			if last.Saturated != c.saturated || last.Cursor != "" || g.count(isSearch) != c.requests {
				t.Errorf("saturated %v after %d requests, want %v after %d", last.Saturated, g.count(isSearch), c.saturated, c.requests)
			}
			for _, p := range pages[:len(pages)-1] {
				if p.Saturated || p.Cursor == "" || len(p.Cursor) > 500 {
					t.Errorf("a page before the last has saturated %v, cursor %q", p.Saturated, p.Cursor)
				}
			}
		})
	}
}

func TestEveryCursorGoesOnWithTheRest(t *testing.T) {
	t.Parallel()
	g := &google{places: makePlaces(130, athens)}
	e := open(t, g, nil)
	whole := collect(t, e, over("cafe"), "")
	for i, page := range whole {
		if page.Cursor == "" {
			continue
		}
		rest := collect(t, e, over("cafe"), page.Cursor)
		if got, want := len(rest), len(whole)-i-1; got != want {
			t.Errorf("from page %d: %d pages, want %d", i, got, want)
		}
		if diff := cmp.Diff(keys(whole), keys(append(slices.Clone(whole[:i+1]), rest...))); diff != "" {
			t.Errorf("from page %d (-want +got):\n%s", i, diff)
		}
		if rest[len(rest)-1].Saturated != whole[len(whole)-1].Saturated {
			t.Errorf("from page %d: saturation differs", i)
		}
	}
	if _, err := collectErr(t.Context(), e, over("cafe"), "junk"); err == nil {
		t.Error("a junk cursor is no error")
	}
}

func TestDetailWinsAndLosesNoListedField(t *testing.T) {
	t.Parallel()
	g := &google{places: makePlaces(5, athens)}
	q := over("cafe")
	q.Detail = gmaps.DetailAlways
	e := open(t, g, nil)
	for _, p := range collect(t, e, q, "")[0].Places {
		if p.Owner.Name != "owner of "+p.Title || !p.Detailed {
			t.Errorf("%s: not detailed: %+v", p.Title, p)
		}
		if p.Website == "" {
			t.Errorf("%s: the listing's website is lost", p.Title)
		}
	}
	if got := e.Stats(); got.Details != 5 || got.Places != 5 {
		t.Errorf("stats %+v, want 5 details and places", got)
	}
}

func TestDetailAutoAsksOnlyForWhatTheListingLacks(t *testing.T) {
	t.Parallel()
	g := &google{places: makePlaces(5, athens)}
	g.places[3].Categories = nil
	q := over("cafe")
	q.Detail = gmaps.DetailAuto
	collect(t, open(t, g, nil), q, "")
	if got := g.count(isDetail); got != 1 {
		t.Errorf("asked for %d details, want 1", got)
	}
}

func TestFailedDetailKeepsTheListedPlace(t *testing.T) {
	t.Parallel()
	for name, answer := range map[string]func(w http.ResponseWriter){
		"server error": func(w http.ResponseWriter) { w.WriteHeader(http.StatusBadGateway) },
		"not found":    func(w http.ResponseWriter) { w.WriteHeader(http.StatusNotFound) },
		"blocked":      func(w http.ResponseWriter) { w.WriteHeader(http.StatusTooManyRequests) },
		"undecodable":  func(w http.ResponseWriter) { fmt.Fprint(w, ")]}'\n[[[") },
		"other place": func(w http.ResponseWriter) {
			writeJSON(w, placePayload(gmaps.Place{DataID: "0x1:0x2", Title: "other"}))
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := &google{places: makePlaces(3, athens)}
			g.answer = func(w http.ResponseWriter, r *http.Request) bool {
				if isDetail(r) {
					answer(w)
				}
				return isDetail(r)
			}
			e := open(t, g, func(c *web.Config) { c.Retries = 2 })
			q := over("cafe")
			q.Detail = gmaps.DetailAlways
			pages := collect(t, e, q, "")
			if got := e.Stats().DetailsFailed; len(keys(pages)) != 3 || got != 3 || pages[0].Places[0].Title != "Place 0" {
				t.Errorf("got %d places, %d details failed, want 3 and 3", len(keys(pages)), got)
			}
		})
	}
}

func TestReviewsStopAtMaxOrEndAndComeOnce(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ have, max, want int }{{150, 1000, 150}, {150, 70, 70}, {0, 10, 0}} {
		g := &google{places: makePlaces(2, athens), reviews: c.have}
		q := over("cafe")
		q.Reviews.Max = c.max
		for _, p := range collect(t, open(t, g, nil), q, "")[0].Places {
			ids := map[string]bool{}
			for _, r := range p.ExtraReviews {
				ids[r.ID] = true
			}
			if len(p.ExtraReviews) != c.want || len(ids) != c.want {
				t.Errorf("%d of %d: got %d reviews, %d ids, want %d", c.max, c.have, len(p.ExtraReviews), len(ids), c.want)
			}
		}
	}
}

func TestKnownPlaceIsLookedUpByEachID(t *testing.T) {
	t.Parallel()
	g := &google{places: makePlaces(3, athens), reviews: 5}
	e := open(t, g, nil)
	for _, ref := range []gmaps.PlaceRef{{DataID: "0x1001:0xa001"}, {CID: fmt.Sprint(0xa001)}} {
		pages := collect(t, e, gmaps.Query{Place: &ref, Reviews: gmaps.Reviews{Max: 5}}, "")
		if len(pages) != 1 || pages[0].Cursor != "" || len(pages[0].Places) != 1 {
			t.Fatalf("%+v: got %+v", ref, pages)
		}
		if p := pages[0].Places[0]; p.Title != "Place 1" || !p.Detailed || len(p.ExtraReviews) != 5 {
			t.Errorf("%+v: got %+v", ref, p)
		}
	}
	if _, err := collectErr(t.Context(), e, gmaps.Query{Place: &gmaps.PlaceRef{PlaceID: "nonsense"}}, ""); !errors.Is(err, gmaps.ErrNoFeature) {
		t.Errorf("a place id of no business: got %v", err)
	}
}

func TestShortLinkIsResolvedThroughAllowedHostsOnly(t *testing.T) {
	t.Parallel()
	target := "https://www.google.com/maps/place/X/data=!4m2!3m1!1s0x1001:0xa001"
	g := &google{places: makePlaces(3, athens)}
	g.answer = func(w http.ResponseWriter, r *http.Request) bool {
		switch r.URL.Path {
		case "/good":
			http.Redirect(w, r, "https://goo.gl/maps/next", http.StatusFound)
		case "/maps/next":
			http.Redirect(w, r, target, http.StatusMovedPermanently)
		case "/consent-first":
			http.Redirect(w, r, "https://consent.google.com/ml?continue="+target, http.StatusFound)
		case "/evil":
			http.Redirect(w, r, "https://www.google.com.evil.example/maps/place/X", http.StatusFound)
		case "/search-link":
			http.Redirect(w, r, "https://www.google.com/maps/search/cafe/@37.98,23.73,14z", http.StatusFound)
		default:
			return false
		}
		return true
	}
	e := open(t, g, nil)
	for path, want := range map[string]int{"good": 1, "consent-first": 1, "search-link": 3} {
		q := gmaps.Query{Place: &gmaps.PlaceRef{URL: "https://maps.app.goo.gl/" + path}}
		if got := len(keys(collect(t, e, q, ""))); got != want {
			t.Errorf("%s: got %d places, want %d", path, got, want)
		}
	}
	if _, err := collectErr(t.Context(), e, gmaps.Query{Place: &gmaps.PlaceRef{URL: "https://maps.app.goo.gl/evil"}}, ""); err == nil {
		t.Error("a foreign target was followed")
	}
	if _, err := collectErr(t.Context(), e, gmaps.Query{Place: &gmaps.PlaceRef{URL: "https://evil.example/x"}}, ""); err == nil {
		t.Error("a foreign short link was asked")
	}
}

func TestCancelMidPageEndsWithItsCause(t *testing.T) {
	t.Parallel()
	cause := errors.New("drained")
	ctx, cancel := context.WithCancelCause(t.Context())
	defer cancel(nil)
	g := &google{places: makePlaces(60, athens)}
	var details atomic.Int64
	g.answer = func(_ http.ResponseWriter, r *http.Request) bool {
		if isDetail(r) && details.Add(1) == 25 { // in the second page
			cancel(cause)
			<-r.Context().Done()
			return true
		}
		return false
	}
	q := over("cafe")
	q.Detail = gmaps.DetailAlways
	pages, err := collectErr(ctx, open(t, g, nil), q, "")
	if !errors.Is(err, cause) || len(pages) != 1 {
		t.Errorf("got %d pages and %v, want 1 and %v", len(pages), err, cause)
	}
}

func TestGzipIsAskedForAndRead(t *testing.T) {
	t.Parallel()
	g := &google{places: makePlaces(5, athens)}
	g.answer = func(w http.ResponseWriter, r *http.Request) bool {
		if !isSearch(r) || r.Header.Get("Accept-Encoding") != "gzip" || number(r, `!8i(\d+)`) > 0 {
			return false
		}
		w.Header().Set("Content-Encoding", "gzip")
		z := gzip.NewWriter(w)
		defer z.Close()
		inner := &zipped{ResponseWriter: w, z: z}
		writeJSON(inner, searchPayload(g.places))
		return true
	}
	if got := len(keys(collect(t, open(t, g, nil), over("cafe"), ""))); got != 5 {
		t.Errorf("got %d places, want 5", got)
	}
}

type zipped struct {
	http.ResponseWriter
	z *gzip.Writer
}

func (w *zipped) Write(b []byte) (int, error) { return w.z.Write(b) }

func TestOneEmptyAnswerBetweenPagesLosesNothing(t *testing.T) {
	t.Parallel()
	g := &google{places: makePlaces(60, athens)}
	var once atomic.Bool
	g.answer = func(w http.ResponseWriter, r *http.Request) bool {
		if isSearch(r) && number(r, `!8i(\d+)`) == 20 && once.CompareAndSwap(false, true) {
			writeJSON(w, searchPayload(nil)) // as to a session in limited view
			return true
		}
		return false
	}
	if got := len(keys(collect(t, open(t, g, nil), over("cafe"), ""))); got != 60 {
		t.Errorf("got %d places, want 60", got)
	}
}
