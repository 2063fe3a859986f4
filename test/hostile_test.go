package test

import (
	"bytes"
	"errors"
	"net/http"
	"strings"
	"syscall"
	"testing"

	"gmaps-scraper/api"
)

func TestFaultHostileInputIsRefused(t *testing.T) {
	t.Parallel()
	for name, s := range map[string]func(*testing.T) servers{
		"SQLite":     func(*testing.T) servers { return servers{} },
		"PostgreSQL": func(t *testing.T) servers { return servers{postgres: realServers(t).postgres} },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, setup{servers: s(t), size: 10})
			for name, body := range hostile() {
				w.wantRefused(t, name, body)
			}
			page, err := w.client.Jobs(t.Context(), api.JobQuery{})
			if err != nil {
				t.Fatal(err)
			}
			if len(page.Jobs) != 0 {
				t.Errorf("%d jobs were stored", len(page.Jobs))
			}
		})
	}
}

func hostile() map[string]string {
	return map[string]string{
		"deep JSON":     strings.Repeat(`{"a":`, 200_000) + "1" + strings.Repeat("}", 200_000),
		"long keyword":  `{"lines": "` + strings.Repeat("k", 10<<10) + `"}`,
		"NUL":           `{"lines": "caf\u0000e"}`,
		"NUL in name":   `{"name": "caf\u0000e", "lines": "cafe"}`,
		"NUL in id":     `{"lines": "cafe #!#a\u0000b"}`,
		"no input":      `{}`,
		"bad zoom":      `{"lines": "cafe", "area": {"zoom": 99, "center": {"lat": 1, "lng": 2}}}`,
		"bad latitude":  `{"lines": "cafe", "area": {"center": {"lat": 91, "lng": 2}}}`,
		"unknown field": `{"lines": "cafe", "dept": 3}`,
		"not JSON":      `lines=cafe`,
		"100 MB":        `{"lines": "` + strings.Repeat("x", 100<<20) + `"}`,
	}
}

// wantRefused fails unless the Manager refuses the body of a job with a clear 4xx.
func (w *world) wantRefused(t *testing.T, name, body string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+w.addr+api.PathJobs, bytes.NewReader([]byte(body)))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Authorization", "Bearer "+w.key)
	res, err := http.DefaultClient.Do(req)
	if errors.Is(err, syscall.EPIPE) || errors.Is(err, syscall.ECONNRESET) {
		return // cut off in the middle of a body that is too large: refused as well
	}
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if res.StatusCode < 400 || res.StatusCode > 499 {
		t.Errorf("%s: answered %s, want a 4xx", name, res.Status)
	}
	if ct := res.Header.Get("Content-Type"); !strings.HasPrefix(ct, "application/problem+json") {
		t.Errorf("%s: answered %q, want a problem", name, ct)
	}
}
