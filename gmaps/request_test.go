package gmaps_test

import (
	"errors"
	"math"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"gmaps-scraper/gmaps"
)

const base = "https://www.google.com"

// checkPB fails the test unless each m of a pb is followed by as many items as it says.
func checkPB(t *testing.T, pb string) {
	t.Helper()
	items := strings.Split(pb, "!")[1:]
	item := regexp.MustCompile(`^(\d+)([mdifbes])(.*)$`)
	// read consumes one item with all that is inside it and returns where the next one stands.
	var read func(at int) int
	read = func(at int) int {
		if at >= len(items) {
			t.Fatalf("a message claims more items than there are")
		}
		m := item.FindStringSubmatch(items[at])
		if m == nil {
			t.Fatalf("item %q is malformed", items[at])
		}
		next := at + 1
		if m[2] == "m" {
			n, _ := strconv.Atoi(m[3])
			for next < at+1+n {
				next = read(next)
			}
			if next != at+1+n {
				t.Fatalf("item %d %q: its items end at %d, want %d", at, items[at], next, at+1+n)
			}
		}
		return next
	}
	for at := 0; at < len(items); {
		at = read(at)
	}
}

func parse(t *testing.T, raw string) *url.URL {
	t.Helper()
	u, err := url.Parse(raw)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

func TestSearchURLNamesQueryViewportAndOffset(t *testing.T) {
	t.Parallel()
	q := gmaps.Query{
		Keyword: "καφέ & bar", Lang: "el", Country: "GR",
		Viewport: &gmaps.Viewport{Center: gmaps.Point{Lat: 38.034, Lng: -23.7}, RadiusMeters: 1500},
	}
	u := parse(t, gmaps.SearchURL(base, q, 40))
	v := u.Query()
	for key, want := range map[string]string{"tbm": "map", "q": q.Keyword, "hl": "el", "gl": "gr"} {
		if got := v.Get(key); got != want {
			t.Errorf("%s: got %q, want %q", key, got, want)
		}
	}
	pb := v.Get("pb")
	checkPB(t, pb)
	if want := "!4m12!1m3!1d3000!2d-23.7!3d38.034!2m3!"; !strings.HasPrefix(pb, want) {
		t.Errorf("pb begins with %.50q, want %q", pb, want)
	}
	if !strings.Contains(pb, "!7i20!8i40!") {
		t.Errorf("pb %q lacks page size and offset", pb)
	}
}

func TestSearchURLWithoutViewportIsTheWholeEarth(t *testing.T) {
	t.Parallel()
	v := parse(t, gmaps.SearchURL(base, gmaps.Query{Keyword: "cafe"}, 0)).Query()
	checkPB(t, v.Get("pb"))
	if !strings.Contains(v.Get("pb"), "!1d25000000!2d0!3d0!") || v.Get("hl") != "en" || v.Has("gl") {
		t.Errorf("got %v", v)
	}
}

func TestPlaceURLCountsAreRight(t *testing.T) {
	t.Parallel()
	v := parse(t, gmaps.PlaceURL(base, "0x14e7:0xe541", "en", "cy")).Query()
	checkPB(t, v.Get("pb"))
	if !strings.Contains(v.Get("pb"), "!1s0x14e7:0xe541!") {
		t.Error("the place is not named")
	}
	if !regexp.MustCompile(`!14m3!1s[\w-]{28}!7e81!`).MatchString(v.Get("pb")) {
		t.Error("no token of 28 characters")
	}
}

func TestReviewsURLPlacesItsSlots(t *testing.T) {
	t.Parallel()
	first := parse(t, gmaps.ReviewsURL(base, "0x1:0x2", "en", gmaps.OrderNewest, 60, "")).Query().Get("reqpld")
	if want := `[null,[null,null,null,null,null,null,null,null,null,[null,2,null,null,null,null,null,null,null,60,null,["0x1:0x2"]]]]`; first != want {
		t.Errorf("first page\n got %s\nwant %s", first, want)
	}
	later := parse(t, gmaps.ReviewsURL(base, "0x1:0x2", "en", gmaps.OrderLowest, 60, `t"k`)).Query().Get("reqpld")
	if want := `[null,[null,null,null,null,null,null,null,null,null,[null,4,null,null,null,null,null,null,null,60,null,["0x1:0x2"],null,null,null,null,null,null,null,"t\"k"]]]`; later != want {
		t.Errorf("later page\n got %s\nwant %s", later, want)
	}
}

func TestFeatureIDIsDerivedFromEveryID(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		ref  gmaps.PlaceRef
		want string
	}{
		"data id":  {gmaps.PlaceRef{DataID: "0xAB:0x12"}, "0xab:0x12"},
		"place id": {gmaps.PlaceRef{PlaceID: "ChIJCAcGBQQDAgERGBcWFRQTEhE"}, "0x102030405060708:0x1112131415161718"},
		"cid":      {gmaps.PlaceRef{CID: "18446744073709551615"}, "0x0:0xffffffffffffffff"},
	} {
		got, err := c.ref.FeatureID()
		if err != nil || got != c.want {
			t.Errorf("%s: got %q, %v, want %q", name, got, err, c.want)
		}
	}
	for name, ref := range map[string]gmaps.PlaceRef{
		"empty": {}, "url": {URL: "https://maps.app.goo.gl/x"}, "street": {PlaceID: "EicxMyBNYXJrZXQgU3Q"}, "bad data id": {DataID: "0x1!2m3:0x2"}, "negative cid": {CID: "-1"},
	} {
		if got, err := ref.FeatureID(); !errors.Is(err, gmaps.ErrNoFeature) {
			t.Errorf("%s: got %q, %v, want ErrNoFeature", name, got, err)
		}
	}
}

func TestZoomAndDiameterAreInverse(t *testing.T) {
	t.Parallel()
	for _, lat := range []float64{-70, 0, 38, 60} {
		for zoom := 4.0; zoom <= 21; zoom++ {
			if got := gmaps.DiameterZoom(lat, gmaps.ZoomDiameter(lat, zoom)); math.Abs(got-zoom) > 1e-9 {
				t.Errorf("lat %v zoom %v came back as %v", lat, zoom, got)
			}
		}
	}
	if got := gmaps.ZoomDiameter(0, 15); math.Abs(got-3669) > 1 {
		t.Errorf("zoom 15 at the equator shows %v m, want 3669", got)
	}
}
