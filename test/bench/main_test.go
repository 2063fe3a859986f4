package main

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"gmaps-scraper/gmaps"
)

func TestBenchReportsGoalsAndFailsWhatLacksItsBaseline(t *testing.T) {
	t.Parallel()
	samples := []float64{0.5, 0.1, 0.2, 0.4, 0.3}
	fixed := func(r result, err error) func(context.Context, int) (result, error) {
		return func(context.Context, int) (result, error) { return r, err }
	}
	tests := map[string]struct {
		run     func(context.Context, int) (result, error)
		ok      bool
		printed string
	}{
		"met":         {fixed(result{ratios: []ratio{{"time", samples, atMost(0.3)}}}, nil), true, "median 0.3000  min 0.1000  max 0.5000  goal ≤ 0.3  met"},
		"missed":      {fixed(result{ratios: []ratio{{"speed", samples, atLeast(0.31)}}}, nil), false, "goal ≥ 0.31  MISSED"},
		"no baseline": {fixed(result{}, errors.New("no baseline here")), false, "FAILED: no baseline here"},
		"nothing":     {fixed(result{}, nil), false, "FAILED: no ratio measured"},
		"too few":     {fixed(result{ratios: []ratio{{"time", samples[:4], atMost(1)}}}, nil), false, "FAILED: time: 4 samples in 5 rounds"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var out strings.Builder
			err := run(t.Context(), nil, &out, []bench{{"B0", "a ÷ b", test.run}})
			if (err == nil) != test.ok {
				t.Errorf("run = %v, want success %t", err, test.ok)
			}
			if !strings.Contains(out.String(), test.printed) {
				t.Errorf("printed %q, want %q in it", out.String(), test.printed)
			}
		})
	}
}

func TestBenchRefusesUnknownIDsAndTooFewRounds(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{{"-only", "B99"}, {"-rounds", "4"}} {
		if err := run(t.Context(), args, &strings.Builder{}, benches()); err == nil {
			t.Errorf("run %v succeeded", args)
		}
	}
}

// Without recordings the decode bench must still compare a payload of a real one's size that decodes.
func TestSyntheticPlaceDecodesAndIsOfRealSize(t *testing.T) {
	t.Parallel()
	b, err := json.Marshal(syntheticPlace())
	if err != nil {
		t.Fatal(err)
	}
	if len(b) < 150_000 || len(b) > 210_000 {
		t.Errorf("%d bytes, want about 178,000", len(b))
	}
	var drift gmaps.Drift
	p, err := gmaps.DecodePlace(b, &drift)
	if err != nil {
		t.Fatal(err)
	}
	if len(p.Reviews) != 8 || len(p.Hours) != 7 || len(p.PopularTimes) != 7 || len(p.About) != 7 || len(drift.Counts()) != 0 {
		t.Errorf("%d reviews, %d hours, %d popular times, %d about, drift %v", len(p.Reviews), len(p.Hours), len(p.PopularTimes), len(p.About), drift.Counts())
	}
}
