package web_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"mime/multipart"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/html"

	"gmaps-scraper/api"
	"gmaps-scraper/export"
	"gmaps-scraper/gmaps"
	"gmaps-scraper/job"
	"gmaps-scraper/manager/web"
)

func someJob(state job.State) job.Job {
	at := time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
	j := job.Job{
		ID: "j1", State: state, CreatedAt: at, StartedAt: at.Add(time.Second), UpdatedAt: at,
		Spec:   job.Spec{Name: "coffee in Athens", Inputs: []job.Input{{Text: "coffee in Athens"}}, Lang: "en", Detail: gmaps.DetailAuto, MaxWorkers: 2, Priority: 3},
		Counts: job.Counts{Tasks: 8, Open: 2, Leased: 2, Done: 3, Dead: 1, Places: 12345, Duplicates: 7, Spawns: 2},
	}
	if state.Terminal() {
		j.EndedAt, j.Partial = at.Add(90*time.Second), true
	}
	return j
}

func TestJobsPageListsJobs(t *testing.T) {
	t.Parallel()
	waiting := someJob(job.Pending)
	waiting.ID, waiting.Waiting = "j2", "image not found: make image"
	m := &manager{
		jobs: []job.Job{someJob(job.Running), waiting}, next: "j2",
		stats: api.Stats{Jobs: map[job.State]int{job.Running: 4}, Spawns: map[job.SpawnState]int{job.SpawnRunning: 2, job.SpawnPending: 1, job.SpawnEnded: 50}, Results: 1234567, Breaker: "three creates failed"},
	}
	d := get(t, openDashboard(t, m), "/?state=running&state=pending&state=nonsense&search=coffee+%26+tea&before=j9")
	d.wants(t, "coffee in Athens", "running 4", "50%", "12,345", "waits: image not found: make image", "1,234,567", "Live workers 3", "three creates failed", "v1.2.3", "workers: process")
	d.links(t, "a", "href", "/jobs/j1", "/jobs/new", "/?search=coffee+%26+tea&state=pending", "/?before=j2&search=coffee+%26+tea&state=running&state=pending", "/?search=coffee+%26+tea&state=running&state=pending")
	if !m.askedFor("GET /api/v1/jobs?before=j9&limit=50&search=coffee+%26+tea&state=running&state=pending") {
		t.Errorf("asked %q", m.asked)
	}
	if n := d.find("progress", "value", "50"); len(n) != 2 {
		t.Errorf("got %d progress bars at 50, want 2", len(n))
	}
}

func TestEmptyListsSayWhatToDo(t *testing.T) {
	t.Parallel()
	h := openDashboard(t, &manager{})
	get(t, h, "/").wants(t, "There is no job yet", "Make the first one")
	get(t, h, "/?search=x").wants(t, "No job matches", "Show all jobs")
}

func TestJobPageShowsAllOfAJob(t *testing.T) {
	t.Parallel()
	zero, killed := 0, 137
	at := time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
	m := &manager{
		jobs: []job.Job{someJob(job.Running)},
		spawns: []job.Spawn{
			{ID: "s1", Backend: "process", State: job.SpawnEnded, Outcome: job.Exited, ExitCode: &zero, CreatedAt: at, EndedAt: at.Add(time.Minute), LogTail: "worker started\nworker ended"},
			{ID: "s2", Backend: "process", State: job.SpawnEnded, Outcome: job.NeverLeased, ExitCode: &killed, Reason: "out of memory: give it more", CreatedAt: at, EndedAt: at},
			{ID: "s3", Backend: "process", State: job.SpawnRunning, CreatedAt: at},
		},
		events: []job.Event{{ID: 1, At: at, Kind: job.EventCreated, Text: "8 tasks"}, {ID: 2, At: at, Kind: job.EventSpawnFailed, Text: "no image"}},
		tasks: []job.Task{
			{ID: 4, State: job.TaskDead, Query: gmaps.Query{Keyword: "tea in Athens"}, Attempts: 3, Crashes: 2, Error: "google refused (captcha)", Cell: &job.Box{MinLat: 1.5, MinLng: 2}},
			{ID: 5, State: job.TaskDead, Query: gmaps.Query{Place: &gmaps.PlaceRef{DataID: "0x1:0x2"}}, Attempts: 3, Error: "moved"},
		},
		next: "77",
	}
	d := get(t, openDashboard(t, m), "/jobs/j1")
	d.wants(t, "coffee in Athens", "50%", "12,345", "Found again 7", "exit code 0", "exit code 137", "never leased", "out of memory: give it more", "worker started worker ended",
		"spawn failed no image", "tea in Athens", "google refused (captcha)", "its worker died 2 times", "0x1:0x2", "2026-05-01 12:00:00 UTC", "The end of its log is kept", "These are the first 100")
	d.links(t, "form", "action", "/jobs/j1/pause", "/jobs/j1/cancel")
	d.links(t, "a", "href", "/jobs/j1/results", "/jobs/j1?events=77#timeline")
	for _, f := range export.Formats() {
		d.links(t, "a", "href", "/api/v1/jobs/j1/export?format="+f)
	}
	d.links(t, "div", "data-stream", "/api/v1/jobs/j1/stream")
	for _, absent := range []string{"/jobs/j1/resume", "/jobs/j1/delete", "/jobs/j1/retry"} {
		if len(d.find("form", "action", absent)) != 0 {
			t.Errorf("a running job offers %s", absent)
		}
	}
}

func TestJobPageShowsWhatWorkersCost(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
	j := someJob(job.Running)
	m := &manager{jobs: []job.Job{j}, spawns: []job.Spawn{{ID: "s1", Backend: "process", State: job.SpawnEnded, Outcome: job.Exited, CreatedAt: at, EndedAt: at}}}
	if d := get(t, openDashboard(t, m), "/jobs/j1"); strings.Contains(d.raw, "USD") || strings.Contains(d.raw, "may run until") {
		t.Error("a backend without a price has costs")
	}
	m.jobs[0].CostUSD = 12.345
	m.spawns = []job.Spawn{
		{ID: "s1", Backend: "lambda", State: job.SpawnEnded, Outcome: job.Exited, CreatedAt: at, EndedAt: at, CostUSD: 0.00123},
		{ID: "s2", Backend: "lambda", State: job.SpawnEnded, Outcome: job.Silent, CreatedAt: at, EndedAt: at, CostUSD: 0.00000001, MayRunUntil: at.Add(time.Minute)},
	}
	get(t, openDashboard(t, m), "/jobs/j1").wants(t, "Cost of workers 12.35 USD", "cost 0.0012 USD", "cost less than 0.0001 USD", "may run until 2026-05-01 12:01:00 UTC")
}

func TestJobPageOffersWhatTheStateAllows(t *testing.T) {
	t.Parallel()
	for state, offers := range map[job.State][]string{
		job.Pending: {"pause", "cancel"}, job.Running: {"pause", "cancel"}, job.Paused: {"resume", "cancel"},
		job.Succeeded: {"retry", "delete"}, job.Failed: {"retry", "delete"}, job.Cancelled: {"retry", "delete"},
	} {
		d := get(t, openDashboard(t, &manager{jobs: []job.Job{someJob(state)}}), "/jobs/j1")
		for _, action := range []string{"pause", "cancel", "resume", "retry", "delete"} {
			got, want := len(d.find("form", "action", "/jobs/j1/"+action)) > 0, slices.Contains(offers, action)
			if got != want {
				t.Errorf("%s job: offers %s is %t, want %t", state, action, got, want)
			}
		}
		if live := len(d.find("div", "data-stream", "/api/v1/jobs/j1/stream")) > 0; live == state.Terminal() {
			t.Errorf("%s job: follows the stream is %t", state, live)
		}
	}
}

func TestActionsCallTheAPIAndLeadBack(t *testing.T) {
	t.Parallel()
	for action, call := range map[string]string{
		"cancel": "POST /api/v1/jobs/j1/cancel", "pause": "POST /api/v1/jobs/j1/pause", "resume": "POST /api/v1/jobs/j1/resume",
		"retry": "POST /api/v1/jobs/j1/retry", "delete": "DELETE /api/v1/jobs/j1",
	} {
		m := &manager{jobs: []job.Job{someJob(job.Running)}}
		d := post(t, openDashboard(t, m), "/jobs/j1/"+action, nil)
		where := "/jobs/j1"
		if action == "delete" {
			where = "/"
		}
		if d.status != http.StatusSeeOther || d.header.Get("Location") != where || !m.askedFor(call) {
			t.Errorf("%s: %d to %q, asked %q", action, d.status, d.header.Get("Location"), m.asked)
		}
	}
	m := &manager{jobs: []job.Job{someJob(job.Succeeded)}, refuse: &api.Problem{Title: "Conflict", Status: 409, Detail: "not possible in the job's state"}}
	h := openDashboard(t, m)
	d := post(t, h, "/jobs/j1/pause", nil)
	if d.status != http.StatusConflict {
		t.Errorf("pause of an ended job: status %d, want 409", d.status)
	}
	d.wants(t, "not possible in the job's state", "coffee in Athens")
	if d := post(t, h, "/jobs/j1/explode", nil); d.status != http.StatusNotFound {
		t.Errorf("unknown action: status %d", d.status)
	}
	if d := get(t, h, "/jobs/j1/cancel"); d.status == http.StatusOK || m.askedFor("POST /api/v1/jobs/j1/cancel") {
		t.Error("a GET cancels a job")
	}
}

func TestNewJobFormSendsAllItsFields(t *testing.T) {
	t.Parallel()
	m := &manager{}
	h := openDashboard(t, m)
	d := get(t, h, "/jobs/new")
	key := attr(d.find("input", "name", "key")[0], "value")
	d = post(t, h, "/jobs", url.Values{
		"key": {key}, "name": {"my job"}, "lines": {"coffee #!# id-1\r\n# not this\r\n\r\ntea"}, "lang": {"el"}, "country": {"gr"}, "where": {"box"},
		"min_lat": {"34,5"}, "min_lng": {"33"}, "max_lat": {"34.7"}, "max_lng": {"33.1"}, "cell_meters": {"500"}, "zoom": {"15"}, "strict": {"1"}, "depth": {"3"}, "detail": {"always"},
		"extra_reviews": {"1"}, "max_reviews": {"40"}, "priority": {"7"}, "max_results": {"100"}, "max_time": {"30m"}, "max_workers": {"4"}, "lat": {"this is not read"},
	})
	if d.status != http.StatusSeeOther || d.header.Get("Location") != "/jobs/new-job" {
		t.Fatalf("got %d to %q: %s", d.status, d.header.Get("Location"), d.raw)
	}
	got, err := json.Marshal(m.created[0])
	if err != nil {
		t.Fatal(err)
	}
	want := `{"name":"my job","inputs":[{"text":"coffee","id":"id-1"},{"text":"tea"}],"lang":"el","country":"GR","area":{"zoom":15,"box":{"min_lat":34.5,"min_lng":33,"max_lat":34.7,"max_lng":33.1},"cell_meters":500,"strict":true},` +
		`"depth":3,"detail":"always","extra_reviews":true,"max_reviews":40,"priority":7,"max_results":100,"max_time":"30m","max_workers":4}`
	if string(got) != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if m.keys[0] != key || len(key) < 16 {
		t.Errorf("idempotency key %q, form had %q", m.keys[0], key)
	}
	post(t, h, "/jobs", url.Values{"lines": {"x"}, "where": {"point"}, "lat": {"1"}, "lng": {"2"}, "radius_meters": {"300"}})
	if c := m.created[1].Area.Center; c == nil || *c != (gmaps.Point{Lat: 1, Lng: 2}) || m.created[1].Area.RadiusMeters != 300 {
		t.Errorf("got %+v", m.created[1].Area)
	}
}

// fault returns the words beside a field.
func (d document) fault(field string) string {
	for n := range d.root.Descendants() {
		if n.Type != html.ElementNode || attr(n, "name") != field {
			continue
		}
		for label := range n.Ancestors() {
			if label.Data != "label" {
				continue
			}
			for e := range label.Descendants() {
				if attr(e, "class") == "error" {
					return e.FirstChild.Data
				}
			}
		}
	}
	return ""
}

func TestNewJobFormShowsErrorsBesideTheirFieldsAndKeepsTheInput(t *testing.T) {
	t.Parallel()
	m := &manager{}
	h := openDashboard(t, m)
	d := post(t, h, "/jobs", url.Values{"lines": {""}, "depth": {"many"}, "where": {"point"}, "lat": {"north"}, "lng": {""}, "max_time": {"30m"}})
	if d.status != http.StatusUnprocessableEntity || len(m.created) != 0 {
		t.Fatalf("status %d, %d jobs made", d.status, len(m.created))
	}
	for field, want := range map[string]string{
		"lines": "Give at least one search", "depth": `"many" is not a whole number`, "lat": `"north" is not a number`, "lng": "This is needed", "max_time": "",
	} {
		if got := d.fault(field); !strings.Contains(got, want) || want == "" && got != "" {
			t.Errorf("%s: says %q, want %q", field, got, want)
		}
	}
	for name, value := range map[string]string{"depth": "many", "lat": "north", "max_time": "30m"} {
		if got := attr(d.find("input", "name", name)[0], "value"); got != value {
			t.Errorf("%s: kept %q, want %q", name, got, value)
		}
	}
	if got := d.fault("depth"); got == "" || attr(d.find("input", "name", "depth")[0], "aria-invalid") != "true" {
		t.Error("the field with the error is not marked")
	}

	m.refuse = &api.Problem{Title: "Unprocessable Entity", Status: 422, Errors: []api.ProblemField{
		{Location: "body.area.zoom", Message: "99 is not between 1 and 21"}, {Location: "body.priority", Message: "expected number <= 10"},
		{Location: "body.inputs[1]", Message: "the query is empty"}, {Location: "body.area.box", Message: "is empty"}, {Location: "body.engine", Message: "not known"},
	}}
	d = post(t, h, "/jobs", url.Values{"key": {"k1"}, "lines": {"coffee <b>&amp;"}, "zoom": {"99"}})
	for field, want := range map[string]string{"zoom": "99 is not between", "priority": "<= 10", "lines": "is empty", "min_lat": "is empty"} {
		if got := d.fault(field); !strings.Contains(got, want) {
			t.Errorf("%s: says %q, want %q", field, got, want)
		}
	}
	d.wants(t, "body.engine: not known", "coffee <b>&amp;")
	if key := attr(d.find("input", "name", "key")[0], "value"); key == "k1" {
		t.Error("a refused form keeps its key: the corrected one would be refused as another request")
	}

	m.refuse = &api.Problem{Title: "Service Unavailable", Status: 503}
	d = post(t, h, "/jobs", url.Values{"key": {"k2"}, "lines": {"coffee"}})
	d.wants(t, "The database cannot answer now", "coffee")
	if key := attr(d.find("input", "name", "key")[0], "value"); key != "k2" || d.status != 503 {
		t.Errorf("status %d, key %q: a job may have been made, so that the key must stay", d.status, key)
	}
}

// upload posts a file.
func upload(t *testing.T, h http.Handler, lines string, file []byte) document {
	t.Helper()
	var b bytes.Buffer
	form := multipart.NewWriter(&b)
	_ = form.WriteField("lines", lines)
	part, err := form.CreateFormFile("file", "queries.txt")
	if err != nil {
		t.Fatal(err)
	}
	_, _ = part.Write(file)
	if err := form.Close(); err != nil {
		t.Fatal(err)
	}
	r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/jobs", &b)
	r.Header.Set("Content-Type", form.FormDataContentType())
	return serve(t, h, r)
}

func TestNewJobFormTakesAFile(t *testing.T) {
	t.Parallel()
	m := &manager{}
	h := openDashboard(t, m)
	if d := upload(t, h, "one", []byte("\xef\xbb\xbftwo\r\nthree #!# 3\r\n")); d.status != http.StatusSeeOther {
		t.Fatalf("status %d: %s", d.status, d.raw)
	}
	if got := fmt.Sprint(m.created[0].Inputs); got != "[{one } {two } {three 3}]" {
		t.Errorf("got %s", got)
	}
	d := upload(t, h, "", []byte("good\nbad \xff line\n"))
	if got := d.fault("file"); !strings.Contains(got, "queries.txt") || !strings.Contains(got, "line 2") || !strings.Contains(got, "UTF-8") {
		t.Errorf("broken UTF-8: says %q", got)
	}
	if d := upload(t, h, "", bytes.Repeat([]byte("0123456789\n"), 25<<20/11)); d.status != http.StatusRequestEntityTooLarge {
		t.Errorf("25 MB: status %d, want 413", d.status)
	}
	m.refuse = &api.Problem{Title: "Unprocessable Entity", Status: 422, Errors: []api.ProblemField{{Location: "body.lang", Message: "is no language"}}}
	upload(t, h, "", []byte("kept line")).wants(t, "kept line", "is no language")
	upload(t, h, "", bytes.Repeat([]byte("0123456789\n"), 1<<20/11)).wants(t, "is no language")
}

func TestResultsPage(t *testing.T) {
	t.Parallel()
	m := &manager{jobs: []job.Job{someJob(job.Running)}, next: "42", results: []job.Result{
		{Seq: 41, Place: gmaps.Place{Title: "Sun Café", Link: "https://www.google.com/maps?cid=1", Categories: []string{"Coffee shop"}, Rating: 4.5, ReviewCount: 1234, Address: "Main 1", Phone: "+357 25 1", Website: "https://sun.example/x", Domain: "sun.example", Closed: gmaps.ClosedTemporarily}},
		{Seq: 42, Place: gmaps.Place{DataID: "0x1:0x2"}},
	}}
	h := openDashboard(t, m)
	d := get(t, h, "/jobs/j1/results?search=sun&city=Limassol&min_rating=4%2C5&website=true&phone=false&country=cy&after=7")
	d.wants(t, "Sun Café", "4.5", "1,234", "Coffee shop", "sun.example", "closed temporarily", "0x1:0x2", "and more are coming")
	d.links(t, "a", "href", "https://www.google.com/maps?cid=1", "https://sun.example/x")
	if !m.askedFor("GET /api/v1/jobs/j1/results?after=7&city=Limassol&country=CY&limit=100&min_rating=4.5&phone=false&search=sun&website=true") {
		t.Errorf("asked %q", m.asked)
	}
	d.links(t, "a", "href", "/jobs/j1/results?after=42&city=Limassol&country=cy&min_rating=4%2C5&phone=false&search=sun&website=true")
	if len(d.find("option", "selected", "")) == 0 || attr(d.find("input", "name", "search")[0], "value") != "sun" {
		t.Error("the filter is not kept")
	}
	for _, bad := range []string{"min_rating=9", "min_rating=x", "after=x", "after=-1"} {
		if d := get(t, h, "/jobs/j1/results?"+bad); d.status != http.StatusUnprocessableEntity {
			t.Errorf("%s: status %d, want 422", bad, d.status)
		}
	}
	m.results, m.next = nil, ""
	get(t, h, "/jobs/j1/results").wants(t, "No place was found yet")
	get(t, h, "/jobs/j1/results?search=x").wants(t, "No place matches")
}

func TestHostileTextIsShownAndNotRun(t *testing.T) {
	t.Parallel()
	const evil = `</title><script>alert(1)</script>"'><img src=x onerror=alert(1)>{{.}}`
	j := someJob(job.Failed)
	j.Spec.Name, j.Waiting, j.Reason, j.Spec.Inputs = evil, evil, evil, []job.Input{{Text: evil, ID: evil}}
	m := &manager{
		jobs: []job.Job{j}, stats: api.Stats{Breaker: evil},
		spawns: []job.Spawn{{ID: evil, Backend: evil, State: evil, Outcome: evil, Reason: evil, LogTail: evil, ExternalID: evil}},
		events: []job.Event{{Kind: evil, Text: evil}},
		tasks:  []job.Task{{Query: gmaps.Query{Keyword: evil}, Error: evil}},
		results: []job.Result{{Place: gmaps.Place{
			Title: evil, Link: "javascript:alert(1)", Website: "javascript:alert(1)", Domain: evil, Address: evil, Phone: evil, Categories: []string{evil}, Closed: evil,
		}}},
	}
	h := openDashboard(t, m)
	q := url.QueryEscape(evil)
	for _, target := range []string{"/?evil=1&search=" + q, "/jobs/j1?evil=1", "/jobs/j1/results?evil=1&search=" + q + "&city=" + q, "/login?evil=1&next=" + q, "/jobs/new?evil=1"} {
		d := get(t, h, target) // checkPage finds scripts and handlers
		if d.status != http.StatusOK {
			t.Errorf("%s: status %d", target, d.status)
		}
		if strings.Contains(d.raw, "<script>alert") || strings.Contains(d.raw, "<img src=x") {
			t.Errorf("%s: the text came through as markup", target)
		}
	}
	get(t, h, "/jobs/j1?evil=1").wants(t, "<script>alert(1)</script>")
	d := post(t, h, "/jobs?evil=1", url.Values{"lines": {evil + "\x00"}, "name": {evil}, "zoom": {evil}})
	d.wants(t, "control character", "<script>alert(1)</script>")
}

func TestErrorsAreSaidInWordsWithTheMend(t *testing.T) {
	t.Parallel()
	m := &manager{}
	h := openDashboard(t, m)
	if d := get(t, h, "/jobs/none"); d.status != http.StatusNotFound {
		t.Errorf("status %d, want 404", d.status)
	} else {
		d.wants(t, "There is no such job", "All jobs")
	}
	if d := get(t, h, "/nonsense"); d.status != http.StatusNotFound {
		t.Errorf("status %d, want 404", d.status)
	}
	m.fail = &api.Problem{Title: "Service Unavailable", Status: 503}
	for _, target := range []string{"/", "/jobs/j1", "/jobs/j1/results"} {
		d := get(t, h, target)
		if d.status != http.StatusServiceUnavailable {
			t.Errorf("%s: status %d, want 503", target, d.status)
		}
		d.wants(t, "The database cannot answer now")
	}
	m.fail = &api.Problem{Title: "Unprocessable Entity", Status: 422, Detail: "the request is not valid"}
	get(t, h, "/?search=x").wants(t, "the request is not valid")
}

func TestLoginKeepsWhereToGo(t *testing.T) {
	t.Parallel()
	h := openDashboard(t, &manager{})
	d := get(t, h, "/login?error=1&next=%2Fjobs%2Fj1%3Fa%3Db")
	d.wants(t, "This key is not right")
	if got := attr(d.find("input", "name", "next")[0], "value"); got != "/jobs/j1?a=b" {
		t.Errorf("next is %q", got)
	}
	d.links(t, "form", "action", "/login")
	if len(d.find("form", "action", "/logout")) != 0 {
		t.Error("the login page offers to log out")
	}
}

func TestStaticFilesAreServedAndCached(t *testing.T) {
	t.Parallel()
	h := openDashboard(t, &manager{jobs: []job.Job{someJob(job.Running)}})
	d := get(t, h, "/jobs/j1")
	for n := range d.root.Descendants() {
		target := attr(n, "href")
		if n.Data == "script" || n.Data == "img" {
			target = attr(n, "src")
		}
		if !strings.HasPrefix(target, "/static/") {
			continue
		}
		got := get(t, h, target)
		if got.status != http.StatusOK || !strings.Contains(got.header.Get("Cache-Control"), "immutable") {
			t.Errorf("%s: status %d, cache %q", target, got.status, got.header.Get("Cache-Control"))
		}
	}
	for _, target := range []string{"/static/", "/static/none.css"} {
		if got := get(t, h, target); got.status != http.StatusNotFound {
			t.Errorf("%s: status %d, want 404", target, got.status)
		}
	}
}

func TestNewNeedsAClient(t *testing.T) {
	t.Parallel()
	if _, err := web.New(web.Config{}); err == nil {
		t.Error("a dashboard without an API was made")
	}
}
