package gmaps_test

import (
	"encoding/json"
	"strconv"
	"strings"
	"testing"

	"gmaps-scraper/gmaps"
)

// dataID, cid and placeID name one place.
const (
	dataID  = "0x1234abcd00000001:0xfedcba9876543210"
	cid     = "18364758544493064720"
	placeID = "ChIJAQAAAM2rNBIREDJUdpi63P4"
)

// positional builds nested arrays from values by path ("4,7"). Gaps are null, as in Google's answers.
func positional(values map[string]any) []any {
	var root []any
	for path, v := range values {
		root = place(root, strings.Split(path, ","), v)
	}
	return root
}

func place(array []any, path []string, v any) []any {
	i, err := strconv.Atoi(path[0])
	if err != nil {
		panic(err)
	}
	for len(array) <= i {
		array = append(array, nil)
	}
	if len(path) == 1 {
		array[i] = v
		return array
	}
	inner, _ := array[i].([]any)
	array[i] = place(inner, path[1:], v)
	return array
}

func encode(t testing.TB, v any) []byte {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return append([]byte(")]}'\n"), b...)
}

// decodeBody decodes a place payload with the given fields beside its data id.
func decodeBody(t *testing.T, values map[string]any) (gmaps.Place, map[string]int64) {
	t.Helper()
	values["10"] = dataID
	var drift gmaps.Drift
	p, err := gmaps.DecodePlace(encode(t, positional(map[string]any{"6": positional(values)})), &drift)
	if err != nil {
		t.Fatal(err)
	}
	return p, drift.Counts()
}
