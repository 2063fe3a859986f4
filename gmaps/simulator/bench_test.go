package simulator

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"gmaps-scraper/gmaps"
)

// discard is a ResponseWriter that counts.
type discard struct {
	header http.Header
	bytes  int
}

func (d *discard) Header() http.Header         { return d.header }
func (d *discard) WriteHeader(int)             {}
func (d *discard) Write(p []byte) (int, error) { d.bytes += len(p); return len(p), nil }

func benchmarkServe(b *testing.B, encoding string, targets []string, placesEach int) {
	s, err := New(Config{Synthetic: 100_000})
	if err != nil {
		b.Fatal(err)
	}
	requests := make([]*http.Request, len(targets))
	for i, target := range targets {
		requests[i] = httptest.NewRequest(http.MethodGet, target, nil)
		requests[i].Header.Set("Cookie", nid)
		requests[i].Header.Set("Accept-Encoding", encoding)
	}
	w := &discard{header: http.Header{}}
	s.ServeHTTP(w, requests[0])
	w.bytes = 0
	b.ReportAllocs()
	n := 0
	for b.Loop() {
		s.ServeHTTP(w, requests[n%len(requests)])
		n++
	}
	b.ReportMetric(float64(n*placesEach)/b.Elapsed().Seconds(), "places/s")
	b.ReportMetric(float64(w.bytes)/float64(n*placesEach), "B/place")
}

func searchTargets() []string {
	var targets []string
	for offset := 0; offset < 10_000; offset += gmaps.PageSize {
		targets = append(targets, gmaps.SearchURL("", gmaps.Query{Keyword: "syntheticall"}, offset))
	}
	return targets
}

func BenchmarkSearchPlain(b *testing.B) { benchmarkServe(b, "", searchTargets(), gmaps.PageSize) }
func BenchmarkSearchGzip(b *testing.B)  { benchmarkServe(b, "gzip", searchTargets(), gmaps.PageSize) }

func BenchmarkDetailGzip(b *testing.B) {
	var targets []string
	w := newWorld(0, 100_000)
	for i := range uint32(1_000) {
		targets = append(targets, gmaps.PlaceURL("", w.dataID(ref{index: i}), "en", ""))
	}
	benchmarkServe(b, "gzip", targets, 1)
}

func BenchmarkTree(b *testing.B) {
	for b.Loop() {
		w := newWorld(1, 1_000_000)
		w.tree(0)
	}
	b.ReportMetric(1_000_000, "places")
}
