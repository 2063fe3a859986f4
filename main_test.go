package main

import (
	"bytes"
	"context"
	"encoding/csv"
	"flag"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"gmaps-scraper/gmaps/simulator"
)

// try runs the program with args as a shell would and returns its exit code and output.
func try(ctx context.Context, stdin string, env map[string]string, args ...string) (code int, stdout, stderr string) {
	var out, errs bytes.Buffer
	p := program{stdin: strings.NewReader(stdin), stdout: &out, stderr: &errs, getenv: func(k string) string { return env[k] }}
	code = p.run(ctx, args)
	return code, out.String(), errs.String()
}

func TestUsageErrorsExit2AndNameTheFlag(t *testing.T) {
	t.Parallel()
	missing := filepath.Join(t.TempDir(), "missing", "x")
	for _, c := range []struct {
		name  string
		stdin string
		env   map[string]string
		args  []string
		want  []string
	}{
		{"nothing to do", "", nil, nil, []string{"-input", "-manager", "-help"}},
		{"near flag", "", nil, []string{"-inptu", "x"}, []string{"-inptu", "did you mean -input"}},
		{"near flag after a value", "", nil, []string{"-input", "-", "-dept", "3"}, []string{"-dept", "did you mean -depth"}},
		{"mode without its dash", "", nil, []string{"manager"}, []string{"did you mean -manager"}},
		{"duration without a unit", "", nil, []string{"-input", "-", "-max-time", "5"}, []string{"-max-time", "20m"}},
		{"reviews without the asking", "", nil, []string{"-input", "-", "-max-reviews", "5"}, []string{"-max-reviews", "-extra-reviews"}},
		{"far flag", "", nil, []string{"-qqqqqqqqqq"}, []string{"-qqqqqqqqqq", "-help"}},
		{"missing value", "", nil, []string{"-input"}, []string{"-input", "value"}},
		{"stray argument", "", nil, []string{"-input", "-", "cafe"}, []string{"cafe"}},
		{"not a number", "", nil, []string{"-input", "-", "-depth", "many"}, []string{"depth"}},
		{"bad environment", "", map[string]string{"GMAPS_DEPTH": "many"}, []string{"-input", "-"}, []string{"GMAPS_DEPTH"}},
		{"flag of another mode", "", nil, []string{"-manager", "-depth", "3"}, []string{"-depth", "one shot"}},
		{"two modes", "", nil, []string{"-manager", "-worker"}, []string{"-manager", "-worker"}},
		{"geo", "", nil, []string{"-input", "-", "-geo", "91,0"}, []string{"-geo", "latitude 91"}},
		{"geo words", "", nil, []string{"-input", "-", "-geo", "here"}, []string{"-geo", "52.52,13.405"}},
		{"geo NaN", "", nil, []string{"-input", "-", "-geo", "NaN,3"}, []string{"-geo"}},
		{"zoom", "", nil, []string{"-input", "-", "-geo", "1,2", "-zoom", "22"}, []string{"-zoom", "21"}},
		{"zoom 0", "", nil, []string{"-input", "-", "-geo", "1,2", "-zoom", "0"}, []string{"-zoom"}},
		{"zoom alone", "", nil, []string{"-input", "-", "-zoom", "12"}, []string{"-zoom", "-geo"}},
		{"radius alone", "", nil, []string{"-input", "-", "-radius", "12"}, []string{"-radius"}},
		{"depth", "", nil, []string{"-input", "-", "-depth", "-1"}, []string{"-depth", "-1"}},
		{"bbox upside down", "", nil, []string{"-input", "-", "-grid-bbox", "2,1,1,2"}, []string{"-grid-bbox"}},
		{"bbox of three", "", nil, []string{"-input", "-", "-grid-bbox", "2,1,1"}, []string{"-grid-bbox", "3 numbers"}},
		{"detail", "", nil, []string{"-input", "-", "-detail", "some"}, []string{"-detail", "always"}},
		{"format", "", nil, []string{"-input", "-", "-format", "doc"}, []string{"-format", "csv"}},
		{"concurrency", "", nil, []string{"-input", "-", "-c", "0"}, []string{"-c", "below 1"}},
		{"max workers", "", nil, []string{"-manager", "-spawner-max-workers", "-1"}, []string{"-spawner-max-workers", "below 0"}},
		{"lambda without function", "", nil, []string{"-manager", "-spawner", "lambda"}, []string{"-spawner-lambda-function", "make lambda"}},
		{"lambda without a way back", "", nil, []string{"-manager", "-spawner", "lambda", "-spawner-lambda-function", "f"}, []string{"-spawner-manager-url", "from there"}},
		{"lambda told to call itself", "", nil, []string{"-manager", "-spawner", "lambda", "-spawner-lambda-function", "f", "-spawner-manager-url", "http://localhost:8080"}, []string{"-spawner-manager-url", "the function itself"}},
		{"lambda and proxies", "", nil, []string{"-manager", "-spawner", "lambda", "-spawner-lambda-function", "f", "-spawner-manager-url", "https://m.example", "-proxies", "http://p:1"}, []string{"-proxies", "GMAPS_PROXIES", "function's own environment"}},
		{"lambda and a rate of the environment", "", map[string]string{"GMAPS_RATE": "3"}, []string{"-manager", "-spawner", "lambda", "-spawner-lambda-function", "f", "-spawner-manager-url", "https://m.example"}, []string{"-rate", "GMAPS_RATE"}},
		{"lambda secret that is none", "", nil, []string{"-manager", "-spawner", "lambda", "-spawner-lambda-function", "f", "-spawner-lambda-rabbitmq-secret", "amqp://u:hunter2@h"}, []string{"-spawner-lambda-rabbitmq-secret", ":secret:"}},
		{"lambda invocation", "", nil, []string{"-manager", "-spawner", "lambda", "-spawner-lambda-function", "f", "-spawner-lambda-invocation", "Sync"}, []string{"-spawner-lambda-invocation", "RequestResponse"}},
		{"lambda max-conc 0", "", nil, []string{"-manager", "-spawner", "lambda", "-spawner-lambda-function", "f", "-spawner-lambda-max-conc", "0"}, []string{"-spawner-lambda-max-conc", "below 1"}},
		{"lambda event age", "", nil, []string{"-manager", "-spawner", "lambda", "-spawner-lambda-function", "f", "-spawner-lambda-event-age", "5s"}, []string{"-spawner-lambda-event-age", "below 60"}},
		{"empty image", "", nil, []string{"-manager", "-spawner", "docker", "-spawner-image", ""}, []string{"-spawner-image", "empty"}},
		{"too little memory", "", nil, []string{"-manager", "-spawner", "docker", "-spawner-memory", "5"}, []string{"-spawner-memory", "6"}},
		{"pull policy", "", nil, []string{"-manager", "-spawner", "docker", "-spawner-pull", "often"}, []string{"-spawner-pull", "missing"}},
		{"constraint without a swarm", "", nil, []string{"-manager", "-spawner", "docker", "-spawner-constraint", "node.role==worker"}, []string{"-spawner-constraint", "swarm"}},
		{"empty constraint", "", nil, []string{"-manager", "-spawner", "swarm", "-spawner-constraint", "a==b,"}, []string{"spawner-constraint", "empty"}},
		{"redis password alone", "", nil, []string{"-manager", "-redis-password", "hunter2"}, []string{"-redis-password", "-redis-addr"}},
		{"sweep too often", "", nil, []string{"-manager", "-sweep-interval", "1ms"}, []string{"-sweep-interval", "100ms"}},
		{"spawner", "", nil, []string{"-manager", "-spawner", "kubernetes"}, []string{"-spawner", "kubernetes", "process"}},
		{"address", "", nil, []string{"-manager", "-addr", "8080"}, []string{"-addr", "8080"}},
		{"error rate", "", nil, []string{"-simulator", "-error-rate", "2"}, []string{"-error-rate", "above 1"}},
		{"input file", "", nil, []string{"-input", missing}, []string{"-input", missing}},
		{"results folder", "cafe", nil, []string{"-input", "-", "-results", missing}, []string{"-results"}},
		{"empty input", "# nothing\n\n", nil, []string{"-input", "-"}, []string{"-input", "no query"}},
		{"NUL", "cafe\nca\x00fe\n", nil, []string{"-input", "-"}, []string{"-input", "line 2"}},
		{"not UTF-8", "caf\xff\n", nil, []string{"-input", "-"}, []string{"-input", "line 1", "UTF-8"}},
		{"long keyword", "\n" + strings.Repeat("k", 10<<10), nil, []string{"-input", "-"}, []string{"-input", "line 2"}},
		{"columns", "cafe", nil, []string{"-input", "-", "-csv-columns", "titel"}, []string{"-csv-columns", "title"}},
		{"resume nothing", "cafe", nil, []string{"-input", "-", "-resume", "-results", filepath.Join(t.TempDir(), "r.csv")}, []string{"-resume"}},
		{"maps url", "cafe", nil, []string{"-input", "-", "-maps-url", "ftp://x"}, []string{"url"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			code, stdout, stderr := try(t.Context(), c.stdin, c.env, c.args...)
			if code != exitUsage {
				t.Errorf("exit %d, want %d\n%s", code, exitUsage, stderr)
			}
			for _, w := range c.want {
				if !strings.Contains(stderr, w) {
					t.Errorf("stderr does not name %q: %s", w, stderr)
				}
			}
			if strings.Contains(stdout+stderr, "hunter2") {
				t.Errorf("a password is shown: %s", stderr)
			}
		})
	}
}

func TestEveryFlagStandsInOneGroupOfHelp(t *testing.T) {
	t.Parallel()
	var listed []string
	for _, g := range flagGroups {
		listed = append(listed, g.flags...)
	}
	newFlags(&config{}).VisitAll(func(f *flag.Flag) {
		if n := count(listed, f.Name); n != 1 && f.Name != "openapi" {
			t.Errorf("-%s stands in %d groups", f.Name, n)
		}
	})
	_, stdout, _ := try(t.Context(), "", nil, "-help")
	for _, name := range listed {
		if !strings.Contains(stdout, "  -"+name+" ") {
			t.Errorf("-help does not show -%s", name)
		}
	}
}

func count(list []string, s string) int {
	n := 0
	for _, e := range list {
		if e == s {
			n++
		}
	}
	return n
}

// TestContractFlagsHaveTheirDefaults holds the spawner's flags to the published table.
func TestContractFlagsHaveTheirDefaults(t *testing.T) {
	t.Parallel()
	fs := newFlags(&config{})
	for name, want := range map[string]string{
		"spawner": "none", "spawner-image": "gmaps-scraper:latest", "spawner-network": "gmaps-network", "spawner-concurrency": "4",
		"spawner-max-workers": "0", "spawner-auto-remove": "true", "spawner-manager-url": "", "spawner-lambda-function": "",
		"spawner-lambda-region": "", "spawner-lambda-invocation": "Event", "spawner-lambda-max-conc": "100",
		"manager": "false", "dsn": "", "rabbitmq-url": "", "redis-addr": "", "spawner-share-services": "true",
	} {
		f := fs.Lookup(name)
		if f == nil {
			t.Errorf("no flag -%s", name)
		} else if f.DefValue != want {
			t.Errorf("-%s is %q by default, want %q", name, f.DefValue, want)
		}
	}
}

func TestFlagWinsOverEnvironment(t *testing.T) {
	t.Parallel()
	env := func(k string) string { return map[string]string{"GMAPS_DEPTH": "7", "GMAPS_LANG": "el"}[k] }
	c, err := parseFlags([]string{"-input", "-", "-depth", "3"}, env)
	if err != nil {
		t.Fatal(err)
	}
	if c.depth != 3 || c.lang != "el" {
		t.Errorf("depth %d, lang %s: want 3 from the flag and el from the environment", c.depth, c.lang)
	}
}

func TestSpawnedWorkersFetchAsTheirManagerWasTold(t *testing.T) {
	t.Parallel()
	list := filepath.Join(t.TempDir(), "proxies")
	if err := os.WriteFile(list, []byte("# ours\nhttp://a:1\nsocks5h://u:p@b:2\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := parseFlags([]string{"-manager", "-maps-url", "http://127.0.0.1:9", "-rate", "3", "-proxies", "@" + list, "-quarantine-dir", "q", "-spawner", "process",
		"-rabbitmq-url", "amqp://u:p@mq/", "-redis-addr", "r:6379", "-redis-password", "hunter2", "-redis-tls"}, func(string) string { return "" })
	if err != nil {
		t.Fatal(err)
	}
	env, secrets, err := c.workerVars()
	if err != nil {
		t.Fatal(err)
	}
	for name, value := range env {
		if strings.Contains(value, "u:p") || strings.Contains(value, "hunter2") {
			t.Errorf("%s stands in the open", name)
		}
	}
	worker, err := parseFlags([]string{"-worker"}, func(k string) string { return env[k] + secrets[k] })
	if err != nil {
		t.Fatal(err)
	}
	if worker.mapsURL != c.mapsURL || worker.ratePerSecond != 3 || worker.proxies != "http://a:1,socks5h://u:p@b:2" || worker.quarantineDir != "q" {
		t.Errorf("the worker fetches with %+v", worker)
	}
	if worker.rabbitmqURL != c.rabbitmqURL || worker.redisAddr != c.redisAddr || worker.redisPassword != "hunter2" || !worker.redisTLS {
		t.Errorf("the worker shares %q, %q", worker.rabbitmqURL, worker.redisAddr)
	}
	c.spawnerShareServices = false
	if _, secrets, err = c.workerVars(); err != nil || secrets["GMAPS_RABBITMQ_URL"]+secrets["GMAPS_REDIS_ADDR"]+secrets["GMAPS_REDIS_PASSWORD"] != "" {
		t.Errorf("unshared servers are told all the same, err %v", err)
	}
}

// startSimulator serves size made-up places.
func startSimulator(t *testing.T, config simulator.Config) string {
	t.Helper()
	s, err := simulator.New(config)
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(s)
	t.Cleanup(server.Close)
	return server.URL
}

func shardLines(set string, shards int) string {
	var b strings.Builder
	for i := range shards {
		fmt.Fprintf(&b, "synthetic:%s %d/%d #!#shard-%d\n", set, i+1, shards, i+1)
	}
	return b.String()
}

func readCSV(t *testing.T, name string) [][]string {
	t.Helper()
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	rows, err := csv.NewReader(f).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	return rows
}

func TestOneShotWritesEveryPlaceOnce(t *testing.T) {
	t.Parallel()
	url := startSimulator(t, simulator.Config{Synthetic: 500, Seed: 1, ErrorRate: 0.05})
	out := filepath.Join(t.TempDir(), "out.csv")
	code, _, stderr := try(t.Context(), shardLines("once", 5), nil, "-input", "-", "-maps-url", url, "-results", out, "-max-attempts", "20")
	if code != exitOK {
		t.Fatalf("exit %d: %s", code, stderr)
	}
	rows := readCSV(t, out)
	column := slices.Index(rows[0], "data_id")
	var ids []string
	for _, r := range rows[1:] {
		ids = append(ids, r[column])
	}
	slices.Sort(ids)
	if len(ids) != 500 || len(slices.Compact(ids)) != 500 {
		t.Errorf("%d rows, want 500 distinct", len(ids))
	}
	if !strings.Contains(stderr, "500 places") {
		t.Errorf("the summary does not tell of 500 places: %s", stderr)
	}
	if left, _ := filepath.Glob(filepath.Join(filepath.Dir(out), ".*")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestOneShotInterruptedGoesOnWithResume(t *testing.T) {
	t.Parallel()
	url := startSimulator(t, simulator.Config{Synthetic: 600, Seed: 1, Latency: 20 * time.Millisecond})
	out := filepath.Join(t.TempDir(), "out.csv")
	args := []string{"-input", "-", "-maps-url", url, "-results", out, "-c", "2"}
	lines := shardLines("resume", 12)

	ctx, interrupt := context.WithCancel(t.Context())
	go func() {
		defer interrupt()
		for info, err := os.Stat(out); err != nil || info.Size() < 4096; info, err = os.Stat(out) {
			if ctx.Err() != nil {
				return
			}
			time.Sleep(5 * time.Millisecond)
		}
	}()
	code, _, stderr := try(ctx, lines, nil, args...)
	if code != exitInterrupted {
		t.Fatalf("exit %d, want %d: %s", code, exitInterrupted, stderr)
	}
	some := len(readCSV(t, out)) - 1
	if some == 0 || some >= 600 {
		t.Fatalf("%d rows after the interrupt: it came too early or too late to show anything", some)
	}
	if !strings.Contains(stderr, "-resume") {
		t.Errorf("the summary does not name -resume: %s", stderr)
	}

	if code, _, stderr := try(t.Context(), lines, nil, args...); code != exitUsage || !strings.Contains(stderr, "-resume") {
		t.Errorf("a second run without -resume: exit %d: %s", code, stderr)
	}
	if code, _, stderr := try(t.Context(), shardLines("other", 2), nil, append(args, "-resume")...); code != exitUsage || !strings.Contains(stderr, "other queries") {
		t.Errorf("resume with other queries: exit %d: %s", code, stderr)
	}
	code, _, stderr = try(t.Context(), lines, nil, append(args, "-resume")...)
	if code != exitOK {
		t.Fatalf("resume: exit %d: %s", code, stderr)
	}
	rows := readCSV(t, out)
	var ids []string
	for _, r := range rows[1:] {
		ids = append(ids, r[slices.Index(rows[0], "data_id")])
	}
	slices.Sort(ids)
	if len(ids) != 600 || len(slices.Compact(ids)) != 600 {
		t.Errorf("%d rows after resume, want 600 distinct", len(ids))
	}
}

func TestOneShotLeavesTheRestOfItsDataFolderAlone(t *testing.T) {
	t.Parallel()
	url := startSimulator(t, simulator.Config{Synthetic: 20, Seed: 1})
	dir := t.TempDir()
	precious := filepath.Join(dir, "thesis.txt")
	if err := os.WriteFile(precious, []byte("years of work"), 0o600); err != nil {
		t.Fatal(err)
	}
	code, _, stderr := try(t.Context(), shardLines("once", 1), nil, "-input", "-", "-maps-url", url, "-results", filepath.Join(t.TempDir(), "out.csv"), "-data-dir", dir)
	if code != exitOK {
		t.Fatalf("exit %d: %s", code, stderr)
	}
	if _, err := os.Stat(precious); err != nil {
		t.Errorf("a run that was done removed what was not its own: %v", err)
	}
}

func TestOneShotToStdout(t *testing.T) {
	t.Parallel()
	url := startSimulator(t, simulator.Config{Synthetic: 40, Seed: 1})
	code, stdout, stderr := try(t.Context(), "synthetic 1/1", nil, "-input", "-", "-maps-url", url, "-format", "ndjson")
	if code != exitOK {
		t.Fatalf("exit %d: %s", code, stderr)
	}
	if n := strings.Count(strings.TrimSpace(stdout), "\n") + 1; n != 40 {
		t.Errorf("%d lines, want 40", n)
	}
}

func TestOneShotTellsWhatFailed(t *testing.T) {
	t.Parallel()
	url := startSimulator(t, simulator.Config{Synthetic: 40, Seed: 1, BlockRate: 1})
	out := filepath.Join(t.TempDir(), "out.csv")
	code, _, stderr := try(t.Context(), "synthetic 1/1", nil, "-input", "-", "-maps-url", url, "-results", out, "-retries", "1", "-max-attempts", "1")
	if code != exitFailed {
		t.Errorf("exit %d, want %d: a blocked search is not an empty one\n%s", code, exitFailed, stderr)
	}
	if !strings.Contains(stderr, "1 failed") {
		t.Errorf("the summary does not tell of the failure: %s", stderr)
	}
}

func TestOneShotStopsAtMaxResults(t *testing.T) {
	t.Parallel()
	url := startSimulator(t, simulator.Config{Synthetic: 300, Seed: 1})
	out := filepath.Join(t.TempDir(), "out.csv")
	code, _, stderr := try(t.Context(), shardLines("max", 3), nil, "-input", "-", "-maps-url", url, "-results", out, "-max-results", "50")
	if code != exitOK {
		t.Errorf("exit %d: %s", code, stderr)
	}
	if rows := readCSV(t, out); len(rows) != 51 {
		t.Errorf("%d rows, want 50 and the head", len(rows))
	}
}

func TestOneShotStopsWhenNothingNewComes(t *testing.T) {
	t.Parallel()
	url := startSimulator(t, simulator.Config{Synthetic: 40, Seed: 1, Fault: func(*http.Request) simulator.Fault { return simulator.FaultHang }})
	out := filepath.Join(t.TempDir(), "out.csv")
	code, _, stderr := try(t.Context(), "synthetic 1/1", nil, "-input", "-", "-maps-url", url, "-results", out, "-exit-on-inactivity", "300ms")
	if code != exitFailed || !strings.Contains(stderr, "-exit-on-inactivity") || !strings.Contains(stderr, "-resume") {
		t.Errorf("exit %d: %s", code, stderr)
	}
}

// until runs the program until its stderr holds text, then ends it as a signal does.
func until(t *testing.T, text string, args ...string) (code int, stderr string) {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	out := &watched{text: text, found: stop}
	p := program{stdin: strings.NewReader(""), stdout: out, stderr: out, getenv: func(string) string { return "" }}
	code = p.run(ctx, args)
	return code, out.b.String()
}

// watched calls found as soon as text was written.
type watched struct {
	mu    sync.Mutex
	b     bytes.Buffer
	text  string
	found func()
}

func (w *watched) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.b.Write(p)
	if strings.Contains(w.b.String(), w.text) {
		w.found()
	}
	return len(p), nil
}

func TestManagerShowsItsKeyOnce(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	args := []string{"-manager", "-addr", "127.0.0.1:0", "-data-dir", dir, "-spawner", "process"}
	code, first := until(t, "manager started", args...)
	if code != exitOK || strings.Count(first, "API key") != 1 {
		t.Errorf("first start: exit %d: %s", code, first)
	}
	if code, second := until(t, "manager started", args...); code != exitOK || strings.Contains(second, "API key") {
		t.Errorf("second start: exit %d: %s", code, second)
	}
}

func TestSecondManagerOfADataFolderIsRefused(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	started := make(chan struct{})
	out := &watched{text: "manager started", found: sync.OnceFunc(func() { close(started) })}
	first := program{stdin: strings.NewReader(""), stdout: out, stderr: out, getenv: func(string) string { return "" }}
	ended := make(chan int)
	go func() { ended <- first.run(ctx, []string{"-manager", "-addr", "127.0.0.1:0", "-data-dir", dir}) }()
	<-started
	code, _, stderr := try(t.Context(), "", nil, "-manager", "-addr", "127.0.0.1:0", "-data-dir", dir)
	if code != exitFailed || !strings.Contains(stderr, "use") {
		t.Errorf("exit %d: %s", code, stderr)
	}
	stop()
	if code := <-ended; code != exitOK {
		t.Errorf("the first Manager: exit %d: %s", code, out.b.String())
	}
}

func TestWrongColumnLeavesEarlierRowsAlone(t *testing.T) {
	t.Parallel()
	out := filepath.Join(t.TempDir(), "out.csv")
	if err := os.WriteFile(out, []byte("rows"), 0o600); err != nil {
		t.Fatal(err)
	}
	code, _, stderr := try(t.Context(), "cafe", nil, "-input", "-", "-results", out, "-csv-columns", "foo,title")
	if code != exitUsage {
		t.Errorf("exit %d: %s", code, stderr)
	}
	if b, err := os.ReadFile(out); err != nil || string(b) != "rows" {
		t.Errorf("the earlier rows are %q, %v", b, err)
	}
}

func TestDoctorNamesTheMend(t *testing.T) {
	t.Parallel()
	url := startSimulator(t, simulator.Config{Synthetic: 1, Seed: 1})
	code, stdout, stderr := try(t.Context(), "", nil, "doctor", "-data-dir", t.TempDir(), "-addr", "127.0.0.1:0", "-maps-url", url, "-spawner", "process")
	if code != exitOK {
		t.Errorf("exit %d: %s%s", code, stdout, stderr)
	}
	code, stdout, _ = try(t.Context(), "", nil, "-doctor", "-data-dir", t.TempDir(), "-addr", "127.0.0.1:0", "-maps-url", "http://127.0.0.1:1")
	if code != exitFailed || !strings.Contains(stdout, "FAIL  google maps") || !strings.Contains(stdout, "-proxies") {
		t.Errorf("exit %d: %s", code, stdout)
	}
}

// lambdaEndpoint answers as a function that is Pending until fit.
func lambdaEndpoint(t *testing.T, fit bool) {
	t.Helper()
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost {
			w.WriteHeader(http.StatusNoContent)
			return
		}
		state := map[bool]string{true: "Active", false: "Pending"}[fit]
		fmt.Fprintf(w, `{"Configuration":{"State":%q,"Runtime":"provided.al2023","PackageType":"Zip","Timeout":900,"MemorySize":1024,"Architectures":["arm64"]}}`, state)
	}))
	t.Cleanup(srv.Close)
	for k, v := range map[string]string{
		"AWS_ENDPOINT_URL_LAMBDA": srv.URL, "AWS_ACCESS_KEY_ID": "AKIDEXAMPLE", "AWS_SECRET_ACCESS_KEY": "x", "AWS_PROFILE": "", "AWS_EC2_METADATA_DISABLED": "true",
		"AWS_CONFIG_FILE": t.TempDir() + "/none", "AWS_SHARED_CREDENTIALS_FILE": t.TempDir() + "/none",
	} {
		t.Setenv(k, v)
	}
}

func TestDoctorKnowsLambda(t *testing.T) {
	args := []string{"doctor", "-data-dir", t.TempDir(), "-addr", "127.0.0.1:0", "-maps-url", "http://127.0.0.1:1", "-spawner", "lambda", "-spawner-lambda-function", "gmaps-worker", "-spawner-lambda-region", "eu-central-1", "-spawner-manager-url", "https://m.example"}
	lambdaEndpoint(t, true)
	_, stdout, _ := try(t.Context(), "", nil, args...)
	for _, want := range []string{"ok    spawner", "lambda: at most 100 workers at a time, which call the Manager at https://m.example", "may be invoked (Event)", "provided.al2023, arm64, 1024 MB, timeout 900 s"} {
		if !strings.Contains(stdout, want) {
			t.Errorf("the doctor does not say %q:\n%s", want, stdout)
		}
	}
	lambdaEndpoint(t, false)
	if _, stdout, _ = try(t.Context(), "", nil, args...); !strings.Contains(stdout, "FAIL  spawner") || !strings.Contains(stdout, "Pending") || !strings.Contains(stdout, "wait a minute") {
		t.Errorf("the doctor does not name the mend:\n%s", stdout)
	}
	t.Log(stdout)
}

func TestFunctionsAreToldNoPassword(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name  string
		flags []string
		want  map[string]string
		notes int
	}{
		{"nothing", nil, map[string]string{}, 0},
		{"plain", []string{"-rabbitmq-url", "amqp://mq:5672/", "-redis-addr", "r:6379"}, map[string]string{"GMAPS_RABBITMQ_URL": "amqp://mq:5672/", "GMAPS_REDIS_ADDR": "r:6379"}, 0},
		{"passwords", []string{"-rabbitmq-url", "amqps://u:hunter2@mq/", "-redis-addr", "rediss://u:hunter2@r:6379"}, map[string]string{"GMAPS_REDIS_ADDR": "rediss://u@r:6379"}, 2},
		{"TLS and a password apart", []string{"-redis-addr", "r:6379", "-redis-tls", "-redis-password", "hunter2"}, map[string]string{"GMAPS_REDIS_ADDR": "rediss://r:6379"}, 1},
		{"secret", []string{"-rabbitmq-url", "amqps://u:hunter2@mq/", "-spawner-lambda-rabbitmq-secret", "arn:aws:secretsmanager:eu-central-1:123456789012:secret:mq-AbCdEf:url"},
			map[string]string{"GMAPS_RABBITMQ_URL": "arn:aws:secretsmanager:eu-central-1:123456789012:secret:mq-AbCdEf:url"}, 0},
		{"withheld", []string{"-rabbitmq-url", "amqps://u:hunter2@mq/", "-spawner-share-services=false"}, map[string]string{}, 0},
	} {
		args := append([]string{"-manager", "-spawner", "lambda", "-spawner-lambda-function", "f", "-spawner-manager-url", "https://m.example"}, c.flags...)
		conf, err := parseFlags(args, func(string) string { return "" })
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		env, secrets, err := conf.workerVars()
		if diff := cmp.Diff(c.want, secrets); diff != "" || len(env) != 0 || err != nil {
			t.Errorf("%s: env %v, %v, secrets (-want +got):\n%s", c.name, env, err, diff)
		}
		if notes := conf.untold(); len(notes) != c.notes || strings.Contains(strings.Join(notes, ""), "hunter2") {
			t.Errorf("%s: notes %q, want %d", c.name, notes, c.notes)
		}
	}
}

func TestLoopbackEndpointNeedsNoManagerURL(t *testing.T) {
	t.Parallel()
	args := []string{"-manager", "-spawner", "lambda", "-spawner-lambda-function", "f"}
	for endpoint, ok := range map[string]bool{"http://127.0.0.1:9001": true, "http://localhost:4566": true, "http://[::1]:9001": true, "https://lambda.eu-central-1.amazonaws.com": false, "": false} {
		_, err := parseFlags(args, func(name string) string {
			if name == "AWS_ENDPOINT_URL" {
				return endpoint
			}
			return ""
		})
		if (err == nil) != ok {
			t.Errorf("AWS_ENDPOINT_URL=%s: %v", endpoint, err)
		}
	}
}

func TestHealthFollowsTheManager(t *testing.T) {
	t.Parallel()
	status := http.StatusOK
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/healthz" {
			t.Errorf("asked for %s", r.URL)
		}
		w.WriteHeader(status)
	}))
	if code, _, stderr := try(t.Context(), "", nil, "-health", "-manager-url", server.URL); code != exitOK {
		t.Errorf("healthy: exit %d: %s", code, stderr)
	}
	// It runs with its container's environment, in which the Manager's command line is not.
	env := map[string]string{"GMAPS_REDIS_PASSWORD": "hunter2", "GMAPS_REDIS_TLS": "true", "GMAPS_API_KEY": "k", "GMAPS_RABBITMQ_URL": "amqps://u:p@mq:5671"}
	if code, _, stderr := try(t.Context(), "", env, "-health", "-manager-url", server.URL); code != exitOK {
		t.Errorf("healthy, with secrets of the Manager alone: exit %d: %s", code, stderr)
	}
	status = http.StatusServiceUnavailable
	if code, _, stderr := try(t.Context(), "", nil, "-health", "-manager-url", server.URL); code != exitFailed || !strings.Contains(stderr, "503") {
		t.Errorf("unhealthy: exit %d: %s", code, stderr)
	}
	server.Close()
	if code, _, stderr := try(t.Context(), "", nil, "-health", "-manager-url", server.URL); code != exitFailed || stderr == "" {
		t.Errorf("gone: exit %d: %s", code, stderr)
	}
}

func TestCompletionKnowsEveryFlag(t *testing.T) {
	t.Parallel()
	for _, shell := range []string{"bash", "zsh", "fish"} {
		_, stdout, _ := try(t.Context(), "", nil, "-completion", shell)
		for _, name := range []string{"input", "spawner-lambda-max-conc", "max-results"} {
			if !strings.Contains(stdout, name) {
				t.Errorf("%s completion lacks -%s", shell, name)
			}
		}
	}
}
