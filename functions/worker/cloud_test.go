package main

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// cloud speaks Lambda's wire on one side and its Runtime API on the other: each invocation runs the real bootstrap.
type cloud struct {
	t         *testing.T
	bootstrap string
	env       []string
	running   sync.WaitGroup
	ctx       context.Context

	mu      sync.Mutex
	invoked int
	deliver int // how often an event is delivered; 0: once
	reports []string
	faults  []string
	drop    int // events that are accepted and never run
}

// asBootstrap makes this test's own program the function's: it is the same main, and its build is there already. That of make lambda is
// run by the tests of the whole program.
const asBootstrap = "GMAPS_TEST_AS_BOOTSTRAP"

func TestMain(m *testing.M) {
	if os.Getenv(asBootstrap) != "" {
		main()
		return
	}
	os.Exit(m.Run())
}

func newCloud(t *testing.T, env ...string) (*cloud, string) {
	t.Helper()
	bootstrap, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	c := &cloud{t: t, bootstrap: bootstrap, env: env, ctx: ctx}
	srv := httptest.NewServer(c)
	t.Cleanup(func() { cancel(); c.running.Wait(); srv.Close() })
	return c, srv.URL
}

func (c *cloud) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method == http.MethodGet {
		_ = json.NewEncoder(w).Encode(map[string]any{"Configuration": map[string]any{
			"State": "Active", "Runtime": "provided.al2023", "PackageType": "Zip", "Timeout": 900, "MemorySize": 1024, "Architectures": []string{"x86_64"},
		}})
		return
	}
	body, _ := io.ReadAll(r.Body)
	c.mu.Lock()
	c.invoked++
	times, dropped := max(1, c.deliver), c.drop > 0
	if dropped {
		c.drop--
	}
	c.mu.Unlock()
	w.Header().Set("X-Amzn-RequestId", fmt.Sprintf("req-%d", time.Now().UnixNano()))
	switch r.Header.Get("X-Amz-Invocation-Type") {
	case "DryRun":
		w.WriteHeader(http.StatusNoContent)
	case "Event":
		if !dropped {
			for range times {
				c.running.Go(func() { c.run(body) })
			}
		}
		w.WriteHeader(http.StatusAccepted)
	default:
		c.running.Add(1)
		defer c.running.Done()
		report, fault, log := c.run(body)
		log += "\nREPORT RequestId: r\tDuration: 99.00 ms\tBilled Duration: 100 ms\tMemory Size: 1024 MB\tMax Memory Used: 50 MB\n"
		w.Header().Set("X-Amz-Log-Result", base64.StdEncoding.EncodeToString([]byte(log[max(0, len(log)-4096):])))
		if fault != "" {
			w.Header().Set("X-Amz-Function-Error", "Unhandled")
		}
		_, _ = io.WriteString(w, report+fault)
	}
}

// run is one environment with one invocation.
func (c *cloud) run(event []byte) (report, fault, log string) {
	ctx, kill := context.WithCancel(c.ctx)
	defer kill()
	done := make(chan struct{})
	var once sync.Once
	api := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch body, _ := io.ReadAll(r.Body); {
		case strings.HasSuffix(r.URL.Path, "/invocation/next"):
			first := false
			once.Do(func() { first = true })
			if !first {
				close(done)
				select { // frozen for good
				case <-ctx.Done():
				case <-r.Context().Done():
				}
				panic(http.ErrAbortHandler) // an empty answer would be one more invocation
			}
			w.Header().Set("Lambda-Runtime-Aws-Request-Id", "r")
			w.Header().Set("Lambda-Runtime-Deadline-Ms", strconv.FormatInt(time.Now().Add(15*time.Minute).UnixMilli(), 10))
			_, _ = w.Write(event)
		case strings.HasSuffix(r.URL.Path, "/response"):
			report = string(body)
			w.WriteHeader(http.StatusAccepted)
		case strings.HasSuffix(r.URL.Path, "/error"):
			fault = string(body)
			w.WriteHeader(http.StatusAccepted)
		}
	}))
	defer api.Close()
	defer kill() // before Close, which waits
	var out bytes.Buffer
	cmd := exec.CommandContext(ctx, c.bootstrap)
	cmd.Env = append([]string{"AWS_LAMBDA_RUNTIME_API=" + strings.TrimPrefix(api.URL, "http://"), "AWS_LAMBDA_FUNCTION_NAME=gmaps-worker", asBootstrap + "=1"}, c.env...)
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		c.t.Error(err)
		return "", "", ""
	}
	ended := make(chan struct{})
	go func() { _ = cmd.Wait(); close(ended) }()
	select {
	case <-done:
	case <-ended:
		fault = `{"errorType":"Runtime.ExitError","errorMessage":"RequestId: r Error: Runtime exited"}`
	case <-ctx.Done():
	}
	kill()
	<-ended
	c.mu.Lock()
	c.reports, c.faults = append(c.reports, report), append(c.faults, fault)
	c.mu.Unlock()
	return report, fault, out.String()
}

func (c *cloud) seen() (invoked int, reports, faults []string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.invoked, append([]string(nil), c.reports...), append([]string(nil), c.faults...)
}
