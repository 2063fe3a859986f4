package manager_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"gmaps-scraper/api"
	"gmaps-scraper/job"
	"gmaps-scraper/manager"
	"gmaps-scraper/store"
)

// repeat is an endless text.
type repeat byte

func (r repeat) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = byte(r)
	}
	return len(p), nil
}

func gzipped(t *testing.T, r io.Reader) []byte {
	t.Helper()
	var b bytes.Buffer
	z, _ := gzip.NewWriterLevel(&b, gzip.BestSpeed)
	if _, err := io.Copy(z, r); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestHostileBodiesAreRefused(t *testing.T) {
	t.Parallel()
	r := newRig(t, openStore(t))
	const hundredMB = 100 << 20
	huge := func() io.Reader {
		return io.MultiReader(strings.NewReader(`{"lines":"`), io.LimitReader(repeat('x'), hundredMB), strings.NewReader(`"}`))
	}
	bomb := gzipped(t, huge())
	if len(bomb) > 1<<20 {
		t.Fatalf("the bomb has %d bytes", len(bomb))
	}
	packed := header("Content-Encoding", "gzip")
	for name, c := range map[string]struct {
		path  string
		body  io.Reader
		edits []func(*http.Request)
		want  int
	}{
		"100 MB announced":  {api.PathJobs, io.LimitReader(repeat(' '), hundredMB), []func(*http.Request){func(r *http.Request) { r.ContentLength = hundredMB }}, 413},
		"100 MB in chunks":  {api.PathJobs, huge(), nil, 413},
		"gzip bomb":         {api.PathJobs, bytes.NewReader(bomb), []func(*http.Request){packed}, 413},
		"no gzip":           {api.PathJobs, strings.NewReader(`{"lines":"x"}`), []func(*http.Request){packed}, 400},
		"gzip cut off":      {api.PathJobs, bytes.NewReader(bomb[:len(bomb)/2000]), []func(*http.Request){packed}, 400},
		"other encoding":    {api.PathJobs, strings.NewReader(`{"lines":"x"}`), []func(*http.Request){header("Content-Encoding", "br")}, 415},
		"deep JSON":         {api.PathJobs, strings.NewReader(`{"lines":` + strings.Repeat("[", 200_000)), nil, 400},
		"deep JSON, closed": {api.PathJobs, strings.NewReader(`{"area":` + strings.Repeat("[", 20_000) + strings.Repeat("]", 20_000) + `}`), nil, 400},
		"1 MB for a join":   {api.PathWorkerJoin, io.MultiReader(strings.NewReader(`{"nonce":"`), io.LimitReader(repeat('x'), 2<<20), strings.NewReader(`"}`)), nil, 413},
		"form":              {api.PathJobs, strings.NewReader("lines=x"), []func(*http.Request){header("Content-Type", "application/x-www-form-urlencoded")}, 415},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := r.in(t).send("POST", c.path, c.body, c.edits...)
			if a.status != c.want {
				t.Fatalf("status %d, want %d; body %.300s", a.status, c.want, a.body)
			}
			a.problem(t)
			if len(a.body) > 2000 {
				t.Errorf("the problem has %d bytes: it echoes what was sent", len(a.body))
			}
		})
	}
	t.Cleanup(func() {
		if jobs, err := r.store.Jobs(context.Background(), store.JobFilter{}); err != nil || len(jobs) != 0 {
			t.Errorf("%d jobs were stored, err %v", len(jobs), err)
		}
	})
}

func TestScriptInANameStaysText(t *testing.T) {
	t.Parallel()
	r := newRig(t, openStore(t))
	const script = `<script>alert(1)</script>`
	a := r.do("POST", api.PathJobs, `{"lines":"x","name":"`+script+`\r\nSet-Cookie: a=b"}`)
	if a.status != 422 {
		t.Errorf("a line break in the name: %d", a.status)
	}
	a = r.do("POST", api.PathJobs, `{"lines":"x","name":"`+script+`"}`)
	if a.status != 201 || a.header.Get("Content-Type") != "application/json" || a.header.Get("X-Content-Type-Options") != "nosniff" {
		t.Fatalf("status %d, headers %v", a.status, a.header)
	}
	if csp := a.header.Get("Content-Security-Policy"); !strings.Contains(csp, "script-src 'self'") || strings.Contains(csp, "unsafe") {
		t.Errorf("policy %q", csp)
	}
	file := r.do("GET", a.header.Get("Location")+"/export", "")
	if got := file.header.Get("Content-Disposition"); !strings.HasPrefix(got, `attachment; filename="script-alert-1-script-2`) {
		t.Errorf("disposition %q", got)
	}
}

// brokenStore fails or panics on Stats and JobHead.
type brokenStore struct {
	store.Store
	err error
}

func (b *brokenStore) Stats(context.Context) (store.Stats, error) { return store.Stats{}, b.err }

func (b *brokenStore) JobHead(context.Context, job.ID) (job.Job, error) { panic("a bug of ours") }

func (b *brokenStore) Ping(context.Context) error { return b.err }

func TestStoreThatIsAwayIs503(t *testing.T) {
	t.Parallel()
	r := newRig(t, &brokenStore{openStore(t), errors.Join(errors.New("dial tcp 10.0.0.7: refused"), store.ErrUnavailable)})
	a := r.do("GET", api.PathStats, "")
	if a.status != 503 || a.header.Get("Retry-After") == "" {
		t.Errorf("status %d, Retry-After %q", a.status, a.header.Get("Retry-After"))
	}
	if a.problem(t); strings.Contains(string(a.body), "10.0.0.7") {
		t.Errorf("the answer tells where the store is: %s", a.body)
	}
	if a = r.do("GET", "/readyz", "", bearer("")); a.status != 503 || strings.Contains(string(a.body), "10.0.0.7") {
		t.Errorf("readyz: %d %s", a.status, a.body)
	}
	if a = r.do("GET", "/metrics", ""); a.status != 200 || !strings.Contains(string(a.body), "gmaps_store_up 0") {
		t.Errorf("metrics: %d", a.status)
	}
}

func TestOwnErrorsStayInTheLog(t *testing.T) {
	t.Parallel()
	r := newRig(t, &brokenStore{openStore(t), errors.New("no such column: secret_column")})
	a := r.do("GET", api.PathStats, "")
	a.problem(t)
	id := a.header.Get("X-Request-Id")
	if a.status != 500 || strings.Contains(string(a.body), "secret_column") {
		t.Errorf("status %d, body %s", a.status, a.body)
	}
	if log := r.log.String(); !strings.Contains(log, "secret_column") || !strings.Contains(log, "request="+id) {
		t.Error("the log lacks the error or the request's id")
	}
}

func TestPanicsAreSurvivedAndCounted(t *testing.T) {
	t.Parallel()
	r := newRig(t, &brokenStore{Store: openStore(t)})
	a := r.do("GET", "/api/v1/jobs/x/tasks", "")
	a.problem(t)
	if a.status != 500 || strings.Contains(string(a.body), "a bug of ours") {
		t.Errorf("status %d, body %s", a.status, a.body)
	}
	if log := r.log.String(); !strings.Contains(log, "a bug of ours") || !strings.Contains(log, "hostile_test.go") {
		t.Error("the log lacks the panic or its stack")
	}
	if got := string(r.do("GET", "/metrics", "").body); !strings.Contains(got, "gmaps_http_panics_total 1") {
		t.Error("the panic was not counted")
	}
}

func TestLogsHoldNoSecrets(t *testing.T) {
	t.Parallel()
	r := newRig(t, openStore(t), func(c *manager.Config) { c.APIKeys = []api.Secret{testKey} })
	r.createJob("coffee")
	_, s := r.joinSpawned()
	r.do("GET", api.PathJobs, "", bearer("gk_wrong_key"))
	for _, secret := range []string{testKey, "gk_wrong_key", r.manager.SpawnToken(s.ID), "gs_" + string(s.ID)} {
		if strings.Contains(r.log.String(), secret) {
			t.Errorf("the log holds %q", secret)
		}
	}
}

func TestWorkerHandlerServesWorkersAlone(t *testing.T) {
	t.Parallel()
	r := newRig(t, openStore(t))
	for path, want := range map[string]int{"/": 404, "/api/v1/jobs": 404, "/metrics": 404, "/login": 404, "/healthz": 200, "/api/v1/worker/leases": 401} {
		w := httptest.NewRecorder()
		method := http.MethodGet
		if strings.HasPrefix(path, "/api/v1/worker") {
			method = http.MethodPost
		}
		r.manager.WorkerHandler().ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), method, path, strings.NewReader("{}")))
		if w.Code != want {
			t.Errorf("%s %s: %d, want %d", method, path, w.Code, want)
		}
	}
}
