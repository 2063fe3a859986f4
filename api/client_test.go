package api

import (
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"gmaps-scraper/gmaps"
	"gmaps-scraper/job"
)

// roundTrip is a transport without InProcess's exemption from compression.
type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func newClient(t *testing.T, key Secret, h http.HandlerFunc) *Client {
	t.Helper()
	c, err := NewClient("http://manager/prefix/", key, roundTrip(InProcess(h).RoundTrip))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestBaseURLIsChecked(t *testing.T) {
	t.Parallel()
	for _, bad := range []string{"", "manager:8080", "ftp://manager", "http://", "http://user:hunter2@manager", "http://manager?x=1", "http://manager#x", "http://user:hunter2@ma nager"} {
		_, err := NewClient(bad, "", nil)
		if err == nil {
			t.Errorf("%q was taken", bad)
		} else if strings.Contains(err.Error(), "hunter2") {
			t.Errorf("the error shows the password: %v", err)
		}
	}
	for _, good := range []string{"http://manager:8080", "https://example.org/scraper/"} {
		if _, err := NewClient(good, "", nil); err != nil {
			t.Errorf("%q: %v", good, err)
		}
	}
}

func TestSubmitSendsGzipUnderThePrefix(t *testing.T) {
	t.Parallel()
	want := job.Batch{
		Places: []job.Found{{TaskID: 7, Place: gmaps.Place{DataID: "0x1:0x2", Title: "Café"}}},
		Tasks:  []job.TaskStep{{TaskID: 7, Cursor: "c1"}},
	}
	var got job.Batch
	c := newClient(t, "key", func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/prefix/api/v1/worker/leases/42/results" || r.Header.Get("Authorization") != "Bearer key" {
			t.Errorf("asked %s with %q", r.URL.Path, r.Header.Get("Authorization"))
		}
		z, err := gzip.NewReader(r.Body)
		if err == nil {
			err = json.NewDecoder(z).Decode(&got)
		}
		if err != nil {
			t.Error(err)
		}
		fmt.Fprint(w, `{"new":1,"order":"drain"}`)
	})
	for range 2 { // the second takes a pooled writer
		ack, err := c.Submit(t.Context(), 42, want)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(job.Ack{New: 1, Order: job.Drain}, ack); diff != "" {
			t.Error(diff)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Error(diff)
		}
	}
}

func TestWorkerCallsSpeakWithTheSession(t *testing.T) {
	t.Parallel()
	used := map[string]string{}
	c := newClient(t, "token", func(w http.ResponseWriter, r *http.Request) {
		used[strings.TrimPrefix(r.URL.Path, "/prefix")] = r.Header.Get("Authorization")
		fmt.Fprint(w, `{"session":"s1","spawn_id":"a","lease_ttl":"30s"}`)
	})
	ctx := t.Context()
	joined, err := c.Join(ctx, Join{SpawnID: "a", Nonce: "0123456789abcdef", Concurrency: 1})
	if err != nil || joined.LeaseTTL != job.Duration(30*time.Second) {
		t.Fatal(joined, err)
	}
	_, err = c.Lease(ctx, LeaseRequest{Max: 1})
	err = errors.Join(err, c.HandBack(ctx, 3, HandBack{}))
	_, err2 := c.Job(ctx, "j/1")
	if err = errors.Join(err, err2); err != nil {
		t.Fatal(err)
	}
	want := map[string]string{
		PathWorkerJoin: "Bearer token", PathLeases: "Bearer s1", "/api/v1/worker/leases/3/handback": "Bearer s1", "/api/v1/jobs/j/1": "Bearer token",
	}
	if diff := cmp.Diff(want, used); diff != "" {
		t.Error(diff)
	}
	if c.With("other").session.Load() != nil {
		t.Error("With took the session along")
	}
}

func TestErrorsAreClassed(t *testing.T) {
	t.Parallel()
	type class struct{ Retry, Stale, Taken, Gone, NotFound, TooLarge, Unauthorized bool }
	problem := func(status int, kind string) error {
		c := newClient(t, "", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/problem+json")
			w.Header().Set("Retry-After", "7")
			w.WriteHeader(status)
			_ = json.NewEncoder(w).Encode(Problem{Type: kind, Title: "t", Status: status, Detail: "d"})
		})
		_, err := c.Stats(t.Context())
		var p *Problem
		if !errors.As(err, &p) || p.RetryAfter != 7*time.Second || p.Detail != "d" || p.Status != status {
			t.Errorf("status %d became %#v", status, err)
		}
		return err
	}
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	_, errCancelled := newClient(t, "", func(http.ResponseWriter, *http.Request) {}).Stats(cancelled)
	_, errPanic := newClient(t, "", func(http.ResponseWriter, *http.Request) { panic("boom") }).Stats(t.Context())
	_, errCut := newClient(t, "", func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusOK)
		panic(http.ErrAbortHandler)
	}).Stats(t.Context())
	_, errHTML := newClient(t, "", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "<html>") }).Stats(t.Context())

	for name, c := range map[string]struct {
		err  error
		want class
	}{
		"nil":         {nil, class{}},
		"stale":       {problem(409, ProblemStaleFence), class{Stale: true}},
		"taken":       {problem(409, ProblemSpawnTaken), class{Taken: true}},
		"gone":        {problem(410, ""), class{Gone: true}},
		"not found":   {problem(404, ""), class{NotFound: true}},
		"too large":   {problem(413, ""), class{TooLarge: true}},
		"wrong key":   {problem(401, ""), class{Unauthorized: true}},
		"throttled":   {problem(429, ""), class{Retry: true}},
		"unavailable": {problem(503, ""), class{Retry: true}},
		"other 4xx":   {problem(422, ""), class{}},
		"cancelled":   {errCancelled, class{}},
		"handler":     {errPanic, class{Retry: true}},
		"cut":         {errCut, class{Retry: true}},
		"no JSON":     {errHTML, class{}},
		"refused":     {&url.Error{Op: "Post", URL: "http://x", Err: errors.New("connection refused")}, class{Retry: true}},
	} {
		got := class{Retryable(c.err), IsStale(c.err), IsSpawnTaken(c.err), IsGone(c.err), IsNotFound(c.err), IsTooLarge(c.err), IsUnauthorized(c.err)}
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("%s (%v): %s", name, c.err, diff)
		}
	}
}

func TestAnErrorThatIsNoProblemKeepsItsText(t *testing.T) {
	t.Parallel()
	c := newClient(t, "", func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "upstream is away", http.StatusBadGateway) })
	_, err := c.Stats(t.Context())
	if got := fmt.Sprint(err); got != "upstream is away" {
		t.Errorf("got %q", got)
	}
}

func TestCallsTimeOutAndLongPollsLater(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		hang := func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }
		c := newClient(t, "", hang)
		start := time.Now()
		_, err := c.Stats(t.Context())
		if took := time.Since(start); took != callTimeout || !Retryable(err) {
			t.Errorf("after %s: %v", took, err)
		}
		start = time.Now()
		_, err = c.Lease(t.Context(), LeaseRequest{Max: 1, Wait: job.Duration(20 * time.Second)})
		if took := time.Since(start); took != 30*time.Second || !Retryable(err) {
			t.Errorf("after %s: %v", took, err)
		}
		synctest.Wait()
	})
}

func TestStreamYieldsProgressUntilTheManagerEndsIt(t *testing.T) {
	t.Parallel()
	c := newClient(t, "", func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Accept") != "text/event-stream" {
			t.Errorf("Accept is %q", r.Header.Get("Accept"))
		}
		fmt.Fprint(w, ": hello\n\nevent: progress\ndata: {\"state\":\"running\"}\n\nevent: other\ndata: {}\n\n")
		w.(http.Flusher).Flush()
		fmt.Fprint(w, "event: progress\r\ndata: {\"state\":\r\ndata: \"succeeded\"}\r\n\r\n")
	})
	var got []job.State
	for p, err := range c.Stream(t.Context(), "j") {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, p.State)
	}
	if diff := cmp.Diff([]job.State{job.Running, job.Succeeded}, got); diff != "" {
		t.Error(diff)
	}
}

func TestQueriesReachTheManager(t *testing.T) {
	t.Parallel()
	var got string
	c := newClient(t, "", func(w http.ResponseWriter, r *http.Request) {
		got = r.Method + " " + strings.TrimPrefix(r.URL.RequestURI(), "/prefix/api/v1")
		fmt.Fprint(w, "{}")
	})
	ctx, yes, no := t.Context(), true, false
	for want, f := range map[string]func() error{
		"GET /jobs?limit=3&search=a+b&state=failed&state=paused": func() error {
			_, err := c.Jobs(ctx, JobQuery{States: []job.State{job.Failed, job.Paused}, Search: "a b", Limit: 3})
			return err
		},
		"GET /jobs/j/results?after=9&min_rating=4.5&phone=false&website=true": func() error {
			_, err := c.Results(ctx, "j", ResultQuery{After: 9, MinRating: 4.5, Website: &yes, Phone: &no})
			return err
		},
		"GET /spawns?job=j&live=true": func() error { _, err := c.Spawns(ctx, SpawnQuery{JobID: "j", Live: true}); return err },
		"GET /jobs/j/tasks?state=dead": func() error {
			_, err := c.Tasks(ctx, "j", TaskQuery{States: []job.TaskState{job.TaskDead}})
			return err
		},
		"GET /jobs/j/events?after=5":  func() error { _, err := c.Events(ctx, "j", EventQuery{After: "5"}); return err },
		"POST /jobs/j/cancel":         func() error { _, err := c.Cancel(ctx, "j"); return err },
		"POST /jobs/a%2F..%2Fb/retry": func() error { _, err := c.Retry(ctx, "a/../b"); return err },
		"DELETE /jobs/j":              func() error { return c.Delete(ctx, "j") },
		"GET /jobs/j/export?columns=a%2Cb&format=csv": func() error {
			r, err := c.Export(ctx, "j", "csv", []string{"a", "b"})
			if err == nil {
				err = r.Close()
			}
			return err
		},
	} {
		if err := f(); err != nil || got != want {
			t.Errorf("got %s (%v), want %s", got, err, want)
		}
	}
}

func TestSecretNeverShows(t *testing.T) {
	t.Parallel()
	const plain = "gw_hunter2"
	s := Secret(plain)
	type holder struct{ Key Secret }
	var log strings.Builder
	slog.New(slog.NewJSONHandler(&log, nil)).Info("x", "key", s, "holder", holder{s}, "list", []Secret{s})
	asJSON, err := json.Marshal(map[string]holder{"a": {s}})
	if err != nil {
		t.Fatal(err)
	}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d", "%T %v"} {
		fmt.Fprintf(&log, verb, s, s)
		fmt.Fprintf(&log, verb, holder{s}, &holder{s})
		fmt.Fprintf(&log, verb, []Secret{s}, map[string]Secret{"a": s})
	}
	if all := log.String() + string(asJSON); strings.Contains(all, plain) || strings.Contains(all, fmt.Sprintf("%x", plain)) {
		t.Errorf("the secret shows in %s", all)
	}
	if s.Reveal() != plain {
		t.Error("Reveal does not return the secret")
	}
}

func TestExportThatBreaksOffIsAnError(t *testing.T) {
	t.Parallel()
	c := newClient(t, "", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprint(w, "title\n")
		panic(http.ErrAbortHandler)
	})
	r, err := c.Export(t.Context(), "j", "csv", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if got, err := io.ReadAll(r); err == nil || string(got) != "title\n" {
		t.Errorf("got %q, %v", got, err)
	}
}
