package web_test

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"gmaps-scraper/gmaps"
	"gmaps-scraper/gmaps/web"
)

// google answers like Google from a list of places, except where a test's answer takes over.
type google struct {
	places  []gmaps.Place
	reviews int // of each place
	// answer, if set, sees each request first and says whether it answered.
	answer func(w http.ResponseWriter, r *http.Request) bool

	mu       sync.Mutex
	requests []*http.Request
	cookies  int
}

func serve(t *testing.T, g *google) string {
	t.Helper()
	server := httptest.NewServer(g)
	t.Cleanup(server.Close)
	return server.URL
}

// open makes an engine for g that retries fast.
func open(t *testing.T, g *google, with func(*web.Config)) *web.Engine {
	t.Helper()
	c := web.Config{BaseURL: serve(t, g), Backoff: time.Millisecond, Logger: slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug}))}
	if with != nil {
		with(&c)
	}
	e, err := web.New(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(e.Close)
	return e
}

func (g *google) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	g.mu.Lock()
	g.requests = append(g.requests, r)
	g.mu.Unlock()
	if g.answer != nil && g.answer(w, r) {
		return
	}
	switch r.URL.Path {
	case "/maps":
		g.mu.Lock()
		g.cookies++
		n := g.cookies
		g.mu.Unlock()
		http.SetCookie(w, &http.Cookie{Name: "NID", Value: strconv.Itoa(n)})
		fmt.Fprint(w, "<!doctype html><script>var a='https://consent.google.com/save captcha'</script>")
	case "/search":
		offset := number(r, `!8i(\d+)`)
		var page []gmaps.Place
		if offset < len(g.places) {
			page = g.places[offset:min(offset+20, len(g.places))]
		}
		writeJSON(w, searchPayload(page))
	case "/maps/preview/place":
		id := regexp.MustCompile(`!1m13!1s([^!]+)!`).FindStringSubmatch(r.URL.Query().Get("pb"))[1]
		for _, p := range g.places {
			if p.DataID == id || strings.HasPrefix(id, "0x0:") && strings.HasSuffix(p.DataID, id[3:]) {
				p.Owner.Name = "owner of " + p.Title
				p.Website = ""
				writeJSON(w, placePayload(p))
				return
			}
		}
		writeJSON(w, []any{nil})
	default:
		g.serveReviews(w, r)
	}
}

func (g *google) serveReviews(w http.ResponseWriter, r *http.Request) {
	var wanted [2][]json.RawMessage
	var inner []any
	if json.Unmarshal([]byte(r.URL.Query().Get("reqpld")), &wanted) != nil || len(wanted[1]) < 10 || json.Unmarshal(wanted[1][9], &inner) != nil {
		http.NotFound(w, r)
		return
	}
	from := 0
	if len(inner) > 19 {
		from, _ = strconv.Atoi(inner[19].(string))
	}
	// One review of the page before comes again, as on the real wire when reviews arrive meanwhile.
	list := []any{}
	to := min(from+int(inner[9].(float64)), g.reviews)
	for i := max(from-1, 0); i < to; i++ {
		list = append(list, slots(map[int]any{1: 5, 2: []any{"a day ago", nil, "1700000000000"}, 3: []any{"Ann"}, 5: fmt.Sprint("review-", i), 27: "good"}))
	}
	var next any
	if to < g.reviews {
		next = strconv.Itoa(to)
	}
	writeJSON(w, slots(map[int]any{1: slots(map[int]any{10: slots(map[int]any{2: list, 6: next})})}))
}

// count says how many requests matched.
func (g *google) count(match func(*http.Request) bool) int {
	g.mu.Lock()
	defer g.mu.Unlock()
	n := 0
	for _, r := range g.requests {
		if match(r) {
			n++
		}
	}
	return n
}

func isSearch(r *http.Request) bool { return r.URL.Path == "/search" }
func isDetail(r *http.Request) bool { return r.URL.Path == "/maps/preview/place" }

func nid(r *http.Request) string {
	c, err := r.Cookie("NID")
	if err != nil {
		return ""
	}
	return c.Value
}

func number(r *http.Request, pattern string) int {
	m := regexp.MustCompile(pattern).FindStringSubmatch(r.URL.Query().Get("pb"))
	if m == nil {
		return 0
	}
	n, _ := strconv.Atoi(m[1])
	return n
}

// makePlaces spreads n places around the center.
func makePlaces(n int, center gmaps.Point) []gmaps.Place {
	places := make([]gmaps.Place, n)
	for i := range places {
		places[i] = gmaps.Place{
			DataID: fmt.Sprintf("0x%x:0x%x", 0x1000+i, 0xa000+i), Title: fmt.Sprint("Place ", i), Categories: []string{"Cafe"},
			FormattedAddress: fmt.Sprintf("Place %d, %d Main St, Town", i, i), Rating: 4.5, ReviewCount: 10 + i, Website: "https://example.com/" + fmt.Sprint(i),
			Location: &gmaps.Point{Lat: center.Lat + float64(i)*1e-4, Lng: center.Lng},
		}
	}
	return places
}

func slots(at map[int]any) []any {
	last := 0
	for i := range at {
		last = max(last, i)
	}
	list := make([]any, last+1)
	for i, v := range at {
		list[i] = v
	}
	return list
}

func body(p gmaps.Place) []any {
	at := map[int]any{
		4:  slots(map[int]any{7: p.Rating, 8: nilIfZero(p.ReviewCount)}),
		10: p.DataID, 11: p.Title, 13: p.Categories, 18: p.FormattedAddress, 30: "Europe/Athens",
		78: "", 243: "GR",
		183: []any{nil, []any{nil, "Main St", "Main St", p.AddressParts.City, "", "", "GR"}},
	}
	if p.Location != nil {
		at[9] = []any{nil, nil, p.Location.Lat, p.Location.Lng}
	}
	if p.Website != "" {
		at[7] = []any{p.Website}
	}
	if p.Owner.Name != "" {
		at[57] = []any{nil, p.Owner.Name, "1"}
	}
	return slots(at)
}

func nilIfZero(n int) any {
	if n == 0 {
		return nil
	}
	return n
}

func searchPayload(places []gmaps.Place) any {
	list := []any{[]any{"header"}}
	for _, p := range places {
		list = append(list, slots(map[int]any{14: body(p)}))
	}
	return []any{[]any{"query", list}}
}

func placePayload(p gmaps.Place) any { return slots(map[int]any{6: body(p)}) }

func writeJSON(w http.ResponseWriter, payload any) {
	b, err := json.Marshal(payload)
	if err != nil {
		panic(err)
	}
	w.Header().Set("Content-Type", "application/json; charset=UTF-8")
	_, _ = fmt.Fprintf(w, ")]}'\n%s", b)
}
