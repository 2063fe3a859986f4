package simulator

import (
	"testing"

	"gmaps-scraper/gmaps"
)

func TestKeywordGrammar(t *testing.T) {
	t.Parallel()
	w := newWorld(1, 100)
	plain := question{category: -1, city: -1}
	with := func(change func(q *question)) question {
		q := plain
		change(&q)
		return q
	}
	for _, c := range []struct {
		keyword   string
		want      question
		synthetic bool
	}{
		{"synthetic", plain, true},
		{"SYNTHETIC", plain, true},
		{"syntheticall", with(func(q *question) { q.all = true }), true},
		{"synthetic:a-1", with(func(q *question) { q.set = setTag("a-1") }), true},
		{"bars in synthetic:A-1", with(func(q *question) { q.set, q.category = setTag("a-1"), 3 }), true},
		{"syntheticall:x", with(func(q *question) { q.set, q.all = setTag("x"), true }), true},
		{"synthetic bakeries near Mexico City", with(func(q *question) { q.category, q.city = 2, 11 }), true},
		{"synthetic 17/100", with(func(q *question) { q.shard, q.shards, q.all = 16, 100, true }), true},
		{"synthetic cafe 1/1", with(func(q *question) { q.shards, q.all, q.category = 1, true, 1 }), true},
		{"synthetic 101/100", with(func(q *question) { q.nothing = true }), true},
		{"synthetic 0/100", with(func(q *question) { q.nothing = true }), true},
		{"synthetic barber", with(func(q *question) { q.nothing = true }), true},
		{"synthetics", plain, false},
		{"synthetic:", plain, false},
		{"coffee", plain, false},
		{"hotel wien", with(func(q *question) { q.category, q.city = 4, 7 }), false},
		{"", plain, false},
	} {
		got, synthetic := w.parse(c.keyword)
		if got != c.want || synthetic != c.synthetic {
			t.Errorf("%q: got %+v, synthetic %v, want %+v, %v", c.keyword, got, synthetic, c.want, c.synthetic)
		}
	}
}

func TestPlusCodesAreThoseOfTheSpecification(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		lat, lng float64
		want     string
	}{
		{20.3701125, 2.782234375, "7FG49QCJ+2V"}, // from the specification's test data
		{47.0000625, 8.0000625, "8FVC2222+22"},
		{-41.2730625, 174.7859375, "4VCPPQGP+Q9"},
		{90, 1, "CFX3X2X2+X2"},
		{1, 180, "62H22222+22"},
	} {
		if got := plusCode(c.lat, c.lng); got != c.want {
			t.Errorf("%v, %v: got %s, want %s", c.lat, c.lng, got, c.want)
		}
	}
}

func TestIDsAreInvertible(t *testing.T) {
	t.Parallel()
	w := newWorld(9, 1_000_000)
	for i := range uint32(10_000) {
		r := ref{set: setTag([]string{"", "x", "other"}[i%3]), index: i * 97}
		id := w.dataID(r)
		got, ok := w.byDataID(id)
		high, low, _ := splitDataID(id)
		back, err := gmaps.PlaceRef{PlaceID: placeID(high, low)}.FeatureID()
		if !ok || got != r || err != nil || back != id {
			t.Fatalf("%+v: id %s leads to %+v, place id to %s, %v", r, id, got, back, err)
		}
	}
}
