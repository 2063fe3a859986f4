package manager_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"gmaps-scraper/api"
	"gmaps-scraper/gmaps"
	"gmaps-scraper/job"
	"gmaps-scraper/manager"
	"gmaps-scraper/store"
	"gmaps-scraper/store/sqlite"
	"gmaps-scraper/wakeup"
)

const testKey = "gk_test_key"

// rig is a Manager behind a real server, over a real store.
type rig struct {
	t       *testing.T
	store   store.Store
	bell    *wakeup.Memory
	manager *manager.Manager
	url     string
	log     *lockedBuffer
}

// lockedBuffer is a log that may be read while it is written.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func openStore(t *testing.T) store.Store {
	t.Helper()
	s, err := sqlite.Open(t.Context(), filepath.Join(t.TempDir(), "gmaps.db"), sqlite.Config{})
	if err != nil {
		t.Fatalf("open store: %v", err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func newRig(t *testing.T, s store.Store, change ...func(*manager.Config)) *rig {
	t.Helper()
	r := &rig{t: t, store: s, bell: &wakeup.Memory{}, log: &lockedBuffer{}}
	cfg := manager.Config{
		Store: s, Bell: r.bell, APIKeys: []api.Secret{"another", testKey}, Version: "test",
		Logger: slog.New(slog.NewTextHandler(r.log, &slog.HandlerOptions{Level: slog.LevelDebug})),
	}
	for _, f := range change {
		f(&cfg)
	}
	m, err := manager.New(t.Context(), cfg)
	if err != nil {
		t.Fatalf("new manager: %v", err)
	}
	r.manager = m
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("log of the manager:\n%s", r.log)
		}
	})
	server := httptest.NewUnstartedServer(nil)
	server.Config = manager.Server(m.Handler())
	server.Start()
	t.Cleanup(server.Close)
	r.url = server.URL
	return r
}

// in is the rig for a subtest.
func (r *rig) in(t *testing.T) *rig {
	c := *r
	c.t = t
	return &c
}

// client is an api.Client with a key.
func (r *rig) client(key string) *api.Client {
	r.t.Helper()
	c, err := api.NewClient(r.url, api.Secret(key), nil)
	if err != nil {
		r.t.Fatalf("new client: %v", err)
	}
	r.t.Cleanup(c.Close)
	return c
}

// answer is a response that has been read.
type answer struct {
	status int
	header http.Header
	body   []byte
}

func (a answer) problem(t *testing.T) api.Problem {
	t.Helper()
	var p api.Problem
	if got := a.header.Get("Content-Type"); got != "application/problem+json" {
		t.Errorf("content type of status %d is %q, want application/problem+json; body %.300s", a.status, got, a.body)
	}
	if err := json.Unmarshal(a.body, &p); err != nil {
		t.Fatalf("problem %.300q: %v", a.body, err)
	}
	if p.Status != a.status {
		t.Errorf("problem says status %d, the answer %d", p.Status, a.status)
	}
	return p
}

// do makes a request with the test key; edits may change it.
func (r *rig) do(method, path, body string, edits ...func(*http.Request)) answer {
	r.t.Helper()
	return r.send(method, path, strings.NewReader(body), edits...)
}

func (r *rig) send(method, path string, body io.Reader, edits ...func(*http.Request)) answer {
	r.t.Helper()
	req, err := http.NewRequestWithContext(r.t.Context(), method, r.url+path, body)
	if err != nil {
		r.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+testKey)
	if method == http.MethodPost {
		req.Header.Set("Content-Type", "application/json")
	}
	for _, e := range edits {
		e(req)
	}
	c := http.Client{
		Transport:     &http.Transport{DisableKeepAlives: true, DisableCompression: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	res, err := c.Do(req)
	if err != nil {
		r.t.Fatalf("%s %s: %v", method, path, err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		r.t.Fatalf("%s %s: read answer: %v", method, path, err)
	}
	return answer{res.StatusCode, res.Header, b}
}

func header(name, value string) func(*http.Request) {
	return func(r *http.Request) { r.Header.Set(name, value) }
}

func bearer(token string) func(*http.Request) {
	return func(r *http.Request) {
		r.Header.Del("Authorization")
		if token != "" {
			r.Header.Set("Authorization", "Bearer "+token)
		}
	}
}

// createJob makes a job of one task for each keyword.
func (r *rig) createJob(keywords ...string) job.Job {
	r.t.Helper()
	j, err := r.client(testKey).Create(r.t.Context(), api.NewJob{Lines: strings.Join(keywords, "\n")}, "")
	if err != nil {
		r.t.Fatalf("create job: %v", err)
	}
	return j
}

// planSpawn makes the row of a worker for the only job that lacks one.
func (r *rig) planSpawn() job.Spawn {
	r.t.Helper()
	spawns, err := r.store.PlanSpawns(r.t.Context(), store.Plan{Backend: "process", Concurrency: 1})
	if err != nil || len(spawns) != 1 {
		r.t.Fatalf("plan spawns: %d planned, err %v; want 1", len(spawns), err)
	}
	if err := r.store.SpawnStarted(r.t.Context(), spawns[0].ID, "pid-1"); err != nil {
		r.t.Fatal(err)
	}
	return spawns[0]
}

// joinSpawned is the client of the worker of a spawn that was just planned.
func (r *rig) joinSpawned() (*api.Client, job.Spawn) {
	r.t.Helper()
	s := r.planSpawn()
	c := r.client(r.manager.SpawnToken(s.ID))
	if _, err := c.Join(r.t.Context(), api.Join{SpawnID: s.ID, Nonce: "nonce-of-" + string(s.ID), Concurrency: 1}); err != nil {
		r.t.Fatalf("join: %v", err)
	}
	return c, s
}

// joinStanding is the client of a worker that was started by hand.
func (r *rig) joinStanding(nonce string) *api.Client {
	r.t.Helper()
	c := r.client(testKey)
	if _, err := c.Join(r.t.Context(), api.Join{Nonce: nonce, Concurrency: 4}); err != nil {
		r.t.Fatalf("join: %v", err)
	}
	return c
}

func (r *rig) mustLease(c *api.Client, max int) job.Lease {
	r.t.Helper()
	a, err := c.Lease(r.t.Context(), api.LeaseRequest{Max: max})
	if err != nil || a.Lease == nil {
		r.t.Fatalf("lease: %+v, %v; want a lease", a, err)
	}
	return *a.Lease
}

// work leases all tasks of the job and hands in places for each.
func (r *rig) work(c *api.Client, perTask int) {
	r.t.Helper()
	l := r.mustLease(c, 1000)
	var b job.Batch
	for _, task := range l.Tasks {
		for i := range perTask {
			b.Places = append(b.Places, job.Found{TaskID: task.ID, Place: place(int(task.ID)*1000 + i)})
		}
		b.Tasks = append(b.Tasks, job.TaskStep{TaskID: task.ID, Done: true})
	}
	if _, err := c.Submit(r.t.Context(), l.Fence, b); err != nil {
		r.t.Fatalf("submit: %v", err)
	}
}

func place(n int) gmaps.Place {
	return gmaps.Place{
		DataID: fmt.Sprintf("0x%x:0x%x", n, n), CID: fmt.Sprint(n), Title: fmt.Sprintf("Café %d", n), Categories: []string{"Coffee shop"},
		Rating: 4.5, Website: "https://example.com/", Location: &gmaps.Point{Lat: 34.7, Lng: 33},
	}
}

// waitFor waits until a condition holds.
func waitFor(t *testing.T, what string, holds func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !holds() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("waited in vain: %s", what)
		}
	}
}
