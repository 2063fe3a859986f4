package web_test

import (
	"errors"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"gmaps-scraper/gmaps"
	"gmaps-scraper/gmaps/web"
)

// refusals are answers that stand for "no", by what they must be recognised as.
var refusals = map[string]struct {
	kind   gmaps.BlockKind
	answer func(w http.ResponseWriter, r *http.Request)
}{
	"429": {gmaps.BlockedRate, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusTooManyRequests) }},
	"403": {gmaps.BlockedCaptcha, func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusForbidden)
		fmt.Fprint(w, "<html>Your client does not have permission</html>")
	}},
	"sorry redirect": {gmaps.BlockedCaptcha, func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "https://www.google.com/sorry/index?continue=x", http.StatusFound)
	}},
	"captcha page with 503": {gmaps.BlockedCaptcha, func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusServiceUnavailable)
		fmt.Fprint(w, `<!DOCTYPE html><form id="captcha-form" action="index" method="post"></form>`)
	}},
	"captcha page with 200": {gmaps.BlockedCaptcha, func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprint(w, `<html><FORM ACTION='/sorry/CaptchaRedirect'></FORM>`)
	}},
	"consent redirect": {gmaps.BlockedConsent, func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "https://consent.google.com/ml?continue=x", http.StatusFound)
	}},
	"consent page": {gmaps.BlockedConsent, func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, consentPage) }},
	"places elsewhere": {gmaps.BlockedDegraded, func(w http.ResponseWriter, _ *http.Request) {
		writeJSON(w, searchPayload(makePlaces(20, gmaps.Point{Lat: 52.5, Lng: 13.4})))
	}},
}

const consentPage = `<!doctype html><body>
<form action="https://consent.google.com/save" method="POST"><input type="hidden" name="set_eom" value="false"><input type="submit" value="Accept all"></form>
<form action="https://consent.google.com/save" method="POST"><input type="hidden" name="bl" value="b1"><input type="hidden" name="set_eom" value="true"><input type="submit" value="Reject all"></form>`

func TestRefusalIsABlockAndNeverNoResults(t *testing.T) {
	t.Parallel()
	for name, refusal := range refusals {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := &google{places: makePlaces(5, athens)}
			g.answer = func(w http.ResponseWriter, r *http.Request) bool {
				if isSearch(r) {
					refusal.answer(w, r)
				}
				return isSearch(r)
			}
			e := open(t, g, func(c *web.Config) { c.Retries = 2 })
			pages, err := collectErr(t.Context(), e, over("cafe"), "")
			blocked, ok := errors.AsType[*gmaps.BlockedError](err)
			if !ok || blocked.Kind != refusal.kind || blocked.URL == "" || len(pages) != 0 {
				t.Fatalf("got %d pages and %v, want a block of kind %s", len(pages), err, refusal.kind)
			}
			if got := e.Stats(); got.Blocked[refusal.kind] != 3 || got.Retries != 2 {
				t.Errorf("stats %+v, want 3 blocks and 2 retries", got)
			}
		})
	}
}

func TestRefusedOnceIsAskedAgainAsAnotherSession(t *testing.T) {
	t.Parallel()
	for name, refusal := range refusals {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := &google{places: makePlaces(5, athens)}
			var refused sync.Map // the sessions that Google turned against
			var once sync.Once
			g.answer = func(w http.ResponseWriter, r *http.Request) bool {
				if !isSearch(r) {
					return false
				}
				once.Do(func() { refused.Store(nid(r), true) })
				_, no := refused.Load(nid(r))
				if no {
					refusal.answer(w, r)
				}
				return no
			}
			e := open(t, g, nil)
			if got := len(keys(collect(t, e, over("cafe"), ""))); got != 5 {
				t.Errorf("got %d places, want 5", got)
			}
			if got := e.Stats().Blocked[refusal.kind]; got != 1 {
				t.Errorf("got %d blocks, want 1: the session was not retired", got)
			}
		})
	}
}

func TestConsentIsAnsweredByItsRejectForm(t *testing.T) {
	t.Parallel()
	g := &google{places: makePlaces(5, athens)}
	var posts atomic.Int64
	g.answer = func(w http.ResponseWriter, r *http.Request) bool {
		_, err := r.Cookie("REJECTED")
		switch {
		case r.URL.Path == "/save":
			if r.Method == http.MethodPost && r.FormValue("set_eom") == "true" && r.FormValue("bl") == "b1" {
				posts.Add(1)
				http.SetCookie(w, &http.Cookie{Name: "REJECTED", Value: "1"})
			}
			http.Redirect(w, r, "/maps", http.StatusSeeOther)
		case r.URL.Path == "/ml":
			fmt.Fprint(w, consentPage)
		case err != nil:
			http.Redirect(w, r, "https://consent.google.com/ml?continue=x", http.StatusFound)
		default:
			return false
		}
		return true
	}
	e := open(t, g, func(c *web.Config) { c.Sessions = 1 })
	if got := len(keys(collect(t, e, over("cafe"), ""))); got != 5 || posts.Load() != 1 {
		t.Errorf("got %d places after %d rejections, want 5 after 1", got, posts.Load())
	}
	if got := e.Stats(); len(got.Blocked) != 0 {
		t.Errorf("an answered consent page counts as %v", got.Blocked)
	}
}

func TestRetryAfterIsHandedOnAndHonoured(t *testing.T) {
	t.Parallel()
	g := &google{places: makePlaces(5, athens)}
	g.answer = func(w http.ResponseWriter, r *http.Request) bool {
		if isSearch(r) {
			w.Header().Set("Retry-After", "600")
			w.WriteHeader(http.StatusTooManyRequests)
		}
		return isSearch(r)
	}
	// The only exit is asked to wait for longer than MaxWait: the search ends at once, saying so.
	e := open(t, g, func(c *web.Config) { c.MaxWait = time.Minute })
	_, err := collectErr(t.Context(), e, over("cafe"), "")
	blocked, ok := errors.AsType[*gmaps.BlockedError](err)
	if !ok || blocked.Kind != gmaps.BlockedRate || blocked.RetryAfter != 10*time.Minute {
		t.Errorf("got %v, want a rate block with 10 min", err)
	}
	if got := g.count(isSearch); got != 1 {
		t.Errorf("asked %d times, want 1", got)
	}
}

func TestLimitedViewIsAskedAgainAndThenTaken(t *testing.T) {
	t.Parallel()
	whole := makePlaces(5, athens)
	bare := makePlaces(5, athens)
	for i := range bare {
		bare[i].ReviewCount = 0
	}
	for name, c := range map[string]struct {
		trimmedAnswers int64
		blocks         int64
		reviews        int
	}{"once": {1, 1, 10}, "always": {1000, 2, 0}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var n atomic.Int64
			g := &google{}
			g.answer = func(w http.ResponseWriter, r *http.Request) bool {
				if !isSearch(r) || number(r, `!8i(\d+)`) > 0 {
					return false
				}
				if n.Add(1) <= c.trimmedAnswers {
					writeJSON(w, searchPayload(bare))
				} else {
					writeJSON(w, searchPayload(whole))
				}
				return true
			}
			e := open(t, g, nil)
			first := collect(t, e, over("cafe"), "")[0]
			if len(first.Places) != 5 || first.Places[0].ReviewCount != c.reviews || e.Stats().Blocked[gmaps.BlockedLimited] != c.blocks {
				t.Errorf("got %d places with %d reviews, stats %+v", len(first.Places), first.Places[0].ReviewCount, e.Stats())
			}
		})
	}
}

func TestDoubtedPlaceIsTakenIfNoOtherComes(t *testing.T) {
	t.Parallel()
	bare := makePlaces(2, athens)
	bare[0].ReviewCount = 0
	for name, then := range map[string]func(http.ResponseWriter){
		"refused":       func(w http.ResponseWriter) { w.WriteHeader(http.StatusTooManyRequests) },
		"broken":        func(w http.ResponseWriter) { w.WriteHeader(http.StatusBadGateway) },
		"undecodable":   func(w http.ResponseWriter) { writeJSON(w, 17) },
		"another place": func(w http.ResponseWriter) { writeJSON(w, placePayload(bare[1])) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var n atomic.Int64
			g := &google{}
			g.answer = func(w http.ResponseWriter, r *http.Request) bool {
				switch {
				case !isDetail(r):
					return false
				case n.Add(1) == 1:
					writeJSON(w, placePayload(bare[0]))
				default:
					then(w)
				}
				return true
			}
			e := open(t, g, func(c *web.Config) { c.Retries = 2 })
			pages, err := collectErr(t.Context(), e, gmaps.Query{Place: &gmaps.PlaceRef{DataID: bare[0].DataID}}, "")
			if err != nil || len(pages) != 1 || len(pages[0].Places) != 1 {
				t.Fatalf("got %d pages, %v: want the place that came first", len(pages), err)
			}
			if p := pages[0].Places[0]; p.DataID != bare[0].DataID || p.Title != bare[0].Title || !p.Detailed || n.Load() < 2 {
				t.Errorf("got %+v after %d requests", p, n.Load())
			}
		})
	}
}

func TestFarPlacesThatTheKeywordNamesAreNoBlock(t *testing.T) {
	t.Parallel()
	g := &google{places: makePlaces(5, gmaps.Point{Lat: 52.5, Lng: 13.4})}
	for i := range g.places {
		g.places[i].AddressParts.City = "Berlin"
	}
	if got := len(keys(collect(t, open(t, g, nil), over("coffee in berlin"), ""))); got != 5 {
		t.Errorf("got %d places, want 5", got)
	}
	anywhere := over("coffee")
	anywhere.Viewport = nil
	if got := len(keys(collect(t, open(t, g, nil), anywhere, ""))); got != 5 {
		t.Errorf("whole earth: got %d places, want 5", got)
	}
}

func TestUndecodableSearchIsQuarantinedAskedOnceMoreAndAnError(t *testing.T) {
	t.Parallel()
	for name, payload := range map[string]string{"cut off": ")]}'\n[[\"q\",[", "not an array": "17", "page": "<html>maintenance</html>", "empty": ""} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := &google{}
			g.answer = func(w http.ResponseWriter, r *http.Request) bool {
				if isSearch(r) {
					fmt.Fprint(w, payload)
				}
				return isSearch(r)
			}
			var mu sync.Mutex
			var kept []gmaps.DecodeError
			e := open(t, g, func(c *web.Config) {
				c.Quarantine = func(d gmaps.DecodeError) {
					mu.Lock()
					defer mu.Unlock()
					kept = append(kept, d)
				}
			})
			_, err := collectErr(t.Context(), e, over("cafe"), "")
			if _, ok := errors.AsType[*gmaps.DecodeError](err); !ok {
				t.Fatalf("got %v, want a DecodeError", err)
			}
			if len(kept) != 2 || string(kept[0].Payload) != payload || kept[0].URL == "" || e.Stats().Undecodable != 2 {
				t.Errorf("quarantined %+v, want both payloads", kept)
			}
		})
	}
}

func TestServerErrorIsAskedAgainButABadRequestIsNot(t *testing.T) {
	t.Parallel()
	for status, want := range map[int]int{http.StatusBadGateway: 3, http.StatusBadRequest: 1} {
		g := &google{}
		g.answer = func(w http.ResponseWriter, r *http.Request) bool {
			if isSearch(r) {
				w.WriteHeader(status)
			}
			return isSearch(r)
		}
		_, err := collectErr(t.Context(), open(t, g, func(c *web.Config) { c.Retries = 2 }), over("cafe"), "")
		if err == nil || g.count(isSearch) != want {
			t.Errorf("status %d: %v after %d requests, want an error after %d", status, err, g.count(isSearch), want)
		}
	}
}

func TestForeignRedirectIsNotFollowed(t *testing.T) {
	t.Parallel()
	g := &google{}
	g.answer = func(w http.ResponseWriter, r *http.Request) bool {
		if isSearch(r) {
			http.Redirect(w, r, "https://www.google.com.evil.example/search", http.StatusFound)
		}
		return isSearch(r)
	}
	if _, err := collectErr(t.Context(), open(t, g, nil), over("cafe"), ""); err == nil || g.count(isSearch) != 1 {
		t.Errorf("got %v after %d requests, want an error after 1", err, g.count(isSearch))
	}
}

func TestBodyOverTheCapIsAnError(t *testing.T) {
	t.Parallel()
	g := &google{}
	chunk := make([]byte, 1<<20)
	g.answer = func(w http.ResponseWriter, r *http.Request) bool {
		for i := 0; isSearch(r) && i < 40; i++ {
			if _, err := w.Write(chunk); err != nil {
				break
			}
		}
		return isSearch(r)
	}
	if _, err := collectErr(t.Context(), open(t, g, func(c *web.Config) { c.Retries = -1 }), over("cafe"), ""); err == nil {
		t.Error("40 MiB were taken")
	}
}
