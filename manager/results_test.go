package manager_test

import (
	"bufio"
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"gmaps-scraper/api"
	"gmaps-scraper/export"
	"gmaps-scraper/job"
)

func TestResultsArePagedAndFiltered(t *testing.T) {
	t.Parallel()
	r := newRig(t, openStore(t))
	j := r.createJob("coffee")
	w, _ := r.joinSpawned()
	r.work(w, 5)
	c := r.client(testKey)
	seen := map[string]bool{}
	for q := (api.ResultQuery{Limit: 2}); ; {
		p, err := c.Results(t.Context(), j.ID, q)
		if err != nil {
			t.Fatal(err)
		}
		for _, res := range p.Results {
			seen[res.Place.DataID] = true
			q.After = res.Seq
		}
		if p.Next == "" {
			break
		}
	}
	if len(seen) != 5 {
		t.Errorf("%d places seen, want 5", len(seen))
	}
	yes, no := true, false
	for name, f := range map[string]struct {
		q    api.ResultQuery
		want int
	}{
		"search":     {api.ResultQuery{Search: "café"}, 5},
		"category":   {api.ResultQuery{Category: "Coffee shop"}, 5},
		"no match":   {api.ResultQuery{Search: "hotel"}, 0},
		"rating":     {api.ResultQuery{MinRating: 4.6}, 0},
		"website":    {api.ResultQuery{Website: &yes}, 5},
		"no website": {api.ResultQuery{Website: &no}, 0},
		"no phone":   {api.ResultQuery{Phone: &no}, 5},
	} {
		p, err := c.Results(t.Context(), j.ID, f.q)
		if err != nil || len(p.Results) != f.want {
			t.Errorf("%s: %d results, err %v; want %d", name, len(p.Results), err, f.want)
		}
	}
}

func TestExportInEveryFormat(t *testing.T) {
	t.Parallel()
	r := newRig(t, openStore(t))
	j := r.createJob("coffee in Limassol")
	w, _ := r.joinSpawned()
	r.work(w, 600) // more than a page
	path := "/api/v1/jobs/" + string(j.ID) + "/export"
	for _, format := range export.Formats() {
		a := r.do("GET", path+"?format="+format, "")
		if a.status != 200 || len(a.body) < 600 || a.header.Get("Content-Type") != export.ContentType(format) {
			t.Errorf("%s: status %d, %d bytes, type %q", format, a.status, len(a.body), a.header.Get("Content-Type"))
		}
		if got := a.header.Get("Content-Disposition"); !strings.HasPrefix(got, `attachment; filename="coffee-in-limassol-`) || !strings.HasSuffix(got, export.Extension(format)+`"`) {
			t.Errorf("%s: disposition %q", format, got)
		}
		if format == "ndjson" && strings.Count(string(a.body), "\n") != 600 {
			t.Errorf("ndjson has %d lines, want 600", strings.Count(string(a.body), "\n"))
		}
	}
	if a := r.do("GET", path+"?columns=title,rating&search=hotel", ""); a.status != 200 || strings.Count(string(a.body), "\n") != 1 {
		t.Errorf("chosen columns: %d %q", a.status, a.body)
	}
	for query, location := range map[string]string{"?format=doc": "query.format", "?columns=titel": "query.columns", "?min_rating=9": "query.min_rating"} {
		a := r.do("GET", path+query, "")
		if p := a.problem(t); a.status != 422 || len(p.Errors) != 1 || p.Errors[0].Location != location {
			t.Errorf("%s: %d %+v", query, a.status, p.Errors)
		}
	}
}

func TestStreamFollowsAJobToItsEnd(t *testing.T) {
	t.Parallel()
	r := newRig(t, openStore(t))
	j := r.createJob("coffee")
	w, _ := r.joinSpawned()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, r.url+"/api/v1/jobs/"+string(j.ID)+"/stream", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+testKey)
	transport := &http.Transport{}
	defer transport.CloseIdleConnections()
	res, err := transport.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if got := res.Header.Get("Content-Type"); got != "text/event-stream" {
		t.Fatalf("type %q", got)
	}
	var events []string
	var last api.Progress
	for lines := bufio.NewScanner(res.Body); lines.Scan(); {
		name, data, _ := strings.Cut(lines.Text(), ": ")
		switch name {
		case "event":
			events = append(events, data)
		case "data":
			if err := json.Unmarshal([]byte(data), &last); err != nil {
				t.Fatal(err)
			}
			if len(events) == 1 {
				r.work(w, 3) // only now: the first event was there before
			}
		}
	}
	if len(events) < 3 || events[0] != "progress" || events[len(events)-2] != "progress" || events[len(events)-1] != "end" {
		t.Errorf("events %v", events)
	}
	if last.State != job.Succeeded || last.Counts.Places != 3 {
		t.Errorf("the last progress is %+v", last)
	}
}

func TestStreamOfAnEndedJobEndsAtOnce(t *testing.T) {
	t.Parallel()
	r := newRig(t, openStore(t))
	c := r.client(testKey)
	j := r.createJob("coffee")
	if _, err := c.Cancel(t.Context(), j.ID); err != nil {
		t.Fatal(err)
	}
	var got []api.Progress
	for p, err := range c.Stream(t.Context(), j.ID) {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, p)
	}
	if len(got) != 1 || got[0].State != job.Cancelled {
		t.Errorf("progress %+v", got)
	}
}
