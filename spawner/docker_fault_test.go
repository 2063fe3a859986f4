//go:build linux || darwin

package spawner_test

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"gmaps-scraper/spawner"
)

// The engine goes away after it has created a container, before it is told to start it; so does a Manager that dies there.
func TestDockerEngineAwayBetweenCreateAndStart(t *testing.T) {
	rig := newDockerRig(t)
	host, err := url.Parse(rig.api.DaemonHost())
	if err != nil || host.Scheme != "unix" {
		t.Skip("needs an engine on a Unix socket, to stand before it")
	}
	away := atomic.Bool{}
	away.Store(true)
	proxy := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(&url.URL{Scheme: "http", Host: "engine"}) },
		Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", host.Path)
		}},
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !away.Load() || !strings.HasSuffix(r.URL.Path, "/start") {
			proxy.ServeHTTP(w, r)
			return
		}
		if c, _, err := w.(http.Hijacker).Hijack(); err == nil {
			c.Close()
		}
	}))
	defer server.Close()
	t.Setenv("DOCKER_HOST", "tcp://"+server.Listener.Addr().String())

	cfg := rig.config()
	d := rig.open(t, cfg)
	spec := doing("wait")
	_, err = d.Create(t.Context(), spec)
	var refused *spawner.Error
	if err == nil || errors.As(err, &refused) {
		t.Fatalf("create: got %#v, want an error of unknown outcome, which is no *Error", err)
	}
	if workers, err := d.List(t.Context()); err != nil || len(workers) != 0 {
		t.Errorf("list: %+v, %v; want nothing: no worker was started", workers, err)
	}
	away.Store(false)
	w, err := d.Create(t.Context(), spec)
	if err != nil || !w.Running {
		t.Fatalf("next create: %+v, %v; want it running", w, err)
	}
	if got := rig.containers(t, cfg.Instance); len(got) != 1 || got[0].ID != string(w.ID) {
		t.Errorf("containers: %+v, want only %s", got, w.ID)
	}
}

// envDenied names a socket that this process, which is somebody else, may not open.
const envDenied = "GMAPS_TEST_DENIED"

func TestDockerSocketDeniedSaysTheMend(t *testing.T) {
	if socket := os.Getenv(envDenied); socket != "" {
		t.Setenv("DOCKER_HOST", "unix://"+socket)
		d, err := spawner.NewDocker(spawner.DockerConfig{})
		if err != nil {
			t.Fatal(err)
		}
		wantRefusal(t, d.Check(t.Context()), "check", "socket", socket, "denied", "usermod -aG docker", "-v /var/run/docker.sock:/var/run/docker.sock")
		_, err = d.Create(t.Context(), doing("wait"))
		wantRefusal(t, err, "create", "socket", "denied")
		return
	}
	dir, err := os.MkdirTemp("", "gmaps") // not t.TempDir, which only its owner may enter
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	l, err := net.Listen("unix", filepath.Join(dir, "s"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	own, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	program, err := os.ReadFile(own)
	if err != nil {
		t.Fatal(err)
	}
	err = errors.Join(os.Chmod(dir, 0o755), os.Chmod(filepath.Join(dir, "s"), 0), os.WriteFile(filepath.Join(dir, "test"), program, 0o755))
	if err != nil {
		t.Fatal(err)
	}
	child := exec.CommandContext(t.Context(), filepath.Join(dir, "test"), "-test.run=^TestDockerSocketDeniedSaysTheMend$")
	child.Dir = dir
	child.Env = append(os.Environ(), envDenied+"="+filepath.Join(dir, "s"), "DOCKER_CONFIG="+dir)
	if os.Getuid() == 0 { // to root nothing is denied
		child.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	}
	if out, err := child.CombinedOutput(); err != nil || !strings.Contains(string(out), "PASS") {
		t.Errorf("%v\n%s", err, out)
	}
}
