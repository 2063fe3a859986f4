package gmaps_test

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"unicode/utf8"

	"gmaps-scraper/gmaps"
)

func FuzzDecodePlace(f *testing.F) {
	seedDecoder(f)
	f.Fuzz(func(t *testing.T, payload []byte) {
		var drift gmaps.Drift
		p, err := gmaps.DecodePlace(payload, &drift)
		if err != nil {
			return
		}
		checkSane(t, p)
	})
}

func FuzzDecodeSearch(f *testing.F) {
	seedDecoder(f)
	f.Fuzz(func(t *testing.T, payload []byte) {
		var drift gmaps.Drift
		page, err := gmaps.DecodeSearch(payload, &drift)
		if err != nil {
			return
		}
		if len(page.Places) > page.Entries {
			t.Errorf("%d places of %d entries", len(page.Places), page.Entries)
		}
		for _, p := range page.Places {
			checkSane(t, p)
		}
	})
}

func FuzzDecodeReviews(f *testing.F) {
	seedDecoder(f)
	f.Fuzz(func(t *testing.T, payload []byte) {
		var drift gmaps.Drift
		page, err := gmaps.DecodeReviews(payload, &drift)
		if err != nil {
			return
		}
		checkTexts(t, "next", reflect.ValueOf(page.Next))
		for _, r := range page.Reviews {
			checkReview(t, r)
		}
	})
}

func seedDecoder(f *testing.F) {
	f.Helper()
	body := positional(map[string]any{
		"9,2": 34.5, "9,3": 33.1, "10": dataID, "11": "Café", "34,4,4": "Open", "4,7": 4.5, "4,8": 12, "175,3": []int{1, 2, 3, 4, 5},
		"203,0": []any{[]any{"Monday", 1, []int{2026, 1, 5}, []any{[]any{"9–5", []any{[]int{9}, []int{17, 30}}}}}},
		"84,0":  []any{[]any{1, []any{[]any{9, 50}, nil}}, nil},
		"100,1": []any{[]any{"a", "A", []any{[]any{"x", "X", []any{1, []any{[]any{1}}}}}}},
	})
	review := positional(map[string]any{"0": "id", "1,2": 1700000000000000, "1,4,5,0": "Ann", "2,0,0": 4, "2,15,0,0": "Good", "3,1": 1700000000000000, "3,14,0,0": "Thanks"})
	boq := positional(map[string]any{"1": 4, "2": []any{"a week ago", nil, "1700000000000"}, "3": []any{"Ann"}, "5": "id", "27": "a<br>b &amp; c"})
	for _, v := range []any{
		positional(map[string]any{"6": body}),
		positional(map[string]any{"0,1": []any{nil, positional(map[string]any{"14": body})}}),
		positional(map[string]any{"64": []any{[]any{nil, body}}}),
		[]any{nil, "token", []any{[]any{review}}},
		positional(map[string]any{"1,10,2": []any{boq}, "1,10,6": "token"}),
	} {
		b, err := json.Marshal(v)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(append([]byte(")]}'\n"), b...))
		quoted, err := json.Marshal(string(b))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(quoted)
		f.Add(b[:len(b)/2])
	}
	f.Add([]byte(strings.Repeat("[", 300)))
	f.Add([]byte(`[[["\ud83d\u00`))
	f.Add([]byte("null"))
}

func checkSane(t *testing.T, p gmaps.Place) {
	t.Helper()
	if p.Key() == "" || p.DataID == "" && p.CID == "" && p.PlaceID == "" {
		t.Errorf("a place without identity: %+v", p)
	}
	if l := p.Location; l != nil && !(l.Lat >= -90 && l.Lat <= 90 && l.Lng >= -180 && l.Lng <= 180) {
		t.Errorf("location %+v is not on earth", *l)
	}
	if !(p.Rating >= 0 && p.Rating <= 5) || p.ReviewCount < 0 {
		t.Errorf("rating %v of %d reviews", p.Rating, p.ReviewCount)
	}
	for _, day := range p.Hours {
		if day.Weekday < 1 || day.Weekday > 7 {
			t.Errorf("weekday %d", day.Weekday)
		}
		for _, span := range day.Open {
			if span.OpenMinute < 0 || span.OpenMinute >= 1440 || span.CloseMinute <= span.OpenMinute || span.CloseMinute > 2880 {
				t.Errorf("interval %+v", span)
			}
		}
	}
	for _, day := range p.PopularTimes {
		for _, h := range day.Hours {
			if day.Weekday < 1 || day.Weekday > 7 || h.Hour < 0 || h.Hour > 23 || h.BusyPercent < 0 || h.BusyPercent > 100 {
				t.Errorf("weekday %d: %+v", day.Weekday, h)
			}
		}
	}
	for _, r := range p.Reviews {
		checkReview(t, r)
	}
	checkTexts(t, "place", reflect.ValueOf(p))
	if _, err := json.Marshal(p); err != nil {
		t.Errorf("place does not encode: %v", err)
	}
}

func checkReview(t *testing.T, r gmaps.Review) {
	t.Helper()
	if !(r.Rating >= 0 && r.Rating <= float64(r.RatingMax)) {
		t.Errorf("rating %v of %d", r.Rating, r.RatingMax)
	}
	for _, at := range []int{r.PostedAt.Year(), r.EditedAt.Year()} {
		if at != 1 && (at < 2000 || at > 2100) {
			t.Errorf("a review of the year %d", at)
		}
	}
	checkTexts(t, "review", reflect.ValueOf(r))
}

// checkTexts fails on any string inside v that a database or a file would refuse.
func checkTexts(t *testing.T, path string, v reflect.Value) {
	t.Helper()
	switch v.Kind() {
	case reflect.String:
		if s := v.String(); !utf8.ValidString(s) || strings.ContainsRune(s, 0) {
			t.Errorf("%s is no clean UTF-8: %q", path, s)
		}
	case reflect.Pointer:
		if !v.IsNil() {
			checkTexts(t, path, v.Elem())
		}
	case reflect.Slice, reflect.Array:
		for i := range v.Len() {
			checkTexts(t, fmt.Sprintf("%s[%d]", path, i), v.Index(i))
		}
	case reflect.Struct:
		for i := range v.NumField() {
			if field := v.Type().Field(i); field.IsExported() {
				checkTexts(t, path+"."+field.Name, v.Field(i))
			}
		}
	}
}
