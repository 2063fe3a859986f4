package manager_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"gmaps-scraper/api"
	"gmaps-scraper/job"
	"gmaps-scraper/manager"
)

func TestReadyOnlyWhileItRuns(t *testing.T) {
	t.Parallel()
	r := newRig(t, openStore(t))
	ready := func() int { return r.do("GET", "/readyz", "", bearer("")).status }
	if got := ready(); got != 503 {
		t.Errorf("before Run: %d", got)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- r.manager.Run(ctx) }()
	waitFor(t, "ready", func() bool { return ready() == 200 })

	w := r.joinStanding("standing-worker-1")
	poll := make(chan error, 1)
	go func() {
		a, err := w.Lease(t.Context(), api.LeaseRequest{Max: 1, Wait: job.Duration(30 * time.Second)})
		if err == nil && a.RetryIn == 0 {
			err = errors.New("the poll did not say to ask again")
		}
		poll <- err
	}()
	cancel()
	if err := <-done; err != nil && !errors.Is(err, context.Canceled) {
		t.Errorf("run: %v", err)
	}
	if err := <-poll; err != nil {
		t.Errorf("long poll: %v", err)
	}
	if got := ready(); got != 503 {
		t.Errorf("after Run: %d", got)
	}
	if a := r.do("GET", "/healthz", "", bearer("")); a.status != 200 {
		t.Errorf("healthz: %d", a.status)
	}
}

func TestMetricsShowWhatHappens(t *testing.T) {
	t.Parallel()
	r := newRig(t, openStore(t), func(c *manager.Config) { c.OpenMetrics = true })
	r.createJob("coffee")
	w, _ := r.joinSpawned()
	r.work(w, 3)
	r.createJob("tea")
	r.mustLease(r.joinStanding("standing-worker-1"), 1)
	a := r.do("GET", "/metrics", "", bearer(""))
	for _, want := range []string{
		`gmaps_jobs{state="succeeded"} 1`, `gmaps_jobs{state="running"} 1`, `gmaps_tasks{state="done"} 1`, `gmaps_spawns{state="running"}`,
		"gmaps_results_total 3", "gmaps_results_stored 3", `gmaps_spawn_first_byte_seconds_count{backend="process"} 1`,
		"gmaps_lease_age_seconds_count 1", `gmaps_http_request_duration_seconds_count{code="201",route="POST /api/v1/jobs"} 2`,
		"gmaps_store_up 1", "go_goroutines",
	} {
		if !strings.Contains(string(a.body), want) {
			t.Errorf("metrics lack %s", want)
		}
	}
}

// TestOpenMetricsAreOpenUnderOneSpelling: a proxy before the Manager shuts /metrics by the path as it is written.
func TestOpenMetricsAreOpenUnderOneSpelling(t *testing.T) {
	t.Parallel()
	r := newRig(t, openStore(t), func(c *manager.Config) { c.OpenMetrics = true })
	for path, want := range map[string]int{"/metrics": 200, "/metrics?x=1": 200, "/%6detrics": 401, "/metric%73": 401} {
		if a := r.do("GET", path, "", bearer("")); a.status != want {
			t.Errorf("%s without a key: %d, want %d", path, a.status, want)
		}
	}
}

func TestOpenAPIDescribesEveryPath(t *testing.T) {
	t.Parallel()
	r := newRig(t, openStore(t))
	a := r.do("GET", "/openapi.json", "")
	var doc struct {
		OpenAPI    string                               `json:"openapi"`
		Paths      map[string]map[string]map[string]any `json:"paths"`
		Components struct {
			Schemas map[string]any `json:"schemas"`
		} `json:"components"`
	}
	if err := json.Unmarshal(a.body, &doc); err != nil {
		t.Fatalf("openapi.json: %v", err)
	}
	if !strings.HasPrefix(doc.OpenAPI, "3.1") {
		t.Errorf("version %q", doc.OpenAPI)
	}
	for path, methods := range map[string]string{
		api.PathJobs: "get post", api.PathJob: "get delete", api.PathCancel: "post", api.PathPause: "post", api.PathResume: "post", api.PathRetry: "post",
		api.PathTasks: "get", api.PathEvents: "get", api.PathStream: "get", api.PathResults: "get", api.PathExport: "get", api.PathSpawns: "get",
		api.PathSpawn: "get", api.PathStats: "get", api.PathWorkerJoin: "post", api.PathLeases: "post", api.PathRenew: "post", api.PathSubmit: "post", api.PathHandBack: "post",
	} {
		for _, m := range strings.Fields(methods) {
			if doc.Paths[path][m] == nil {
				t.Errorf("%s %s is not described", m, path)
			}
		}
	}
	for _, ref := range strings.Split(string(a.body), `"$ref":"#/components/schemas/`)[1:] {
		name, _, _ := strings.Cut(ref, `"`)
		if doc.Components.Schemas[name] == nil {
			t.Errorf("schema %s is missing", name)
		}
	}
	first, err := manager.OpenAPI()
	if err != nil {
		t.Fatal(err)
	}
	again, err := manager.OpenAPI()
	if err != nil || !bytes.Equal(first, again) {
		t.Errorf("the description differs from run to run, err %v", err)
	}
	if served := r.do("GET", "/openapi.yaml", ""); !bytes.Equal(served.body, first) {
		t.Error("the description that is served is not the one that is written")
	}
	if docs := r.do("GET", "/docs", ""); docs.status != 200 || strings.Contains(string(docs.body), "https://") || strings.Contains(string(docs.body), "<script") {
		t.Errorf("docs: %d, or it loads from elsewhere", docs.status)
	}
}

func TestConfigIsChecked(t *testing.T) {
	t.Parallel()
	s := openStore(t)
	for name, c := range map[string]manager.Config{
		"store":       {Open: true},
		"lease ttl":   {Store: s, Open: true, LeaseTTL: time.Millisecond},
		"concurrency": {Store: s, Open: true, Concurrency: -1},
		"max workers": {Store: s, Open: true, MaxWorkers: -1},
		"api key 1":   {Store: s, APIKeys: []api.Secret{""}},
	} {
		if _, err := manager.New(t.Context(), c); err == nil || !strings.Contains(err.Error(), name+":") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if (manager.Server(http.NotFoundHandler())).ReadHeaderTimeout == 0 {
		t.Error("the server has no timeout for headers")
	}
}

func TestPartThatIsAwayIsToldAndReadyAllTheSame(t *testing.T) {
	t.Parallel()
	var up atomic.Bool
	health := func() (bool, string) {
		if up.Load() {
			return true, "connected"
		}
		return false, "reconnects"
	}
	r := newRig(t, openStore(t), func(c *manager.Config) {
		c.OpenMetrics = true
		c.Parts = []manager.Part{{Name: "rabbitmq", Health: health}}
	})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- r.manager.Run(ctx) }()
	defer func() {
		cancel()
		<-done
	}()
	var a answer
	waitFor(t, "ready", func() bool {
		a = r.do("GET", "/readyz", "", bearer(""))
		return a.status == 200
	})
	if want := `"rabbitmq":{"ok":false,"detail":"reconnects","optional":true}`; !strings.Contains(string(a.body), want) {
		t.Errorf("readyz says %s, want %s", a.body, want)
	}
	for _, want := range []string{`gmaps_part_up{part="rabbitmq"} 0`, `gmaps_part_up{part="rabbitmq"} 1`} {
		if a = r.do("GET", "/metrics", "", bearer("")); !strings.Contains(string(a.body), want) {
			t.Errorf("metrics lack %s", want)
		}
		up.Store(true)
	}
}
