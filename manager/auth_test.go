package manager_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"

	"gmaps-scraper/api"
	"gmaps-scraper/job"
	"gmaps-scraper/manager"
)

func TestWhoMayCallWhat(t *testing.T) {
	t.Parallel()
	r := newRig(t, openStore(t))
	r.createJob("coffee")
	spawn := r.planSpawn()
	token := r.manager.SpawnToken(spawn.ID)
	joined, err := r.client(token).Join(t.Context(), api.Join{SpawnID: spawn.ID, Nonce: "0123456789abcdef", Concurrency: 1})
	if err != nil {
		t.Fatal(err)
	}
	r.createJob("tea")
	other := r.planSpawn()
	join := func(id job.SpawnID) string {
		return `{"spawn_id":"` + string(id) + `","nonce":"0123456789abcdef","concurrency":1}`
	}
	const standing = `{"nonce":"0123456789abcdef","concurrency":1}`
	for name, c := range map[string]struct {
		token, method, path, body string
		want                      int
	}{
		"user, no key":                  {"", "GET", api.PathJobs, "", 401},
		"user, wrong key":               {"gk_wrong", "GET", api.PathJobs, "", 401},
		"user, right key":               {testKey, "GET", api.PathJobs, "", 200},
		"user, second key":              {"another", "GET", api.PathJobs, "", 200},
		"user, session":                 {joined.Session, "GET", api.PathJobs, "", 403},
		"user, spawn token":             {token, "GET", api.PathJobs, "", 403},
		"create with a session":         {joined.Session, "POST", api.PathJobs, `{"lines":"x"}`, 403},
		"key in the query":              {"", "GET", api.PathJobs + "?api_key=" + testKey, "", 401},
		"export, no key":                {"", "GET", "/api/v1/jobs/x/export", "", 401},
		"stats, no key":                 {"", "GET", api.PathStats, "", 401},
		"openapi, no key":               {"", "GET", "/openapi.json", "", 401},
		"metrics, no key":               {"", "GET", "/metrics", "", 401},
		"metrics, key":                  {testKey, "GET", "/metrics", "", 200},
		"metrics, session":              {joined.Session, "GET", "/metrics", "", 403},
		"unknown path, no key":          {"", "GET", "/api/v1/nothing", "", 401},
		"health, no key":                {"", "GET", "/healthz", "", 200},
		"lease with a key":              {testKey, "POST", api.PathLeases, `{"max":1}`, 403},
		"lease with a token":            {token, "POST", api.PathLeases, `{"max":1}`, 403},
		"lease with nothing":            {"", "POST", api.PathLeases, `{"max":1}`, 401},
		"lease with a forged session":   {joined.Session + "x", "POST", api.PathLeases, `{"max":1}`, 401},
		"lease with another's mac":      {strings.Replace(joined.Session, string(spawn.ID), string(other.ID), 1), "POST", api.PathLeases, `{"max":1}`, 401},
		"join with nothing":             {"", "POST", api.PathWorkerJoin, standing, 401},
		"join with a wrong key":         {"gk_wrong", "POST", api.PathWorkerJoin, standing, 401},
		"join standing with a key":      {testKey, "POST", api.PathWorkerJoin, standing, 200},
		"join standing with a token":    {token, "POST", api.PathWorkerJoin, standing, 403},
		"join a spawn with a key":       {testKey, "POST", api.PathWorkerJoin, join(spawn.ID), 403},
		"join with a forged token":      {"gw_forged", "POST", api.PathWorkerJoin, join(spawn.ID), 403},
		"join with the token of others": {token, "POST", api.PathWorkerJoin, join(other.ID), 403},
		"join with a session":           {joined.Session, "POST", api.PathWorkerJoin, join(spawn.ID), 403},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := r.in(t).do(c.method, c.path, c.body, bearer(c.token))
			if a.status != c.want {
				t.Fatalf("status %d, want %d; body %s", a.status, c.want, a.body)
			}
			if c.want >= 400 {
				a.problem(t)
			}
			if c.want == 401 && a.header.Get("Www-Authenticate") == "" {
				t.Error("401 without WWW-Authenticate")
			}
		})
	}
}

func TestNothingIsOpenWithoutAKey(t *testing.T) {
	t.Parallel()
	if _, err := manager.New(t.Context(), manager.Config{Store: openStore(t)}); err == nil || !strings.Contains(err.Error(), "api key") {
		t.Errorf("a manager without keys: %v", err)
	}
}

func TestFirstKeyIsMadeOnceAndAccepted(t *testing.T) {
	t.Parallel()
	s := openStore(t)
	key, created, err := manager.FirstKey(t.Context(), s)
	if err != nil || !created || len(key.Reveal()) < 40 {
		t.Fatalf("first: %v, %v", created, err)
	}
	if again, created, err := manager.FirstKey(t.Context(), s); err != nil || created || again != "" {
		t.Errorf("second: %v, %v", created, err)
	}
	r := newRig(t, s, func(c *manager.Config) { c.APIKeys = nil })
	if a := r.do("GET", api.PathJobs, "", bearer(key.Reveal())); a.status != 200 {
		t.Errorf("with the key: %d", a.status)
	}
	if a := r.do("GET", api.PathJobs, "", bearer(key.Reveal()+"x")); a.status != 401 {
		t.Errorf("with another: %d", a.status)
	}
	if strings.Contains(r.log.String(), key.Reveal()) {
		t.Error("the log holds the key")
	}
}

func TestOpenManagerStillKnowsItsWorkers(t *testing.T) {
	t.Parallel()
	r := newRig(t, openStore(t), func(c *manager.Config) { c.APIKeys, c.Open = nil, true })
	nobody := bearer("")
	if a := r.do("POST", api.PathJobs, `{"lines":"coffee"}`, nobody); a.status != 201 {
		t.Fatalf("create: %d %s", a.status, a.body)
	}
	if a := r.do("POST", api.PathLeases, `{"max":1}`, nobody); a.status != 403 {
		t.Errorf("lease without a session: %d", a.status)
	}
	if a := r.do("POST", api.PathWorkerJoin, `{"nonce":"0123456789abcdef","concurrency":1}`, nobody); a.status != 200 {
		t.Errorf("join: %d", a.status)
	}
	if a := r.do("POST", api.PathJobs, `{"lines":"x"}`, nobody, header("Sec-Fetch-Site", "cross-site")); a.status != 403 {
		t.Errorf("from another site's page: %d", a.status)
	}
}

func TestLogin(t *testing.T) {
	t.Parallel()
	r := newRig(t, openStore(t))
	form := header("Content-Type", "application/x-www-form-urlencoded")
	login := func(key, next string, edits ...func(*http.Request)) answer {
		body := url.Values{"key": {key}, "next": {next}}.Encode()
		return r.do("POST", "/login", body, append([]func(*http.Request){bearer(""), form}, edits...)...)
	}
	if a := login("wrong", "/jobs/1"); a.status != 303 || a.header.Get("Location") != "/login?error=1&next=%2Fjobs%2F1" || a.header.Get("Set-Cookie") != "" {
		t.Errorf("wrong key: %d to %q", a.status, a.header.Get("Location"))
	}
	if a := login(testKey, "/", header("Sec-Fetch-Site", "cross-site")); a.status != 403 {
		t.Errorf("from another site's page: %d", a.status)
	}
	for _, away := range []string{"https://evil.example/", "//evil.example/", `/\evil.example`, "javascript:alert(1)", ""} {
		if a := login(testKey, away); a.status != 303 || a.header.Get("Location") != "/" {
			t.Errorf("next %q leads to %q", away, a.header.Get("Location"))
		}
	}
	a := login(testKey, "/jobs/1?x=2")
	cookie := a.header.Get("Set-Cookie")
	if a.status != 303 || a.header.Get("Location") != "/jobs/1?x=2" {
		t.Fatalf("right key: %d to %q", a.status, a.header.Get("Location"))
	}
	for _, flag := range []string{"gmaps_session=", "HttpOnly", "SameSite=Strict", "Path=/"} {
		if !strings.Contains(cookie, flag) {
			t.Errorf("cookie %q lacks %s", cookie, flag)
		}
	}
	if strings.Contains(cookie, testKey) {
		t.Error("the cookie holds the key")
	}
	pair, _, _ := strings.Cut(cookie, ";")
	with := header("Cookie", pair)
	if a := r.do("GET", api.PathJobs, "", bearer(""), with); a.status != 200 {
		t.Errorf("with the cookie: %d", a.status)
	}
	if a := r.do("POST", api.PathJobs, `{"lines":"x"}`, bearer(""), with, header("Sec-Fetch-Site", "cross-site")); a.status != 403 {
		t.Errorf("with the cookie from another site's page: %d", a.status)
	}
	if a := r.do("POST", api.PathJobs, `{"lines":"x"}`, bearer(""), with, header("Sec-Fetch-Site", "same-origin")); a.status != 201 {
		t.Errorf("with the cookie from our page: %d", a.status)
	}
	if a := r.do("GET", api.PathJobs, "", bearer(""), header("Cookie", strings.Replace(pair, "=", "=9", 1))); a.status != 401 {
		t.Errorf("with a forged cookie: %d", a.status)
	}
	if a := r.do("GET", "/jobs/7?x=1", "", bearer(""), header("Accept", "text/html")); a.status != 303 || a.header.Get("Location") != "/login?next=%2Fjobs%2F7%3Fx%3D1" {
		t.Errorf("a page without login: %d to %q", a.status, a.header.Get("Location"))
	}
	if a := r.do("POST", "/logout", "", bearer(""), form, with); a.status != 303 || !strings.Contains(a.header.Get("Set-Cookie"), "gmaps_session=;") {
		t.Errorf("logout: %d, cookie %q", a.status, a.header.Get("Set-Cookie"))
	}
	other := newRig(t, r.store, func(c *manager.Config) { c.APIKeys = []api.Secret{"new-key"} })
	if a := other.do("GET", api.PathJobs, "", bearer(""), with); a.status != 401 {
		t.Errorf("with the cookie of a key that was withdrawn: %d", a.status)
	}
}

func TestGuessingKeysIsSlow(t *testing.T) {
	t.Parallel()
	r := newRig(t, openStore(t))
	r.createJob("coffee")
	w, _ := r.joinSpawned()
	refused := false
	for range 30 {
		a := r.do("GET", api.PathJobs, "", bearer("guess"))
		if a.status == http.StatusTooManyRequests {
			refused = true
			if a.header.Get("Retry-After") == "" {
				t.Error("429 without Retry-After")
			}
			break
		}
	}
	if !refused {
		t.Error("30 wrong keys were all looked at")
	}
	if _, err := w.Lease(t.Context(), api.LeaseRequest{Max: 1}); err != nil {
		t.Errorf("a worker's session suffers from it: %v", err)
	}
}

func TestGuessesOfOthersDoNotShutOutAMadeKey(t *testing.T) {
	t.Parallel()
	s := openStore(t)
	key, _, err := manager.FirstKey(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	r := newRig(t, s, func(c *manager.Config) { c.APIKeys = []api.Secret{key, "chosen"} })
	status := func(key string) int { return r.do("GET", api.PathJobs, "", bearer(key)).status }
	for tries := 0; status("guess") != http.StatusTooManyRequests; tries++ {
		if tries == 30 {
			t.Fatal("30 wrong keys were all looked at")
		}
	}
	if got := status(key.Reveal()); got != http.StatusOK {
		t.Errorf("the key that was made: got %d, want 200", got)
	}
	if got := status("chosen"); got != http.StatusTooManyRequests {
		t.Errorf("a key that may be guessed: got %d, want 429: it would be found by trying on", got)
	}
}

func TestOpenManagerOnLoopbackAnswersToNoNameOfTheWeb(t *testing.T) {
	t.Parallel()
	r := newRig(t, openStore(t), func(c *manager.Config) {
		c.APIKeys, c.Open, c.ManagerURL = nil, true, "http://Gmaps.example.org:8080"
	})
	at := func(host string) int {
		return r.do("POST", api.PathJobs, `{"lines":"coffee"}`, func(q *http.Request) { q.Host = host }).status
	}
	for _, host := range []string{"localhost", "localhost:8080", "gmaps.localhost:80", "127.0.0.1:8080", "[::1]:8080", "[::1]", "192.0.2.7", "manager:8080", "gmaps.example.org"} {
		if got := at(host); got != http.StatusCreated {
			t.Errorf("host %s: got %d, want 201", host, got)
		}
	}
	for _, host := range []string{"evil.example", "evil.example:8080", "127.0.0.1.evil.example", "localhost.evil.example", "evil.example.", "EVIL.example"} {
		if got := at(host); got != http.StatusMisdirectedRequest {
			t.Errorf("host %s: got %d, want 421", host, got)
		}
	}
	closed := newRig(t, openStore(t))
	if got := closed.do("GET", api.PathJobs, "", func(q *http.Request) { q.Host = "evil.example" }).status; got != http.StatusOK {
		t.Errorf("with authentication: got %d, want 200: the key says enough", got)
	}
}
