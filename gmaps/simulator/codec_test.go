package simulator

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"gmaps-scraper/gmaps"
)

func TestDetailDecodesToThePlaceItWasMadeFrom(t *testing.T) {
	t.Parallel()
	w := newWorld(42, 10_000)
	for i := range uint32(2_000) {
		p := w.detail(ref{index: i})
		e := &encoder{b: []byte(jsonPrefix)}
		e.payload(p.CID, func() { e.place(p, shape{detail: true}) })
		drift := &gmaps.Drift{}
		got, err := gmaps.DecodePlace(e.b, drift)
		if err != nil {
			t.Fatalf("place %d: %v\n%s", i, err, e.b)
		}
		if len(drift.Counts()) != 0 {
			t.Fatalf("place %d: drift %v", i, drift.Counts())
		}
		if diff := cmp.Diff(SyntheticPlace(42, i), got); diff != "" {
			t.Fatalf("place %d: decoded place differs (-want +got):\n%s", i, diff)
		}
	}
}
