package web_test

import (
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"gmaps-scraper/gmaps/web"
)

func TestSessionsAreFewSharedAndCarryTheirCookies(t *testing.T) {
	t.Parallel()
	g := &google{places: makePlaces(100, athens)}
	e := open(t, g, nil)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			if _, err := collectErr(t.Context(), e, over("cafe"), ""); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if got := g.count(func(r *http.Request) bool { return r.URL.Path == "/maps" }); got != 3 {
		t.Errorf("opened %d sessions, want 3", got)
	}
	if got := g.count(func(r *http.Request) bool { return isSearch(r) && (nid(r) == "" || !hasCookie(r, "SOCS")) }); got != 0 {
		t.Errorf("%d searches went without cookies", got)
	}
}

func hasCookie(r *http.Request, name string) bool {
	_, err := r.Cookie(name)
	return err == nil
}

func TestSessionsAreRenewedByAge(t *testing.T) {
	t.Parallel()
	g := &google{places: makePlaces(1, athens)}
	var mu sync.Mutex
	now := time.Now()
	e := open(t, g, func(c *web.Config) {
		c.Sessions = 1
		c.Now = func() time.Time {
			mu.Lock()
			defer mu.Unlock()
			return now
		}
	})
	opened := func() int { return g.count(func(r *http.Request) bool { return r.URL.Path == "/maps" }) }
	collect(t, e, over("cafe"), "")
	collect(t, e, over("cafe"), "")
	if got := opened(); got != 1 {
		t.Errorf("opened %d sessions, want 1", got)
	}
	mu.Lock()
	now = now.Add(30 * time.Minute)
	mu.Unlock()
	collect(t, e, over("cafe"), "")
	if got := opened(); got != 2 {
		t.Errorf("opened %d sessions after half an hour, want 2", got)
	}
}

func TestRequestsLookLikeABrowsers(t *testing.T) {
	t.Parallel()
	g := &google{places: makePlaces(1, athens)}
	q := over("cafe")
	q.Lang = "el"
	collect(t, open(t, g, nil), q, "")
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, r := range g.requests {
		for name, want := range map[string]string{
			"User-Agent": "Chrome/", "Accept-Language": "el,en;", "Sec-Ch-Ua": "Google Chrome", "Sec-Fetch-Mode": map[bool]string{true: "navigate", false: "cors"}[r.URL.Path == "/maps"],
		} {
			if got := r.Header.Get(name); !strings.Contains(got, want) {
				t.Errorf("%s: %s is %q, want it to hold %q", r.URL.Path, name, got, want)
			}
		}
	}
}
