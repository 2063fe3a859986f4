package simulator

import (
	"net/url"
	"testing"

	"gmaps-scraper/gmaps"
)

func pbOf(t testing.TB, target string) string {
	t.Helper()
	u, err := url.Parse(target)
	if err != nil {
		t.Fatal(err)
	}
	return u.Query().Get("pb")
}

func TestSearchPBIsRead(t *testing.T) {
	t.Parallel()
	q := gmaps.Query{Keyword: "x", Viewport: &gmaps.Viewport{Center: gmaps.Point{Lat: -1.5, Lng: 2.25}, RadiusMeters: 750}}
	got, err := readSearch(pbOf(t, gmaps.SearchURL("", q, 60)))
	want := searchRequest{area: area{lat: -1.5, lng: 2.25, radiusMeters: 750}, size: 20, offset: 60}
	if err != nil || got != want {
		t.Errorf("got %+v, %v, want %+v", got, err, want)
	}
}

func FuzzPB(f *testing.F) {
	f.Add(pbOf(f, gmaps.SearchURL("", gmaps.Query{Keyword: "x"}, 20)))
	f.Add(pbOf(f, gmaps.PlaceURL("", "0x1:0x2", "en", "")))
	f.Add("!1m1!1m1!1m0!2sa*21b")
	f.Fuzz(func(t *testing.T, pb string) {
		m, err := parsePB(pb)
		if err == nil && countItems(m) == 0 {
			t.Errorf("%q: no items and no error", pb)
		}
		if req, err := readSearch(pb); err == nil && (req.size < 1 || req.size > pageSize || req.offset < 0 || req.area.radiusMeters < 0) {
			t.Errorf("%q: read as %+v", pb, req)
		}
	})
}

func countItems(m pbMessage) int {
	n := len(m)
	for _, it := range m {
		n += countItems(it.items)
	}
	return n
}
