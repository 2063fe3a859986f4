package web_test

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"

	"golang.org/x/net/html"

	"gmaps-scraper/api"
	"gmaps-scraper/job"
	"gmaps-scraper/manager/web"
)

// manager speaks the API's wire with what it is given, and remembers what it was asked.
type manager struct {
	mu      sync.Mutex
	jobs    []job.Job
	spawns  []job.Spawn
	events  []job.Event
	tasks   []job.Task
	results []job.Result
	next    string       // of every page
	stats   api.Stats    // of GET /stats
	refuse  *api.Problem // of every POST and DELETE
	fail    *api.Problem // of every GET
	asked   []string     // "METHOD path?query"
	created []api.NewJob
	keys    []string
}

func (m *manager) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.asked = append(m.asked, r.Method+" "+r.URL.RequestURI())
	problem := m.fail
	if r.Method != http.MethodGet {
		problem = m.refuse
	}
	if problem != nil {
		answer(w, "application/problem+json", problem.Status, problem)
		return
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+api.PathJobs, func(w http.ResponseWriter, _ *http.Request) { answerOK(w, api.JobPage{Jobs: m.jobs, Next: m.next}) })
	mux.HandleFunc("POST "+api.PathJobs, func(w http.ResponseWriter, r *http.Request) {
		var n api.NewJob
		if err := json.NewDecoder(r.Body).Decode(&n); err != nil {
			answer(w, "application/problem+json", 400, api.Problem{Title: err.Error(), Status: 400})
			return
		}
		m.created, m.keys = append(m.created, n), append(m.keys, r.Header.Get(api.HeaderIdempotencyKey))
		answer(w, "application/json", http.StatusCreated, job.Job{ID: "new-job"})
	})
	mux.HandleFunc("GET "+api.PathJob, func(w http.ResponseWriter, r *http.Request) {
		i := slices.IndexFunc(m.jobs, func(j job.Job) bool { return string(j.ID) == r.PathValue("id") })
		if i < 0 {
			answer(w, "application/problem+json", 404, api.Problem{Title: "Not Found", Status: 404})
			return
		}
		answerOK(w, m.jobs[i])
	})
	mux.HandleFunc("DELETE "+api.PathJob, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) })
	mux.HandleFunc("POST "+api.PathJob+"/{action}", func(w http.ResponseWriter, _ *http.Request) { answerOK(w, job.Job{}) })
	mux.HandleFunc("GET "+api.PathTasks, func(w http.ResponseWriter, _ *http.Request) { answerOK(w, api.TaskPage{Tasks: m.tasks, Next: m.next}) })
	mux.HandleFunc("GET "+api.PathEvents, func(w http.ResponseWriter, _ *http.Request) {
		answerOK(w, api.EventPage{Events: m.events, Next: m.next})
	})
	mux.HandleFunc("GET "+api.PathSpawns, func(w http.ResponseWriter, _ *http.Request) {
		answerOK(w, api.SpawnPage{Spawns: m.spawns, Next: m.next})
	})
	mux.HandleFunc("GET "+api.PathResults, func(w http.ResponseWriter, _ *http.Request) {
		answerOK(w, api.ResultPage{Results: m.results, Next: m.next})
	})
	mux.HandleFunc("GET "+api.PathStats, func(w http.ResponseWriter, _ *http.Request) { answerOK(w, m.stats) })
	mux.ServeHTTP(w, r)
}

func answerOK(w http.ResponseWriter, v any) { answer(w, "application/json", http.StatusOK, v) }

func answer(w http.ResponseWriter, kind string, status int, v any) {
	w.Header().Set("Content-Type", kind)
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v)
}

func (m *manager) askedFor(prefix string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.ContainsFunc(m.asked, func(s string) bool { return strings.HasPrefix(s, prefix) })
}

// openDashboard returns a dashboard over m.
func openDashboard(t *testing.T, m *manager) http.Handler {
	t.Helper()
	client, err := api.NewClient("http://manager", "", api.InProcess(m))
	if err != nil {
		t.Fatal(err)
	}
	h, err := web.New(web.Config{API: client, Version: "v1.2.3", Backend: "process"})
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// document is a page that was parsed.
type document struct {
	status int
	header http.Header
	raw    string
	root   *html.Node
}

func get(t *testing.T, h http.Handler, target string) document {
	t.Helper()
	return serve(t, h, httptest.NewRequestWithContext(t.Context(), http.MethodGet, target, nil))
}

func post(t *testing.T, h http.Handler, target string, form url.Values) document {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, target, strings.NewReader(form.Encode()))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	return serve(t, h, r)
}

// serve answers a request and holds every page to what all pages must keep.
func serve(t *testing.T, h http.Handler, r *http.Request) document {
	t.Helper()
	rec := httptest.NewRecorder()
	h.ServeHTTP(rec, r)
	res := rec.Result()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	d := document{status: res.StatusCode, header: res.Header, raw: string(b)}
	if !strings.HasPrefix(res.Header.Get("Content-Type"), "text/html") || len(b) == 0 || res.StatusCode == http.StatusSeeOther {
		return d
	}
	if d.root, err = html.Parse(bytes.NewReader(b)); err != nil {
		t.Fatal(err)
	}
	checkPage(t, r.URL.String(), d)
	return d
}

// checkPage: no script but ours, no style or handler inline, nothing from elsewhere, one main heading, ids once, fields with labels.
func checkPage(t *testing.T, target string, d document) {
	t.Helper()
	if csp := d.header.Get("Content-Security-Policy"); !strings.Contains(csp, "default-src 'none'") || strings.Contains(csp, "unsafe") {
		t.Errorf("%s: content security policy %q", target, csp)
	}
	headings, ids := 0, map[string]bool{}
	for n := range d.root.Descendants() {
		if n.Type != html.ElementNode {
			continue
		}
		switch n.Data {
		case "h1":
			headings++
		case "script":
			if n.FirstChild != nil || !strings.HasPrefix(attr(n, "src"), "/static/live.js") {
				t.Errorf("%s: a script that is not ours: %s", target, attr(n, "src"))
			}
		case "style", "iframe", "object":
			t.Errorf("%s: has a <%s>", target, n.Data)
		case "img", "link":
			if src := attr(n, "src") + attr(n, "href"); !strings.HasPrefix(src, "/static/") {
				t.Errorf("%s: loads %s", target, src)
			}
		case "input", "select", "textarea":
			if attr(n, "type") != "hidden" && !inside(n, "label") {
				t.Errorf("%s: field %s has no label", target, attr(n, "name"))
			}
		}
		for _, a := range n.Attr {
			if strings.HasPrefix(a.Key, "on") || a.Key == "style" {
				t.Errorf("%s: <%s> has the attribute %s", target, n.Data, a.Key)
			}
			if (a.Key == "href" || a.Key == "action" || a.Key == "src") && strings.Contains(strings.ToLower(a.Val), "javascript:") {
				t.Errorf("%s: <%s %s=%q>", target, n.Data, a.Key, a.Val)
			}
			if a.Key == "id" {
				if ids[a.Val] {
					t.Errorf("%s: id %s twice", target, a.Val)
				}
				ids[a.Val] = true
			}
		}
	}
	if headings != 1 {
		t.Errorf("%s: %d main headings, want 1", target, headings)
	}
	if strings.Contains(d.raw, "ZgotmplZ") && !strings.Contains(target, "evil") {
		t.Errorf("%s: the template engine refused a value", target)
	}
}

func attr(n *html.Node, name string) string {
	for _, a := range n.Attr {
		if a.Key == name {
			return a.Val
		}
	}
	return ""
}

func inside(n *html.Node, tag string) bool {
	for p := range n.Ancestors() {
		if p.Data == tag {
			return true
		}
	}
	return false
}

// text is all that a person reads.
func (d document) text() string {
	var b strings.Builder
	for n := range d.root.Descendants() {
		if n.Type == html.TextNode && n.Parent.Data != "noscript" {
			b.WriteString(n.Data)
			b.WriteByte(' ')
		}
	}
	return strings.Join(strings.Fields(b.String()), " ")
}

// find returns the elements of a tag for which an attribute has a value.
func (d document) find(tag, key, value string) []*html.Node {
	var found []*html.Node
	for n := range d.root.Descendants() {
		if n.Type == html.ElementNode && n.Data == tag && attr(n, key) == value {
			found = append(found, n)
		}
	}
	return found
}

func (d document) wants(t *testing.T, texts ...string) {
	t.Helper()
	all := d.text()
	for _, s := range texts {
		if !strings.Contains(all, s) {
			t.Errorf("the page does not say %q; it says %q", s, all)
		}
	}
}

func (d document) links(t *testing.T, tag, key string, targets ...string) {
	t.Helper()
	for _, target := range targets {
		if len(d.find(tag, key, target)) == 0 {
			t.Errorf("the page has no <%s %s=%q>", tag, key, target)
		}
	}
}
