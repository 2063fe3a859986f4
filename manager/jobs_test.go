package manager_test

import (
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"gmaps-scraper/api"
	"gmaps-scraper/job"
	"gmaps-scraper/store"
)

func TestCreateStoresTheJobThenRings(t *testing.T) {
	t.Parallel()
	r := newRig(t, openStore(t))
	ring := r.bell.Next()
	a := r.do("POST", api.PathJobs, `{"name":"Cafés","lines":"# none\ncoffee in Limassol #!# c1\n\ntea in Paphos","inputs":[{"text":"bars"}],"priority":3,"max_time":"10m"}`)
	if a.status != http.StatusCreated {
		t.Fatalf("status %d, body %s", a.status, a.body)
	}
	select {
	case <-ring:
	default:
		t.Error("the bell was not rung")
	}
	var created job.Job
	if err := json.Unmarshal(a.body, &created); err != nil {
		t.Fatal(err)
	}
	if got, want := a.header.Get("Location"), "/api/v1/jobs/"+string(created.ID); got != want {
		t.Errorf("Location is %q, want %q", got, want)
	}
	var got job.Job
	if err := json.Unmarshal(r.do(http.MethodGet, "/api/v1/jobs/"+string(created.ID)+"?inputs=true", "").body, &got); err != nil {
		t.Fatal(err)
	}
	want := []job.Input{{Text: "bars"}, {Text: "coffee in Limassol", ID: "c1"}, {Text: "tea in Paphos"}}
	if diff := cmp.Diff(want, got.Spec.Inputs); diff != "" {
		t.Errorf("inputs (-want +got):\n%s", diff)
	}
	if got.State != job.Pending || got.Counts.Tasks != 3 || got.Spec.Priority != 3 || got.Spec.MaxTime != job.Duration(10*time.Minute) {
		t.Errorf("job is %+v", got)
	}
}

func TestSameIdempotencyKeyMakesOneJob(t *testing.T) {
	t.Parallel()
	r := newRig(t, openStore(t))
	key := header(api.HeaderIdempotencyKey, "order-1")
	first := r.do("POST", api.PathJobs, `{"lines":"coffee","priority":1}`, key)
	again := r.do("POST", api.PathJobs, ` { "priority":1, "lines":"coffee"}`, key)
	if first.status != http.StatusCreated || again.status != http.StatusOK || again.header.Get("Idempotency-Replayed") != "true" {
		t.Fatalf("statuses %d and %d, replayed %q", first.status, again.status, again.header.Get("Idempotency-Replayed"))
	}
	if first.header.Get("Location") != again.header.Get("Location") {
		t.Error("the repeat names another job")
	}
	other := r.do("POST", api.PathJobs, `{"lines":"tea"}`, key)
	if p := other.problem(t); other.status != http.StatusUnprocessableEntity || !strings.Contains(p.Detail, "Idempotency-Key") {
		t.Errorf("another body under the key: %d %s", other.status, p.Detail)
	}
	page, err := r.client(testKey).Jobs(t.Context(), api.JobQuery{})
	if err != nil || len(page.Jobs) != 1 {
		t.Errorf("%d jobs, err %v; want 1", len(page.Jobs), err)
	}
}

func TestWrongRequestsNameTheField(t *testing.T) {
	t.Parallel()
	r := newRig(t, openStore(t))
	long := strings.Repeat("x", 10_000)
	for name, c := range map[string]struct {
		method, path, body string
		status             int
		location, message  string
	}{
		"no inputs":              {"POST", api.PathJobs, `{}`, 422, "body.inputs", "empty"},
		"zoom":                   {"POST", api.PathJobs, `{"lines":"x","area":{"center":{"lat":1,"lng":2},"zoom":40}}`, 422, "body.area.zoom", "40"},
		"box":                    {"POST", api.PathJobs, `{"lines":"x","area":{"box":{"min_lat":3,"max_lat":1,"min_lng":1,"max_lng":2}}}`, 422, "body.area.box", "min_lat"},
		"depth":                  {"POST", api.PathJobs, `{"lines":"x","depth":501}`, 422, "body.depth", "500"},
		"max_time":               {"POST", api.PathJobs, `{"lines":"x","max_time":"soon"}`, 422, "body.max_time", "duration"},
		"unknown field":          {"POST", api.PathJobs, `{"lines":"x","keyword":"y"}`, 422, "body.keyword", "unexpected"},
		"wrong type":             {"POST", api.PathJobs, `{"lines":7}`, 422, "body.lines", "string"},
		"no JSON":                {"POST", api.PathJobs, `{`, 400, "body", "JSON"},
		"no body":                {"POST", api.PathJobs, ``, 400, "", ""},
		"NUL in the name":        {"POST", api.PathJobs, `{"lines":"x","name":"a\u0000b"}`, 422, "body.name", "NUL"},
		"NUL in a keyword":       {"POST", api.PathJobs, `{"lines":"x\ny\u0000z"}`, 422, "body.lines", "line 2"},
		"NUL in an input":        {"POST", api.PathJobs, `{"inputs":[{"text":"x"},{"text":"y\u0000z"}]}`, 422, "body.inputs[1]", "NUL"},
		"10 kB keyword":          {"POST", api.PathJobs, `{"lines":"x\n` + long + `"}`, 422, "body.lines", "line 2"},
		"long name":              {"POST", api.PathJobs, `{"lines":"x","name":"` + long + `"}`, 422, "body.name", "200"},
		"unknown parameter":      {"GET", api.PathJobs + "?sort=name", "", 422, "query.sort", "unknown"},
		"limit":                  {"GET", api.PathJobs + "?limit=0", "", 422, "query.limit", "1"},
		"state":                  {"GET", api.PathJobs + "?state=gone", "", 422, "query.state[0]", "running"},
		"NUL in a search":        {"GET", api.PathJobs + "?search=%00", "", 422, "query.search", "NUL"},
		"unknown job":            {"GET", "/api/v1/jobs/0190-none", "", 404, "", ""},
		"path of other bytes":    {"GET", "/api/v1/jobs/%00", "", 422, "path.id", ""},
		"results of unknown job": {"GET", "/api/v1/jobs/none/results", "", 404, "", ""},
		"tasks of unknown job":   {"GET", "/api/v1/jobs/none/tasks", "", 404, "", ""},
		"events of unknown job":  {"GET", "/api/v1/jobs/none/events", "", 404, "", ""},
		"stream of unknown job":  {"GET", "/api/v1/jobs/none/stream", "", 404, "", ""},
		"export of unknown job":  {"GET", "/api/v1/jobs/none/export", "", 404, "", ""},
		"unknown spawn":          {"GET", "/api/v1/spawns/none", "", 404, "", ""},
		"delete unknown job":     {"DELETE", "/api/v1/jobs/none", "", 404, "", ""},
		"cancel unknown job":     {"POST", "/api/v1/jobs/none/cancel", "", 404, "", ""},
		"unknown path":           {"GET", "/api/v1/nothing", "", 404, "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := r.in(t).do(c.method, c.path, c.body)
			if a.status != c.status {
				t.Fatalf("status %d, want %d; body %.300s", a.status, c.status, a.body)
			}
			p := a.problem(t)
			if len(a.body) > 2000 {
				t.Errorf("the problem has %d bytes: it echoes what was sent", len(a.body))
			}
			if c.location == "" {
				return
			}
			if len(p.Errors) == 0 || p.Errors[0].Location != c.location || !strings.Contains(p.Errors[0].Message, c.message) {
				t.Errorf("errors %+v, want %s: …%s…", p.Errors, c.location, c.message)
			}
		})
	}
	t.Cleanup(func() {
		jobs, err := r.store.Jobs(context.Background(), store.JobFilter{})
		if err == nil && len(jobs) != 0 {
			t.Errorf("%d jobs were stored", len(jobs))
		}
	})
}

func TestActionsFollowTheState(t *testing.T) {
	t.Parallel()
	r := newRig(t, openStore(t))
	j := r.createJob("coffee")
	path := "/api/v1/jobs/" + string(j.ID)
	for _, step := range []struct {
		method, action string
		status         int
		state          job.State
	}{
		{"POST", "/retry", 409, ""}, // nothing is dead
		{"POST", "/pause", 200, job.Paused},
		{"POST", "/resume", 200, job.Pending},
		{"DELETE", "", 409, ""}, // it has not ended
		{"POST", "/cancel", 200, job.Cancelled},
		{"POST", "/cancel", 200, job.Cancelled},
		{"POST", "/pause", 409, ""},
		{"POST", "/retry", 200, job.Pending},
		{"POST", "/cancel", 200, job.Cancelled},
		{"DELETE", "", 204, ""},
		{"GET", "", 404, ""},
	} {
		ring := r.bell.Next()
		a := r.do(step.method, path+step.action, "")
		if a.status != step.status {
			t.Fatalf("%s %s: status %d, want %d; %s", step.method, step.action, a.status, step.status, a.body)
		}
		if step.status >= 400 {
			a.problem(t)
		}
		if step.state == "" {
			continue
		}
		var got job.Job
		if err := json.Unmarshal(a.body, &got); err != nil || got.State != step.state {
			t.Errorf("%s: state %q, err %v; want %q", step.action, got.State, err, step.state)
		}
		select {
		case <-ring:
		default:
			t.Errorf("%s did not ring", step.action)
		}
	}
}

func TestListsArePagedByKey(t *testing.T) {
	t.Parallel()
	r := newRig(t, openStore(t))
	c := r.client(testKey)
	var ids []job.ID
	for _, name := range []string{"a", "b", "c", "d", "e"} {
		ids = append([]job.ID{r.createJob(name).ID}, ids...)
	}
	var got []job.ID
	pages := 0
	for q := (api.JobQuery{Limit: 2}); ; pages++ {
		p, err := c.Jobs(t.Context(), q)
		if err != nil {
			t.Fatal(err)
		}
		for _, j := range p.Jobs {
			got = append(got, j.ID)
		}
		if q.Before = p.Next; p.Next == "" {
			break
		}
	}
	if diff := cmp.Diff(ids, got); diff != "" || pages != 2 {
		t.Errorf("after %d more pages (-want +got):\n%s", pages, diff)
	}
	if _, err := c.Cancel(t.Context(), ids[0]); err != nil {
		t.Fatal(err)
	}
	p, err := c.Jobs(t.Context(), api.JobQuery{States: []job.State{job.Cancelled, job.Running}})
	if err != nil || len(p.Jobs) != 1 || p.Jobs[0].ID != ids[0] {
		t.Errorf("by state: %d jobs, err %v", len(p.Jobs), err)
	}
	if p, err = c.Jobs(t.Context(), api.JobQuery{Search: "c"}); err != nil || len(p.Jobs) != 1 {
		t.Errorf("by name: %d jobs, err %v", len(p.Jobs), err)
	}
	big := r.createJob("k1", "k2", "k3")
	tasks, err := c.Tasks(t.Context(), big.ID, api.TaskQuery{Limit: 2})
	if err != nil || len(tasks.Tasks) != 2 || tasks.Next == "" {
		t.Fatalf("tasks: %+v, %v", tasks, err)
	}
	rest, err := c.Tasks(t.Context(), big.ID, api.TaskQuery{Limit: 2, After: tasks.Next})
	if err != nil || len(rest.Tasks) != 1 || rest.Next != "" {
		t.Errorf("tasks after: %+v, %v", rest, err)
	}
	events, err := c.Events(t.Context(), big.ID, api.EventQuery{})
	if err != nil || len(events.Events) == 0 || events.Events[0].Kind != job.EventCreated {
		t.Errorf("events: %+v, %v", events, err)
	}
	empty := r.do("GET", "/api/v1/jobs/"+string(big.ID)+"/results", "")
	if got := strings.TrimSpace(string(empty.body)); got != `{"results":[]}` {
		t.Errorf("an empty list is %s", got)
	}
	stats, err := c.Stats(t.Context())
	if err != nil || stats.Jobs[job.Pending] != 5 || stats.Backend != "none" || stats.Version != "test" {
		t.Errorf("stats: %+v, %v", stats, err)
	}
}
