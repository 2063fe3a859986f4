package manager_test

import (
	"net/http"
	"strings"
	"testing"

	"gmaps-scraper/api"
)

func TestDashboardIsBehindTheLogin(t *testing.T) {
	t.Parallel()
	r := newRig(t, openStore(t))
	r.do("POST", api.PathJobs, `{"lines":"coffee","name":"<script>alert(1)</script>"}`)
	html := header("Accept", "text/html")
	if a := r.do("GET", "/", "", bearer(""), html); a.status != http.StatusSeeOther || a.header.Get("Location") != "/login?next=%2F" {
		t.Errorf("without a login: %d to %q", a.status, a.header.Get("Location"))
	}
	if a := r.do("GET", "/login", "", bearer(""), html); a.status != 200 || !strings.Contains(string(a.body), "<form") {
		t.Errorf("login page: %d", a.status)
	}
	a := r.do("GET", "/", "", html)
	if page := string(a.body); a.status != 200 || !strings.Contains(page, "&lt;script&gt;") || strings.Contains(page, "<script>alert") {
		t.Errorf("jobs page: %d, or the name is not escaped", a.status)
	}
	for name, want := range map[string]string{"X-Frame-Options": "DENY", "X-Content-Type-Options": "nosniff", "Referrer-Policy": "same-origin", "Cache-Control": "no-store"} {
		if got := a.header.Get(name); got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
}
