package web_test

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"sync"
	"testing"

	"gmaps-scraper/gmaps"
	"gmaps-scraper/gmaps/simulator"
	"gmaps-scraper/gmaps/web"
)

// knows is a gmaps.Known that knows the places it returns true for.
type knows func(key string) bool

func (k knows) Known(_ context.Context, keys []string) []bool {
	out := make([]bool, len(keys))
	for i, key := range keys {
		out[i] = k(key)
	}
	return out
}

func TestKnownPlacesComeAsListedAndTheOthersWhole(t *testing.T) {
	t.Parallel()
	g := &google{places: makePlaces(5, athens)}
	e := open(t, g, nil)
	first := g.places[0].Key()
	q := over("cafe")
	q.Detail, q.Known = gmaps.DetailAlways, knows(func(key string) bool { return key == first })
	n := 0
	for _, page := range collect(t, e, q, "") {
		for _, p := range page.Places {
			n++
			if known := p.Key() == first; p.Detailed == known {
				t.Errorf("place %s: detailed %v, known %v", p.Key(), p.Detailed, known)
			}
		}
	}
	if s := e.Stats(); n != 5 || s.Spared != 1 || s.Details != 4 {
		t.Errorf("%d places, stats %+v", n, s)
	}
}

// turns is a Limiter that notes who asked, and refuses when ctx is to end.
type turns struct {
	mu    sync.Mutex
	exits map[string]int
	err   error
}

func (l *turns) Wait(_ context.Context, exit string, perSecond float64) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if perSecond == 1000 {
		l.exits[exit]++
	}
	return l.err
}

func TestEveryRequestWaitsForItsTurnUnderANameWithoutSecrets(t *testing.T) {
	t.Parallel()
	_, base := simulate(t, simulator.Config{})
	for name, c := range map[string]struct {
		proxies []string
		direct  string
		shared  bool
	}{
		"direct":            {nil, "host-1", true},
		"direct, not named": {nil, "", false},
		"proxy":             {[]string{"http://user1:hunter22@" + strings.TrimPrefix(base, "http://")}, "", true},
	} {
		l := &turns{exits: map[string]int{}}
		e := engineFor(t, base, func(w *web.Config) {
			w.Limiter, w.DirectName, w.Proxies, w.RatePerSecond = l, c.direct, c.proxies, 1000
			w.Transport = http.DefaultTransport.(*http.Transport).Clone() // proxies are named, not dialled
		})
		collect(t, e, gmaps.Query{Keyword: "synthetic 0/5"}, "")
		asked := 0
		for exit, n := range l.exits {
			asked += n
			if strings.Contains(exit, "hunter22") || strings.Contains(exit, "user1") {
				t.Errorf("%s: the exit's name is %q", name, exit)
			}
		}
		if want := e.Stats().Requests; c.shared && int64(asked) != want || !c.shared && asked != 0 {
			t.Errorf("%s: %d turns for %d requests", name, asked, want)
		}
	}
	errEnd := errors.New("end")
	e := engineFor(t, base, func(w *web.Config) {
		w.Limiter, w.DirectName, w.RatePerSecond, w.Retries = &turns{exits: map[string]int{}, err: errEnd}, "h", 1000, -1
	})
	for _, err := range e.Search(t.Context(), gmaps.Query{Keyword: "synthetic 0/5"}, "") {
		if !errors.Is(err, errEnd) {
			t.Errorf("err is %v", err)
		}
	}
}
