package gmaps_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"gmaps-scraper/gmaps"
)

func TestOneMovedFieldLosesOnlyItself(t *testing.T) {
	t.Parallel()
	shapes := []any{7, -1.5, "text", true, []any{}, []any{nil}, map[string]any{"a": 1}, []any{[]any{[]any{[]any{5}}}}}
	for index := range 244 {
		if index == 10 {
			continue
		}
		for _, shape := range shapes {
			p, _ := decodeBody(t, map[string]any{fmt.Sprint(index): shape})
			if p.DataID != dataID || p.CID != cid {
				t.Fatalf("[%d] = %v loses the place: %+v", index, shape, p)
			}
			checkSane(t, p)
		}
	}
}

func TestMissingIsNoDriftAndMovedIs(t *testing.T) {
	t.Parallel()
	p, drift := decodeBody(t, map[string]any{"175": nil, "4": []any{}, "84": []any{nil}, "203": []any{[]any{}}})
	if len(drift) != 0 {
		t.Errorf("drift of absent fields: %v", drift)
	}
	if p.Title != "" || p.Location != nil || p.Hours != nil {
		t.Errorf("absent fields have values: %+v", p)
	}
	_, drift = decodeBody(t, map[string]any{"4": 5, "11": []string{"Bar"}, "84": 3})
	for _, name := range []string{"place.rating[4,7]", "place.review_count[4,8]", "place.title[11]", "place.popular_times[84,0]"} {
		if drift[name] != 1 {
			t.Errorf("drift lacks %s: %v", name, drift)
		}
	}
}

func TestAnyOneIDMakesThePlace(t *testing.T) {
	t.Parallel()
	tests := map[string]map[string]any{
		"data id":            {"6,10": dataID},
		"data id, upper":     {"6,10": strings.Replace(dataID, "abcd", "ABCD", 1)},
		"place id":           {"6,78": placeID},
		"link":               {"6,27": "https://www.google.com/maps/place/X/data=!4m2!3m1!1s" + dataID + "!10m1"},
		"second copy":        {"6,227": []any{[]any{dataID, nil, nil, nil, placeID}}},
		"head of payload":    {"6,11": "X", "25,3,0,13,0,0": []string{"1311862288428302337", cid}},
		"place id, odd data": {"6,10": 7, "6,78": placeID},
	}
	for name, values := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p, err := gmaps.DecodePlace(encode(t, positional(values)), nil)
			if err != nil {
				t.Fatal(err)
			}
			if p.CID != cid || p.PlaceID != placeID || p.Key() != p.DataID {
				t.Errorf("ids %q %q %q", p.DataID, p.CID, p.PlaceID)
			}
			if p.Link == "" || !strings.HasSuffix(p.ReviewsLink, "placeid="+placeID) {
				t.Errorf("links %q, %q", p.Link, p.ReviewsLink)
			}
		})
	}
	p, err := gmaps.DecodePlace(encode(t, positional(map[string]any{"6,78": "EiNub3QgYSBmZWF0dXJl"})), nil)
	if err != nil || p.Key() != "pid:EiNub3QgYSBmZWF0dXJl" {
		t.Errorf("a place id without a feature id: key %q, %v", p.Key(), err)
	}
}

func TestUnreadablePayloadIsAnError(t *testing.T) {
	t.Parallel()
	whole := string(encode(t, positional(map[string]any{"6,10": dataID, "6,243": "CY"})))
	for _, payload := range []string{"", "null", ")]}'\n", "<html>", "{}", "7", "[]", "[null,null,null,null,null,null,[]]", `["a"`, whole[:len(whole)-8], strings.Repeat("[", 1_000_000)} {
		if p, err := gmaps.DecodePlace([]byte(payload), nil); err == nil {
			t.Errorf("place %.40q decoded to %q", payload, p.Key())
		}
	}
	for _, payload := range []string{"", "null", "<html>", "[[1", strings.Repeat("[", 1_000_000)} {
		if _, err := gmaps.DecodeSearch([]byte(payload), nil); err == nil {
			t.Errorf("search %.40q decoded", payload)
		}
		if _, err := gmaps.DecodeReviews([]byte(payload), nil); err == nil {
			t.Errorf("reviews %.40q decoded", payload)
		}
	}
}

func TestTextsSurviveGooglesJSON(t *testing.T) {
	t.Parallel()
	tests := map[string]struct{ raw, want string }{
		"escapes":            {`"a\"b\\c\/d\n\u00e9"`, "a\"b\\c/d\né"},
		"surrogates":         {`"\ud83d\ude00"`, "😀"},
		"lone surrogate":     {`"a\ud83dz"`, "a\uFFFDz"},
		"raw line break":     {"\"a\nb\tc\"", "a\nb\tc"},
		"escaped twice":      {`"q\\u003d1\\u0026b"`, "q=1&b"},
		"a backslash stays":  {`"¯\\_(ツ)_/¯ C:\\new"`, `¯\_(ツ)_/¯ C:\new`},
		"unknown escape":     {`"a\qb"`, `a\qb`},
		"NUL goes":           {`"a\u0000b"`, "ab"},
		"invalid UTF-8":      {"\"a\xffb\"", "a\uFFFDb"},
		"ends in backslash":  {`"a\\"`, `a\`},
		"brackets in string": {`"],[\"[{"`, `],["[{`},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			payload := fmt.Sprintf(")]}'\n[1, {\"k\":[\"]\"]} ,null,2,3,4,[[],%s,null,null,null,null,null,null,null,null,%q , %s ]]", test.raw, dataID, test.raw)
			p, err := gmaps.DecodePlace([]byte(payload), nil)
			if err != nil {
				t.Fatal(err)
			}
			if p.Title != test.want {
				t.Errorf("title %q, want %q", p.Title, test.want)
			}
		})
	}
}

func TestPackedAnswersAreUnpacked(t *testing.T) {
	t.Parallel()
	inner := string(encode(t, positional(map[string]any{"0,1": []any{nil, positional(map[string]any{"14,10": dataID, "14,11": `Say "hi"`})}})))
	quoted, err := json.Marshal(inner)
	if err != nil {
		t.Fatal(err)
	}
	for name, payload := range map[string]string{"string": string(quoted), "object": `{"c":0,"d":` + string(quoted) + `}/*""*/`} {
		page, err := gmaps.DecodeSearch([]byte(payload), nil)
		if err != nil || len(page.Places) != 1 || page.Places[0].Title != `Say "hi"` {
			t.Errorf("%s: %+v, %v", name, page, err)
		}
	}
}

func TestSearchCountsEntriesThatItCannotUse(t *testing.T) {
	t.Parallel()
	entries := []any{nil, positional(map[string]any{"14,10": dataID}), positional(map[string]any{"14,11": "no id"}), positional(map[string]any{"14": 5}), []any{}}
	var drift gmaps.Drift
	page, err := gmaps.DecodeSearch(encode(t, positional(map[string]any{"0,1": entries})), &drift)
	if err != nil || page.Entries != 3 || len(page.Places) != 1 {
		t.Errorf("%d entries, %d places, %v; want 3, 1", page.Entries, len(page.Places), err)
	}
	if got := drift.Counts(); got["entry.identity"] != 1 || got["search.entry[14]"] != 1 {
		t.Errorf("drift %v", got)
	}
	if page, err := gmaps.DecodeSearch([]byte(`[["nothing here"]]`), nil); err != nil || page.Entries != 0 {
		t.Errorf("no results: %+v, %v", page, err)
	}
}

func TestSearchReadsBothLayouts(t *testing.T) {
	t.Parallel()
	body := positional(map[string]any{"10": dataID, "11": "Café"})
	tests := map[string]struct {
		response map[string]any
		drift    map[string]int64
	}{
		"first":                     {map[string]any{"0,1": []any{nil, positional(map[string]any{"14": body})}, "65": "rest"}, nil},
		"second":                    {map[string]any{"64": []any{[]any{nil, body}, nil}, "65": "rest"}, nil},
		"second, no list at first":  {map[string]any{"0,1": "moved", "64": []any{[]any{nil, body}}}, map[string]int64{"search.results[0,1]": 1}},
		"second, no array at first": {map[string]any{"0": 7, "64": []any{[]any{nil, body}}}, map[string]int64{"search.results[0,1]": 1}},
		"a result is no array":      {map[string]any{"0,1": []any{"moved", positional(map[string]any{"14": body})}}, map[string]int64{"search.result[14]": 1}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			whole := encode(t, positional(test.response))
			var drift gmaps.Drift
			page, err := gmaps.DecodeSearch(whole, &drift)
			if err != nil || page.Entries != 1 || len(page.Places) != 1 || page.Places[0].Title != "Café" {
				t.Errorf("%d entries, %+v, %v", page.Entries, page.Places, err)
			}
			if diff := cmp.Diff(test.drift, drift.Counts(), cmpopts.EquateEmpty()); diff != "" {
				t.Errorf("drift (-want +got):\n%s", diff)
			}
			var none gmaps.Drift
			for end := len(")]}'\n["); end < len(whole); end++ {
				if page, err := gmaps.DecodeSearch(whole[:end], &none); err == nil {
					t.Errorf("%q decoded to %d entries", whole[:end], page.Entries)
				}
			}
			if got := none.Counts(); len(got) > 0 {
				t.Errorf("an answer that ends early counted as drift: %v", got)
			}
		})
	}
}

func TestLocationIsOnEarthOrNil(t *testing.T) {
	t.Parallel()
	tests := []struct {
		lat, lng any
		want     *gmaps.Point
		drift    bool
	}{
		{34.5, 33.1, &gmaps.Point{Lat: 34.5, Lng: 33.1}, false},
		{-90, 180, &gmaps.Point{Lat: -90, Lng: 180}, false},
		{nil, nil, nil, false}, // comes to its customers
		{90.1, 0, nil, true},
		{0, -181, nil, true},
		{"NaN", "NaN", nil, true},
		{json.RawMessage("1e999"), 3, nil, true},
		{12.5, nil, nil, true},
		{"34.5", 33.1, &gmaps.Point{Lat: 34.5, Lng: 33.1}, true},
	}
	for _, test := range tests {
		raw, _ := json.Marshal(test.lng)
		lat := fmt.Sprint(test.lat)
		if s, ok := test.lat.(json.RawMessage); ok {
			lat = string(s)
		} else if b, err := json.Marshal(test.lat); err == nil {
			lat = string(b)
		}
		payload := fmt.Sprintf(`[0,0,0,0,0,0,[0,0,0,0,null,0,0,null,0,[null,null,%s,%s],%q]]`, lat, raw, dataID)
		var drift gmaps.Drift
		p, err := gmaps.DecodePlace([]byte(payload), &drift)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(test.want, p.Location); diff != "" {
			t.Errorf("%v, %v (-want +got):\n%s", test.lat, test.lng, diff)
		}
		counts := drift.Counts()
		delete(counts, "place.address_lines[2]")
		if (len(counts) > 0) != test.drift {
			t.Errorf("%v, %v: drift %v", test.lat, test.lng, counts)
		}
	}
}

func TestHoursReadBothLayouts(t *testing.T) {
	t.Parallel()
	day := func(name string, weekday any, spans ...any) []any {
		return []any{name, weekday, []int{2026, 1, 4}, spans}
	}
	p, _ := decodeBody(t, map[string]any{"203,0": []any{
		day("dimanche", 7, []any{"Fermé"}),
		day("lundi", 1, []any{"9:00–12:00", []any{[]int{9}, []int{12}}}, []any{"14:30–02:00", []any{[]int{14, 30}, []int{2}}}),
		nil,
		day("mardi", 2, []any{"Ouvert 24h/24", []any{[]int{0}, []int{24}}}),
		day("mercredi", 3, []any{"8\u202fAM–12\u202fAM", []any{[]int{8}, []any{}}}),
		day("jeudi", 4, []any{"minuit", []any{nil, nil}}),
		day("vendredi", 5, []any{"?", []any{[]int{30}, []int{99}}}),
		5,
	}})
	want := []gmaps.DayHours{
		{Weekday: 1, Name: "lundi", Text: []string{"9:00–12:00", "14:30–02:00"}, Open: []gmaps.Interval{{540, 720}, {870, 1560}}},
		{Weekday: 2, Name: "mardi", Text: []string{"Ouvert 24h/24"}, Open: []gmaps.Interval{{0, 1440}}},
		{Weekday: 3, Name: "mercredi", Text: []string{"8\u202fAM–12\u202fAM"}, Open: []gmaps.Interval{{480, 1440}}},
		{Weekday: 4, Name: "jeudi", Text: []string{"minuit"}, Open: []gmaps.Interval{{0, 1440}}},
		{Weekday: 5, Name: "vendredi", Text: []string{"?"}},
		{Weekday: 7, Name: "dimanche", Text: []string{"Fermé"}},
	}
	if diff := cmp.Diff(want, p.Hours); diff != "" {
		t.Errorf("hours (-want +got):\n%s", diff)
	}

	p, _ = decodeBody(t, map[string]any{"34,1": []any{
		[]any{"Tue", []string{"9–5"}, nil, nil, "2026-01-06", 1, []any{[]int{9, 0, 17, 0}}, 0},
		[]any{"Mon", []string{"Closed"}, nil, nil, "2026-01-05", 2, nil, 0},
		[]any{"Wed", []string{"Open 24 hours"}, nil, nil, "2026-01-07", 1, nil, 0},
		[]any{"Thu", []string{"?"}, nil, nil, "2026-01-08", 1, []any{[]int{30, 0, 99, 0}}, 0},
	}})
	want = []gmaps.DayHours{
		{Weekday: 1, Name: "Mon", Text: []string{"Closed"}},
		{Weekday: 2, Name: "Tue", Text: []string{"9–5"}, Open: []gmaps.Interval{{540, 1020}}},
		{Weekday: 3, Name: "Wed", Text: []string{"Open 24 hours"}, Open: []gmaps.Interval{{0, 1440}}},
		{Weekday: 4, Name: "Thu", Text: []string{"?"}},
	}
	if diff := cmp.Diff(want, p.Hours); diff != "" {
		t.Errorf("older hours (-want +got):\n%s", diff)
	}
}

func TestPopularTimesTakeNulls(t *testing.T) {
	t.Parallel()
	p, drift := decodeBody(t, map[string]any{"84,0": []any{[]any{7, nil}, nil, []any{2, []any{nil, []any{9, 80}, []any{25, 1}, []any{10}, 4}}, []any{9, []any{}}}})
	want := []gmaps.DayTraffic{{Weekday: 2, Hours: []gmaps.HourTraffic{{Hour: 9, BusyPercent: 80}, {Hour: 10}}}}
	if diff := cmp.Diff(want, p.PopularTimes); diff != "" {
		t.Errorf("popular times (-want +got):\n%s", diff)
	}
	if drift["place.popular_times.hour[84,0]"] != 2 || drift["place.popular_times[84,0]"] != 1 {
		t.Errorf("drift %v", drift)
	}
}

func TestClosureIsComparedExactly(t *testing.T) {
	t.Parallel()
	tests := []struct {
		flag, status any
		want         gmaps.Closure
	}{
		{"CLOSED", nil, gmaps.ClosedPermanently},
		{"CLOSED", "Temporarily closed", gmaps.ClosedTemporarily},
		{"TEMPORARILY_CLOSED", nil, gmaps.ClosedTemporarily},
		{nil, "Permanently closed", gmaps.ClosedPermanently},
		{nil, "Dauerhaft geschlossen", gmaps.ClosedPermanently},
		{nil, "閉業", gmaps.ClosedPermanently},
		{nil, "Tạm thời đóng cửa", gmaps.ClosedTemporarily},
		{nil, "مغلق مؤقتًا", gmaps.ClosedTemporarily},
		{"GESCHLOSSEN", "Vorübergehend geschlossen", gmaps.ClosedTemporarily},
		{"ĐANG ĐÓNG CỬA", nil, gmaps.ClosedPermanently},
		{"Geschlossen", "Geschlossen ⋅ Öffnet um 09:00", ""},
		{"SGD 120", nil, ""},
		{"Brunch", "Closed ⋅ Opens 9 AM", ""},
		{"Closed on Mondays", nil, ""},
		{nil, nil, ""},
	}
	for _, test := range tests {
		p, _ := decodeBody(t, map[string]any{"88,0": test.flag, "34,4,4": test.status})
		if p.Closed != test.want {
			t.Errorf("flag %v, status %v: %q, want %q", test.flag, test.status, p.Closed, test.want)
		}
	}
}

// The state stands at two places, and what a closed badge means may be said in the page's menu only.
func TestClosureIsLookedForWhereverGoogleSaysIt(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		values map[string]any
		want   gmaps.Closure
	}{
		"only the newer state":             {map[string]any{"34,4": []any{"x"}, "203,1,4,0": "Permanently closed"}, gmaps.ClosedPermanently},
		"the state, and more of it":        {map[string]any{"203,1,4,0": "Temporarily closed ⋅ Opens in May"}, gmaps.ClosedTemporarily},
		"the menu beside a badge":          {map[string]any{"88,0": "GESCHLOSSEN", "96,5": []any{[]any{nil, "Melden", "Vorübergehend geschlossen"}}}, gmaps.ClosedTemporarily},
		"the menu of a place that is open": {map[string]any{"96,5": []any{[]any{nil, "Permanently closed"}}}, ""},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if p, _ := decodeBody(t, test.values); p.Closed != test.want {
				t.Errorf("closed %q, want %q", p.Closed, test.want)
			}
		})
	}
}

func TestHoursTakeTheFullerList(t *testing.T) {
	t.Parallel()
	var week []any
	for i := range 7 {
		week = append(week, []any{"day", []string{"9–5"}, nil, nil, fmt.Sprintf("2026-01-%02d", 5+i), 1, []any{[]any{9, 0, 17, 0}}})
	}
	today := []any{[]any{"Tue", 2, []any{2026, 1, 6}, []any{[]any{"10–4", []any{[]any{10}, []any{16}}}}, 0, 1}}
	p, _ := decodeBody(t, map[string]any{"203,0": today, "34,1": week})
	if len(p.Hours) != 7 || p.Hours[1].Text[0] != "9–5" || p.Trimmed() {
		t.Errorf("hours %+v, want the week of the older list", p.Hours)
	}
	p, _ = decodeBody(t, map[string]any{"203,0": today})
	if len(p.Hours) != 1 || !p.Trimmed() {
		t.Errorf("hours %+v, want today's", p.Hours)
	}
}

func TestOpenAllDayIsNotClosed(t *testing.T) {
	t.Parallel()
	day := func(state int, span ...any) any {
		return []any{[]any{"Mon", 1, []any{2026, 1, 5}, []any{span}, 0, state}}
	}
	allDay := []gmaps.Interval{{OpenMinute: 0, CloseMinute: 1440}}
	tests := map[string]struct {
		days any
		want []gmaps.Interval
	}{
		"both ends midnight": {day(1, "Open 24 hours", []any{[]any{}, []any{}}), allDay},
		"0 to 24":            {day(1, "Open 24 hours", []any{[]any{0}, []any{24}}), allDay},
		"closed":             {day(2, "Closed"), nil},
		"until 2 am":         {day(1, "6 pm–2 am", []any{[]any{18}, []any{2}}), []gmaps.Interval{{OpenMinute: 1080, CloseMinute: 1560}}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p, _ := decodeBody(t, map[string]any{"203,0": test.days})
			if diff := cmp.Diff(test.want, p.Hours[0].Open); diff != "" {
				t.Errorf("open (-want +got):\n%s", diff)
			}
		})
	}
}

func TestAddressIsWithoutTheTitleWhereverItStands(t *testing.T) {
	t.Parallel()
	tests := map[string]map[string]any{
		"in front":      {"18": "Bar, Pest, Fő út 4, 1011"},
		"after a town":  {"18": "Pest, Bar, Fő út 4, 1011", "39": "Pest, Fő út 4, 1011"},
		"no long one":   {"39": "Pest, Fő út 4, 1011"},
		"lines alone":   {},
		"another title": {"18": "バー Pest, Fő út 4, 1011"},
	}
	for name, values := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			values["11"], values["2"] = "Bar", []string{"Pest", "Fő út 4", "1011"}
			if p, _ := decodeBody(t, values); p.Address != "Pest, Fő út 4, 1011" {
				t.Errorf("address %q", p.Address)
			}
		})
	}
	p, _ := decodeBody(t, map[string]any{"82": []any{"East", "Fő út 4", "Fő út 4", "Pest"}, "243": "HU"})
	if diff := cmp.Diff(gmaps.AddressParts{Borough: "East", Street: "Fő út 4", City: "Pest", CountryCode: "HU"}, p.AddressParts); diff != "" {
		t.Errorf("parts (-want +got):\n%s", diff)
	}
}

func TestBookingATableIsNoOrder(t *testing.T) {
	t.Parallel()
	group := func(kind any, host string) any {
		return []any{kind, nil, []any{positional(map[string]any{"0,0": host, "1,2,0": "https://" + host})}}
	}
	table, food := []gmaps.Link{{"https://table.example", "table.example"}}, []gmaps.Link{{"https://food.example", "food.example"}}
	tests := map[string]struct {
		groups          []any
		reserved, order []gmaps.Link
	}{
		"a table alone":      {[]any{group(1, "table.example")}, table, nil},
		"a table, then food": {[]any{group(1, "table.example"), group(4, "food.example")}, table, food},
		"food, then a table": {[]any{group(4, "food.example"), group(1, "table.example")}, table, food},
		"food alone":         {[]any{group(4, "food.example")}, nil, food},
		"kind unsaid":        {[]any{group(nil, "other.example"), group(nil, "food.example")}, nil, food},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p, _ := decodeBody(t, map[string]any{"75": []any{test.groups}})
			if diff := cmp.Diff(test.reserved, p.Reservations); diff != "" {
				t.Errorf("reservations (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(test.order, p.OrderOnline); diff != "" {
				t.Errorf("order online (-want +got):\n%s", diff)
			}
		})
	}
}

func TestHotelsSayWhatTheyOffer(t *testing.T) {
	t.Parallel()
	p, drift := decodeBody(t, map[string]any{
		"161,1": "By the river.", "4,4": "$$", "37,0,0,6,0": "https://lh3.googleusercontent.com/p/front=w80",
		"64,2": []any{[]any{nil, nil, "Pool", 1, 21}, nil, []any{nil, nil, "Pets", 0}},
	})
	want := []gmaps.AboutSection{{ID: "amenities", Name: "Amenities", Options: []gmaps.AboutOption{{Name: "Pool", On: true}, {Name: "Pets"}}}}
	if diff := cmp.Diff(want, p.About); diff != "" {
		t.Errorf("about (-want +got):\n%s", diff)
	}
	if p.Description != "By the river." || p.PriceRange != "$$" || p.Thumbnail != "https://lh3.googleusercontent.com/p/front=w80" || len(drift) > 0 {
		t.Errorf("description %q, price %q, thumbnail %q, drift %v", p.Description, p.PriceRange, p.Thumbnail, drift)
	}
}

func TestLinksAndAddressesAreCleaned(t *testing.T) {
	t.Parallel()
	p, drift := decodeBody(t, map[string]any{
		"7,0": "/url?q=https://example.com/a%3Fb%3D1&opi=7", "11": "Bar, Grill", "18": "Bar, Grill, 1 Road, Town", "2": []string{"1 Road", "Town"},
		"183,1": []any{"East", nil, "Road 1", "Town", "123", "State", nil}, "243": "GR",
		"46":       []any{[]any{"https://book.example", "Book"}, nil, []any{7}},
		"75,0,1,2": []any{positional(map[string]any{"0,0": "eats.example", "1,2,0": "https://eats.example/x"})},
		"75,0,0,2": []any{positional(map[string]any{"1,2,0": "https://other.example"})},
		"38":       []string{"https://menu.example", "menu.example"},
		"57":       []any{nil, "Bar (Owner)", "42"},
		"171,0":    []any{positional(map[string]any{"2": "Φωτογραφίες", "3,0,6,0": "//streetviewpixels-pa.googleapis.com/v1/thumbnail?panoid=AbC-1&w=9"}), nil},
	})
	if p.Website != "https://example.com/a?b=1" || p.Address != "1 Road, Town" || p.AddressParts.Street != "Road 1" || p.AddressParts.CountryCode != "GR" {
		t.Errorf("website %q, address %q, parts %+v", p.Website, p.Address, p.AddressParts)
	}
	if diff := cmp.Diff([]gmaps.Link{{"https://book.example", "Book"}}, p.Reservations); diff != "" {
		t.Errorf("reservations (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]gmaps.Link{{"https://eats.example/x", "eats.example"}}, p.OrderOnline); diff != "" {
		t.Errorf("order online (-want +got):\n%s", diff)
	}
	if p.Menu.Source != "menu.example" || p.Owner.Link != "https://www.google.com/maps/contrib/42" || !strings.HasSuffix(p.StreetViewURL, "pano=AbC-1") {
		t.Errorf("menu %+v, owner %+v, street view %q", p.Menu, p.Owner, p.StreetViewURL)
	}
	if len(drift) != 1 {
		t.Errorf("drift %v, want the reservation without a link alone", drift)
	}
}

func TestAboutKnowsEveryKindOfOption(t *testing.T) {
	t.Parallel()
	const card = "/geo/type/establishment_poi/pay_credit_card"
	p, _ := decodeBody(t, map[string]any{"100,1": []any{nil, []any{"pay", "Πληρωμές", []any{
		nil,
		[]any{card, "Κάρτες", []any{1, []any{[]any{0, "Κάρτες"}}}},
		[]any{"wifi", "Wi-Fi", []any{2, nil, nil, []any{"/g/1", nil, "Free Wi-Fi"}}},
		[]any{card + "_types_accepted", "Κάρτες", []any{3, nil, nil, nil, positional(map[string]any{"1,0,0": []any{[]any{"/g/2", nil, nil, "Visa"}, []any{"/g/3", nil, "Amex"}}})}},
	}}}})
	want := []gmaps.AboutSection{{ID: "pay", Name: "Πληρωμές", Options: []gmaps.AboutOption{
		{ID: card, Name: "Κάρτες"},
		{ID: "wifi", Name: "Wi-Fi", On: true, Values: []string{"Free Wi-Fi"}},
		{ID: card + "_types_accepted", Name: "Κάρτες", On: true, Values: []string{"Visa", "Amex"}},
	}}}
	if diff := cmp.Diff(want, p.About); diff != "" {
		t.Errorf("about (-want +got):\n%s", diff)
	}
	if p.CreditCards == nil || !*p.CreditCards {
		t.Errorf("credit cards = %v, want true", p.CreditCards)
	}
}

func TestTrimmedListingsAreKnown(t *testing.T) {
	t.Parallel()
	trimmed, _ := decodeBody(t, map[string]any{"4,7": 4.4})
	limited, _ := decodeBody(t, map[string]any{"4,7": 4.4, "37,1": 87})
	photos, _ := decodeBody(t, map[string]any{"4,7": 4.4, "37": []any{[]any{[]any{"photo"}}, 411}})
	unrated, _ := decodeBody(t, map[string]any{"11": "New"})
	if !trimmed.Trimmed() || !photos.Trimmed() || unrated.Trimmed() || limited.Trimmed() {
		t.Errorf("trimmed %t, with photos %t, unrated %t, limited %t", trimmed.Trimmed(), photos.Trimmed(), unrated.Trimmed(), limited.Trimmed())
	}
	if limited.ReviewCount != 87 {
		t.Errorf("review count in limited view = %d, want 87", limited.ReviewCount)
	}
}

func TestPlusCodesMatchTheSpecification(t *testing.T) {
	t.Parallel()
	// Vectors of the public specification's encoding tests, 10 digits.
	tests := []struct {
		lat, lng float64
		want     string
	}{
		{20.3700625, 2.7821875, "7FG49QCJ+2V"},
		{47.0000625, 8.0000625, "8FVC2222+22"},
		{-41.2730625, 174.7859375, "4VCPPQGP+Q9"},
		{90, 1, "CFX3X2X2+X2"},
		{1, 180, "62H22222+22"},
		{1, -180, "62H22222+22"},
		{-90, -180, "22222222+22"},
	}
	for _, test := range tests {
		p, _ := decodeBody(t, map[string]any{"9": []any{nil, nil, test.lat, test.lng}})
		if p.GlobalPlusCode != test.want || p.PlusCode != test.want {
			t.Errorf("%v, %v: %q, want %q", test.lat, test.lng, p.GlobalPlusCode, test.want)
		}
	}
}

func TestDriftCountsFromManyGoroutines(t *testing.T) {
	t.Parallel()
	payload := encode(t, positional(map[string]any{"6,10": dataID, "6,11": 7}))
	var drift gmaps.Drift
	var decoders sync.WaitGroup
	for range 8 {
		decoders.Go(func() {
			for range 10 {
				if _, err := gmaps.DecodePlace(payload, &drift); err != nil {
					t.Error(err)
				}
			}
		})
	}
	decoders.Wait()
	if got := drift.Counts()["place.title[11]"]; got != 80 {
		t.Errorf("counted %d, want 80", got)
	}
	if got := (*gmaps.Drift)(nil).Counts(); len(got) != 0 {
		t.Errorf("nil drift counted %v", got)
	}
}
