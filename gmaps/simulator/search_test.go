package simulator

import (
	"compress/gzip"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"gmaps-scraper/gmaps"
)

func newSimulator(t *testing.T, c Config) *Simulator {
	t.Helper()
	s, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// get asks the handler without a network; cookies are "name=value".
func get(t testing.TB, s *Simulator, target string, cookies ...string) *httptest.ResponseRecorder {
	t.Helper()
	r := httptest.NewRequest(http.MethodGet, target, nil)
	if len(cookies) > 0 {
		r.Header.Set("Cookie", strings.Join(cookies, "; "))
	}
	rec := httptest.NewRecorder()
	s.ServeHTTP(rec, r)
	return rec
}

const nid = "NID=525=x"

func search(t testing.TB, s *Simulator, q gmaps.Query, offset int) []gmaps.Place {
	t.Helper()
	rec := get(t, s, gmaps.SearchURL("", q, offset), nid)
	page, err := gmaps.DecodeSearch(rec.Body.Bytes(), nil)
	if err != nil || rec.Code != http.StatusOK {
		t.Fatalf("search %q at %d: status %d, %v", q.Keyword, offset, rec.Code, err)
	}
	return page.Places
}

// searchAll pages to the end.
func searchAll(t testing.TB, s *Simulator, q gmaps.Query) []gmaps.Place {
	t.Helper()
	var all []gmaps.Place
	for {
		page := search(t, s, q, len(all))
		if all = append(all, page...); len(page) < gmaps.PageSize {
			return all
		}
	}
}

func ledger(t testing.TB, s *Simulator, query string) map[string]gmaps.Point {
	t.Helper()
	rec := get(t, s, "/simulator/places?"+query)
	if rec.Code != http.StatusOK {
		t.Fatalf("places?%s: status %d %s", query, rec.Code, rec.Body)
	}
	out := map[string]gmaps.Point{}
	lines := json.NewDecoder(rec.Body)
	for {
		var l ledgerLine
		if err := lines.Decode(&l); err == io.EOF {
			return out
		} else if err != nil {
			t.Fatal(err)
		}
		out[l.DataID] = gmaps.Point{Lat: l.Lat, Lng: l.Lng}
	}
}

// countIDs fails if a place comes twice.
func countIDs(t *testing.T, places []gmaps.Place, into map[string]bool) {
	t.Helper()
	for i := range places {
		if into[places[i].DataID] {
			t.Fatalf("place %s came twice", places[i].DataID)
		}
		into[places[i].DataID] = true
	}
}

func TestPagingCoversTheSetExactly(t *testing.T) {
	t.Parallel()
	s := newSimulator(t, Config{Synthetic: 1_037})
	got := map[string]bool{}
	countIDs(t, searchAll(t, s, gmaps.Query{Keyword: "syntheticall"}), got)
	want := ledger(t, s, "")
	if len(got) != 1_037 || len(want) != 1_037 {
		t.Fatalf("got %d places, the ledger has %d, want 1037", len(got), len(want))
	}
	for id := range want {
		if !got[id] {
			t.Errorf("place %s was not found", id)
		}
	}
}

func TestQueryIsBoundedUnlessConfiguredOtherwise(t *testing.T) {
	t.Parallel()
	for limit, want := range map[int]int{0: 200, 50: 50, Unbounded: 1_000} {
		s := newSimulator(t, Config{Synthetic: 1_000, MaxPerQuery: limit})
		if got := len(searchAll(t, s, gmaps.Query{Keyword: "synthetic"})); got != want {
			t.Errorf("MaxPerQuery %d: got %d places, want %d", limit, got, want)
		}
	}
}

func TestShardsPartitionTheSet(t *testing.T) {
	t.Parallel()
	s := newSimulator(t, Config{Synthetic: 3_001})
	got := map[string]bool{}
	for k := 1; k <= 10; k++ {
		countIDs(t, searchAll(t, s, gmaps.Query{Keyword: fmt.Sprintf("synthetic %d/10", k)}), got)
	}
	if len(got) != 3_001 {
		t.Errorf("shards hold %d places, want 3001", len(got))
	}
}

func TestSetsAreDisjoint(t *testing.T) {
	t.Parallel()
	s := newSimulator(t, Config{Synthetic: 300})
	got := map[string]bool{}
	for _, keyword := range []string{"syntheticall", "syntheticall:other", "cafe syntheticall:third"} {
		countIDs(t, searchAll(t, s, gmaps.Query{Keyword: keyword}), got)
	}
	if len(got) <= 600 {
		t.Errorf("three sets hold %d places", len(got))
	}
	if n := len(searchAll(t, s, gmaps.Query{Keyword: "synthetic unicorns"})); n != 0 {
		t.Errorf("an unknown category found %d places", n)
	}
}

func meters(a, b gmaps.Point) float64 {
	rad := func(d float64) float64 { return d * math.Pi / 180 }
	h := math.Pow(math.Sin(rad(b.Lat-a.Lat)/2), 2) + math.Cos(rad(a.Lat))*math.Cos(rad(b.Lat))*math.Pow(math.Sin(rad(b.Lng-a.Lng)/2), 2)
	return 2 * earthRadiusMeters * math.Asin(math.Sqrt(h))
}

func TestViewportHoldsAllPlacesNearestFirst(t *testing.T) {
	t.Parallel()
	s := newSimulator(t, Config{Synthetic: 20_000, MaxPerQuery: Unbounded})
	set := ledger(t, s, "")
	centers := []gmaps.Point{{Lat: 37.976, Lng: 23.735}, {Lat: -18.141, Lng: 179.9}, {Lat: 89.99, Lng: 0}, {Lat: 40.731, Lng: -73.994}}
	for _, center := range centers {
		for _, radius := range []float64{500, 3_000, 200_000, 6_000_000} {
			const edge = 1.0 // metres within which rounding may decide
			inside, onEdge := 0, 0
			for _, at := range set {
				switch d := meters(center, at); {
				case math.Abs(d-radius) <= edge:
					onEdge++
				case d < radius:
					inside++
				}
			}
			got := s.world.find(question{category: -1, city: -1}, area{center.Lat, center.Lng, radius}, 0)
			if n := len(got); n < inside || n > inside+onEdge {
				t.Errorf("%v radius %v: got %d places, want %d to %d", center, radius, n, inside, inside+onEdge)
			}
			last := 0.0
			for _, id := range got {
				at := s.world.spot(ref{index: id})
				d := meters(center, gmaps.Point{Lat: at.lat, Lng: at.lng})
				if d < last-2 {
					t.Fatalf("%v radius %v: a place %v m away after one %v m away", center, radius, d, last)
				}
				last = d
			}
			bounded := s.world.find(question{category: -1, city: -1}, area{center.Lat, center.Lng, radius}, 37)
			if diff := cmp.Diff(got[:min(37, len(got))], bounded); diff != "" {
				t.Errorf("%v radius %v: the bounded search is not the head of the unbounded one:\n%s", center, radius, diff)
			}
		}
	}
	v := &gmaps.Viewport{Center: centers[0], RadiusMeters: 3_000}
	found := searchAll(t, s, gmaps.Query{Keyword: "synthetic", Viewport: v})
	if want := ledger(t, s, "lat=37.976&lng=23.735&radius=3000"); len(found) != len(want) {
		t.Errorf("search found %d places, the ledger of the same circle has %d", len(found), len(want))
	}
	if len(found) < 20 {
		t.Errorf("only %d places within 3 km of a city's centre", len(found))
	}
}

func TestKeywordNamesCategoryAndCity(t *testing.T) {
	t.Parallel()
	s := newSimulator(t, Config{Synthetic: 20_000})
	places := searchAll(t, s, gmaps.Query{Keyword: "synthetic hair salons in Athens"})
	if len(places) == 0 {
		t.Fatal("no places")
	}
	for i := range places {
		p := &places[i]
		if p.Categories[0] != "Hair salon" || p.AddressParts.City != "Αθήνα" {
			t.Errorf("got %q in %q", p.Categories[0], p.AddressParts.City)
		}
	}
}

func TestPlacesAreTheSameInEveryProcess(t *testing.T) {
	t.Parallel()
	q := gmaps.Query{Keyword: "synthetic cafe", Viewport: &gmaps.Viewport{Center: gmaps.Point{Lat: 52.517, Lng: 13.389}, RadiusMeters: 5_000}}
	body := func(seed uint64) string {
		return get(t, newSimulator(t, Config{Seed: seed}), gmaps.SearchURL("", q, 0), nid).Body.String()
	}
	if body(7) != body(7) {
		t.Error("two simulators of one seed answer differently")
	}
	if body(7) == body(8) {
		t.Error("two seeds answer alike")
	}
}

func TestShortLayoutHoldsTheSamePlaces(t *testing.T) {
	t.Parallel()
	s := newSimulator(t, Config{})
	long := search(t, s, gmaps.Query{Keyword: "synthetic"}, 0)
	rec := get(t, s, "/search?tbm=map&q=synthetic&pb=!7i20!10b1!34m19!2b1!3b1!4b1!6b1!8m6!1b1!3b1!4b1!5b1!6b1!7b1!9b1!12b1!14b1!20b1!23b1!25b1!26b1!31b1", nid)
	page, err := gmaps.DecodeSearch(rec.Body.Bytes(), nil)
	if err != nil {
		t.Fatal(err)
	}
	owned := 0
	for i := range page.Places {
		if page.Places[i].DataID != long[i].DataID || page.Places[i].Title != long[i].Title {
			t.Errorf("entry %d: %s, in the long layout %s", i, page.Places[i].DataID, long[i].DataID)
		}
		if page.Places[i].Owner.ID != "" {
			owned++
		}
	}
	if len(page.Places) != 20 || owned == 0 {
		t.Errorf("got %d places, %d with an owner", len(page.Places), owned)
	}
}

func TestListingLacksWhatGooglesListingsLack(t *testing.T) {
	t.Parallel()
	s := newSimulator(t, Config{})
	for _, got := range searchAll(t, s, gmaps.Query{Keyword: "synthetic"}) {
		r, ok := s.world.byDataID(got.DataID)
		if !ok {
			t.Fatalf("unknown id %s", got.DataID)
		}
		want := SyntheticListing(0, r.index)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatalf("listing differs (-want +got):\n%s", diff)
		}
	}
}

func TestWrongCountsGiveAnEmptyAnswer(t *testing.T) {
	t.Parallel()
	s := newSimulator(t, Config{})
	u, err := url.Parse(gmaps.SearchURL("", gmaps.Query{Keyword: "synthetic"}, 0))
	if err != nil {
		t.Fatal(err)
	}
	good := u.Query().Get("pb")
	for _, change := range [][2]string{{"!4m12", "!4m11"}, {"!4m12", "!4m13"}, {"!1m3!1d", "!1m4!1d"}, {"!12m6", "!12m7"}, {"!20m57", "!20m58"}, {"!20m57", "!20m56"}, {"!7i20", "!7x20"}, {"!4m12", "!4m99"}} {
		bad := strings.Replace(good, change[0], change[1], 1)
		if bad == good {
			t.Fatalf("%s is not in the pb", change[0])
		}
		rec := get(t, s, "/search?tbm=map&q=synthetic&pb="+url.QueryEscape(bad), nid)
		page, err := gmaps.DecodeSearch(rec.Body.Bytes(), nil)
		if err != nil || rec.Code != http.StatusOK || len(page.Places) != 0 {
			t.Errorf("%s: status %d, %d places, %v; want an empty answer", change[1], rec.Code, len(page.Places), err)
		}
	}
}

func TestAnswersAreCompressedWhenAsked(t *testing.T) {
	t.Parallel()
	s := newSimulator(t, Config{})
	r := httptest.NewRequest(http.MethodGet, gmaps.SearchURL("", gmaps.Query{Keyword: "synthetic"}, 0), nil)
	r.Header.Set("Cookie", nid)
	r.Header.Set("Accept-Encoding", "gzip")
	rec := httptest.NewRecorder()
	s.ServeHTTP(rec, r)
	packed := rec.Body.Len()
	z, err := gzip.NewReader(rec.Body)
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(z)
	if err != nil {
		t.Fatal(err)
	}
	if want := get(t, s, r.URL.String(), nid).Body.String(); string(body) != want || packed*3 > len(body) {
		t.Errorf("%d bytes packed, %d plain, want %d", packed, len(body), len(want))
	}
}

func TestConcurrentSearchesAgree(t *testing.T) {
	t.Parallel()
	s := newSimulator(t, Config{Synthetic: 5_000})
	want := len(searchAll(t, s, gmaps.Query{Keyword: "syntheticall cafe"}))
	var group sync.WaitGroup
	for i := range 16 {
		group.Go(func() {
			set := fmt.Sprintf("syntheticall:s%d cafe", i%10) // more sets than are kept
			center := &gmaps.Viewport{Center: gmaps.Point{Lat: 48.857, Lng: 2.352}, RadiusMeters: 4_000}
			search(t, s, gmaps.Query{Keyword: set, Viewport: center}, 0)
			if got := len(searchAll(t, s, gmaps.Query{Keyword: "syntheticall cafe"})); got != want {
				t.Errorf("got %d places, want %d", got, want)
			}
		})
	}
	group.Wait()
}
