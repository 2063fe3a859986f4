package gmaps_test

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"

	"gmaps-scraper/gmaps"
)

func TestParseLinkReadsEveryKind(t *testing.T) {
	t.Parallel()
	place := func(r gmaps.PlaceRef) gmaps.Query { return gmaps.Query{Place: &r} }
	view := func(lat, lng, diameter float64) *gmaps.Viewport {
		return &gmaps.Viewport{Center: gmaps.Point{Lat: lat, Lng: lng}, RadiusMeters: diameter / 2}
	}
	for link, want := range map[string]gmaps.Query{
		"https://www.google.com/maps/search/coffee+shop/@38.03,23.7,14z?hl=el&gl=gr":                  {Keyword: "coffee shop", Viewport: view(38.03, 23.7, gmaps.ZoomDiameter(38.03, 14)), Lang: "el", Country: "GR"},
		"https://www.google.gr/maps/search/%CE%BA%CE%B1%CF%86%CE%AD":                                  {Keyword: "καφέ"},
		"https://www.google.com/maps/search/?api=1&query=pizza%20in%20Rome":                           {Keyword: "pizza in Rome"},
		"https://www.google.com/maps/@1.5,-2,900m/search/spa":                                         {Keyword: "spa", Viewport: view(1.5, -2, 900)},
		"google.com/maps/search/spa":                                                                  {Keyword: "spa"},
		"https://maps.google.co.uk/?q=tea+room":                                                       {Keyword: "tea room"},
		"https://maps.google.com/?cid=16519582940102929223":                                           place(gmaps.PlaceRef{CID: "16519582940102929223"}),
		"https://www.google.com/maps/place/?q=place_id:ChIJDZ8-yAYz5xQRRyvgKfb7QeU":                   place(gmaps.PlaceRef{PlaceID: "ChIJDZ8-yAYz5xQRRyvgKfb7QeU"}),
		"https://www.google.com/maps/search/?api=1&query=X&query_place_id=ChIJabc":                    place(gmaps.PlaceRef{PlaceID: "ChIJabc"}),
		"https://www.google.com/maps?ftid=0x14E7:0xe541":                                              place(gmaps.PlaceRef{DataID: "0x14e7:0xe541"}),
		"https://www.google.com/maps/place/Old+Inn/data=!4m7!3m6!1s0x14e7:0xE541!8m2!3d34.67!4d33.04": place(gmaps.PlaceRef{DataID: "0x14e7:0xe541"}),
		"https://www.google.com/maps/place/Old+Inn/data=%214m2%211s0x1%3A0x2":                         place(gmaps.PlaceRef{DataID: "0x1:0x2"}),
		"https://www.google.com/maps/place/Old+Inn/@34.67,33.04,17z":                                  {Keyword: "Old Inn", Viewport: view(34.67, 33.04, gmaps.ZoomDiameter(34.67, 17))},
		"https://maps.app.goo.gl/AbC123":                                                              place(gmaps.PlaceRef{URL: "https://maps.app.goo.gl/AbC123"}),
		"goo.gl/maps/xyz":                                                                             place(gmaps.PlaceRef{URL: "https://goo.gl/maps/xyz"}),
	} {
		got, err := gmaps.ParseLink(link)
		if err != nil {
			t.Errorf("%s: %v", link, err)
			continue
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", link, diff)
		}
	}
}

func TestParseLinkLeavesKeywordsAlone(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"coffee", "google.com", "cafe near goo.gl/maps", "24/7 gym", "a: b://c d", ""} {
		if q, err := gmaps.ParseLink(text); !errors.Is(err, gmaps.ErrNotLink) {
			t.Errorf("%q: got %+v, %v, want ErrNotLink", text, q, err)
		}
	}
}

func TestParseLinkRefusesLookalikesAndNonsense(t *testing.T) {
	t.Parallel()
	for _, link := range []string{
		"https://google.com.evil.example/maps/search/x",
		"https://evilgoogle.com/maps/search/x",
		"https://www.google.zip/maps/search/x",
		"https://google.com@evil.example/maps/search/x",
		"https://user:secret@www.google.com/maps/search/x",
		"https://www.google.com:8443/maps/search/x",
		"https://docs.google.com/maps/search/x",
		"https://maps.app.goo.gl.evil.example/x",
		"https://goo.gl/other",
		"ftp://www.google.com/maps/search/x",
		"https://www.google.com/maps",
		"https://www.google.com/maps?cid=-4",
		"https://www.google.com/%zz",
	} {
		if q, err := gmaps.ParseLink(link); err == nil || errors.Is(err, gmaps.ErrNotLink) {
			t.Errorf("%s: got %+v, %v, want a refusal", link, q, err)
		}
	}
}

func FuzzParseLink(f *testing.F) {
	for _, seed := range []string{"https://www.google.com/maps/search/a/@1,2,3z", "https://maps.google.com/?cid=1", "goo.gl/maps/x", "https://www.google.com/maps/place/x/data=!1s0x1:0x2"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, s string) {
		q, err := gmaps.ParseLink(s)
		if err != nil {
			return
		}
		if q.Keyword == "" && q.Place == nil {
			t.Errorf("%q became an empty query", s)
		}
		if q.Place != nil && q.Place.DataID != "" && !gmaps.ValidDataID(q.Place.DataID) {
			t.Errorf("%q gave the data id %q", s, q.Place.DataID)
		}
		if v := q.Viewport; v != nil && !(v.RadiusMeters >= 0 && v.RadiusMeters <= 12_500_000) {
			t.Errorf("%q gave the radius %v", s, v.RadiusMeters)
		}
	})
}
