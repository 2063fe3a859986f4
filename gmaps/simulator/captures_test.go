package simulator

import (
	"cmp"
	"os"
	"testing"

	"gmaps-scraper/gmaps"
)

// capturesDir is the folder of real payloads, which the project does not hold.
func capturesDir(t *testing.T) string {
	t.Helper()
	dir := cmp.Or(os.Getenv("GMAPS_CAPTURES"), "../../../shared/captures")
	if _, err := os.Stat(dir); err != nil {
		t.Skipf("CAPTURES MISSING: no folder %s; set GMAPS_CAPTURES to run this test", dir)
	}
	return dir
}

func TestCapturedSearchIsServedAsItWasCaptured(t *testing.T) {
	t.Parallel()
	s := newSimulator(t, Config{CapturesDir: capturesDir(t)})
	q := gmaps.Query{Keyword: "Coffee"}
	places := search(t, s, q, 0)
	if len(places) != 20 {
		t.Fatalf("got %d places, want 20", len(places))
	}
	if more := search(t, s, q, 20); len(more) != 0 {
		t.Errorf("the second page holds %d places", len(more))
	}
	if got := searchAll(t, s, gmaps.Query{Keyword: "anything else"}); len(got) != len(s.captures.order) || len(got) <= 20 {
		t.Errorf("another keyword gives %d places, want all %d", len(got), len(s.captures.order))
	}
	if got := search(t, s, gmaps.Query{Keyword: "synthetic"}, 0); len(got) != 20 || got[0].DataID == places[0].DataID {
		t.Errorf("a synthetic keyword gives %d places", len(got))
	}
	for i := range places {
		body := get(t, s, gmaps.PlaceURL("", places[i].DataID, "en", ""), nid).Body.Bytes()
		detail, err := gmaps.DecodePlace(body, nil)
		if err != nil || detail.Key() != places[i].Key() || detail.Title != places[i].Title {
			t.Errorf("detail of %s: %s %q, %v", places[i].Key(), detail.Key(), detail.Title, err)
		}
	}
}

func TestCapturedPlacesAreTrimmedWithoutSession(t *testing.T) {
	t.Parallel()
	s := newSimulator(t, Config{CapturesDir: capturesDir(t)})
	page, err := gmaps.DecodeSearch(get(t, s, gmaps.SearchURL("", gmaps.Query{Keyword: "coffee"}, 0)).Body.Bytes(), nil)
	if err != nil || len(page.Places) != 20 {
		t.Fatalf("%d places, %v", len(page.Places), err)
	}
	counted := 0
	for i := range page.Places {
		if page.Places[i].ReviewCount > 0 {
			counted++
		}
		if page.Places[i].Title == "" {
			t.Error("a place lost its title")
		}
	}
	if counted > 16 {
		t.Errorf("%d of 20 places kept their count", counted)
	}
}
