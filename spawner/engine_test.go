package spawner

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
)

// writeTree makes a folder of files.
func writeTree(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, content := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestEngineIsTheOneOfTheDockerCommand(t *testing.T) {
	meta := func(name string) string { return "contexts/meta/" + digest.FromString(name).Encoded() + "/meta.json" }
	context := func(name, host string) string {
		return fmt.Sprintf(`{"Name":%q,"Metadata":{},"Endpoints":{"docker":{"Host":%q,"SkipTLSVerify":false}}}`, name, host)
	}
	files := map[string]string{
		"config.json":   `{"currentContext":"far"}`,
		meta("far"):     context("far", "tcp://far:2376"),
		meta("near"):    context("near", "unix:///run/near.sock"),
		meta("through"): context("through", "ssh://me@there"),
	}
	for name, tt := range map[string]struct {
		env   map[string]string
		files map[string]string
		want  string
		err   string
	}{
		"nothing said":            {files: map[string]string{}, want: "unix:///var/run/docker.sock"},
		"current context":         {files: files, want: "tcp://far:2376"},
		"named context":           {files: files, env: map[string]string{"DOCKER_CONTEXT": "near"}, want: "unix:///run/near.sock"},
		"host before context":     {files: files, env: map[string]string{"DOCKER_CONTEXT": "near", "DOCKER_HOST": "tcp://h:1"}, want: "tcp://h:1"},
		"default context":         {files: files, env: map[string]string{"DOCKER_CONTEXT": "default"}, want: "unix:///var/run/docker.sock"},
		"through ssh":             {files: files, env: map[string]string{"DOCKER_CONTEXT": "through"}, want: "ssh://me@there"},
		"unknown context":         {files: files, env: map[string]string{"DOCKER_CONTEXT": "gone"}, err: `context "gone"`},
		"host that is none":       {env: map[string]string{"DOCKER_HOST": "nonsense"}, err: "nonsense"},
		"certificates not there":  {env: map[string]string{"DOCKER_HOST": "tcp://h:1", "DOCKER_TLS_VERIFY": "1"}, err: "ca.pem"},
		"configuration is broken": {files: map[string]string{"config.json": "{"}, err: "Docker configuration"},
	} {
		t.Run(name, func(t *testing.T) {
			for _, v := range []string{"DOCKER_HOST", "DOCKER_CONTEXT", "DOCKER_TLS_VERIFY", "DOCKER_CERT_PATH"} {
				t.Setenv(v, tt.env[v])
			}
			t.Setenv("DOCKER_CONFIG", writeTree(t, tt.files))
			cli, host, err := connect()
			if tt.err != "" {
				if err == nil || !strings.Contains(err.Error(), tt.err) {
					t.Errorf("got %v, want an error with %q", err, tt.err)
				}
				return
			}
			if err != nil || host != tt.want {
				t.Fatalf("got %s, %v; want %s", host, err, tt.want)
			}
			cli.Close()
		})
	}
}

func TestEngineOverTLSTakesItsCertificates(t *testing.T) {
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Api-Version", "1.41")
		fmt.Fprint(w, "{}")
	}))
	server.TLS = &tls.Config{ClientAuth: tls.RequireAnyClientCert}
	server.Config.ErrorLog = log.New(io.Discard, "", 0) // of the handshake that shall fail
	server.StartTLS()
	defer server.Close()
	cert, key := keyPair(t)
	host := "tcp://" + server.Listener.Addr().String()
	ca := fmt.Sprintf("-----BEGIN CERTIFICATE-----\n%s\n-----END CERTIFICATE-----\n", base64.StdEncoding.EncodeToString(server.Certificate().Raw))
	for name, tt := range map[string]struct {
		verify string
		files  map[string]string
		ok     bool
	}{
		"its own authority":        {"1", map[string]string{"ca.pem": ca, "cert.pem": cert, "key.pem": key}, true},
		"unverified":               {"", map[string]string{"ca.pem": ca, "cert.pem": cert, "key.pem": key}, true},
		"an authority not its own": {"1", map[string]string{"ca.pem": cert, "cert.pem": cert, "key.pem": key}, false},
		"certificates not there":   {"1", nil, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Setenv("DOCKER_HOST", host)
			t.Setenv("DOCKER_TLS_VERIFY", tt.verify)
			t.Setenv("DOCKER_CERT_PATH", writeTree(t, tt.files))
			e, err := newEngine("docker", "", nil)
			if err != nil {
				t.Fatal(err)
			}
			defer e.close()
			cli, err := e.client(t.Context(), "check")
			if (err == nil) != tt.ok {
				t.Fatalf("got %v, want an answer: %v", err, tt.ok)
			}
			if tt.ok && cli.ClientVersion() != "1.41" {
				t.Errorf("version %s, want the engine's 1.41", cli.ClientVersion())
			}
		})
	}
}

// keyPair is a certificate that only this test trusts, and its key.
func keyPair(t *testing.T) (cert, key string) {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	about := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	c, err := x509.CreateCertificate(rand.Reader, about, about, &k.PublicKey, k)
	if err != nil {
		t.Fatal(err)
	}
	b, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c})), string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: b}))
}

func TestRegistryCredentialsAreTheUsers(t *testing.T) {
	dir := writeTree(t, map[string]string{
		"config.json": `{
			"auths": {"https://index.docker.io/v1/": {"auth": "aHViOnB3"}, "127.0.0.1:5000": {"identitytoken": "idt"}},
			"credHelpers": {"ghcr.io": "gmapstest", "broken.io": "gmapsnone"}}`,
		"bin/docker-credential-gmapstest": "#!/bin/sh\necho '{\"ServerURL\":\"ghcr.io\",\"Username\":\"helped\",\"Secret\":\"s\"}'\n",
	})
	t.Setenv("DOCKER_CONFIG", dir)
	t.Setenv("PATH", filepath.Join(dir, "bin")+":"+os.Getenv("PATH"))
	for ref, want := range map[string]map[string]string{
		"gmaps-scraper:latest":      {"username": "hub", "password": "pw"},
		"docker.io/a/b":             {"username": "hub", "password": "pw"},
		"127.0.0.1:5000/a:1":        {"identitytoken": "idt"},
		"ghcr.io/a/b@sha256:" + sum: {"username": "helped", "password": "s"},
		"quay.io/a/b":               {},
	} {
		got, err := registryAuth(ref)
		if err != nil {
			t.Errorf("%s: %v", ref, err)
			continue
		}
		fields := map[string]string{}
		if got != "" {
			b, err := base64.URLEncoding.DecodeString(got)
			if err == nil {
				err = json.Unmarshal(b, &fields)
			}
			if err != nil {
				t.Errorf("%s: %q: %v", ref, got, err)
			}
			delete(fields, "serveraddress")
		}
		if diff := cmp.Diff(want, fields); diff != "" {
			t.Errorf("%s (-want +got):\n%s", ref, diff)
		}
	}
	if _, err := registryAuth("broken.io/a"); err == nil || !strings.Contains(err.Error(), "broken.io") {
		t.Errorf("a helper that is not there: got %v, want an error that names the registry", err)
	}
	if _, err := registryAuth("NO IMAGE"); err == nil {
		t.Error("no error for what is no image")
	}
}

const sum = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

// serveEngine answers every call of the API but those that every connection begins with.
func serveEngine(t *testing.T, answer http.HandlerFunc) *engine {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Api-Version", "1.41")
		w.Header().Set("Content-Type", "application/json")
		switch {
		case r.URL.Path == "/_ping":
		case strings.HasSuffix(r.URL.Path, "/info"):
			fmt.Fprint(w, `{"NCPU":2}`)
		default:
			answer(w, r)
		}
	}))
	t.Cleanup(server.Close)
	t.Setenv("DOCKER_HOST", "tcp://"+server.Listener.Addr().String())
	e, err := newEngine("docker", "", nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { e.close() })
	return e
}

// What the engine tells only in words: answers of Engine 20.10.24, that of a full disk with its data on a full tmpfs.
func TestEngineErrorsInWords(t *testing.T) {
	for name, tt := range map[string]struct {
		status int
		text   string
		cause  string
		retry  bool
		mend   string
	}{
		"disk full": {500, "no space left on device", "resources", true, "docker system prune"},
		"memory":    {400, "Minimum memory limit allowed is 6MB", "resources", false, "-spawner-memory"},
		"cpus":      {400, "Range of CPUs is from 0.01 to 2.00, as there are only 2 CPUs available", "resources", false, "-spawner-cpus"},
		"addresses": {403, "no available IPv4 addresses on this network's address pools: n (5d1b)", "network", true, "--subnet"},
		"throttled": {500, "toomanyrequests: You have reached your pull rate limit.", "throttled", true, "docker login"},
		"other":     {500, "something else", "other", true, ""},
		"mistake":   {400, "invalid something", "other", false, ""},
	} {
		t.Run(name, func(t *testing.T) {
			e := serveEngine(t, func(w http.ResponseWriter, _ *http.Request) {
				w.WriteHeader(tt.status)
				fmt.Fprintf(w, `{"message":%q}`, tt.text)
			})
			cli, err := e.client(t.Context(), "create")
			if err != nil {
				t.Fatal(err)
			}
			_, err = cli.ContainerInspect(t.Context(), "x")
			var refused *Error
			if !errors.As(e.refused("create", "create container x", err), &refused) {
				t.Fatalf("%v is no *Error", err)
			}
			if refused.Op != "create" || refused.Cause != tt.cause || refused.Retry != tt.retry || !strings.Contains(refused.Mend, tt.mend) {
				t.Errorf("got %+v, want cause %s, retry %v, a mend with %q", refused, tt.cause, tt.retry, tt.mend)
			}
			if want := "create container x: " + tt.text; refused.Reason != want {
				t.Errorf("reason %q, want %q", refused.Reason, want)
			}
		})
	}
}

// Nobody knows whether the call was carried out: that is no refusal.
func TestEngineThatBreaksOffHasNotRefused(t *testing.T) {
	e := serveEngine(t, func(w http.ResponseWriter, _ *http.Request) {
		c, _, err := w.(http.Hijacker).Hijack()
		if err == nil {
			c.Close()
		}
	})
	cli, err := e.client(t.Context(), "create")
	if err != nil {
		t.Fatal(err)
	}
	_, err = cli.ContainerInspect(t.Context(), "x")
	var refused *Error
	if err = e.refused("create", "create container x", err); errors.As(err, &refused) || !errors.Is(err, errBrokeOff) || !errors.Is(err, io.EOF) {
		t.Errorf("got %#v, want an error that says that the engine broke off, and no *Error", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = cli.ContainerInspect(ctx, "x")
	if err = e.refused("create", "create container x", err); errors.As(err, &refused) || !errors.Is(err, context.Canceled) {
		t.Errorf("got %#v, want context.Canceled and no *Error", err)
	}
}

func TestEngineThatIsAwayIsFoundWhenItComes(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "s")
	t.Setenv("DOCKER_HOST", "unix://"+socket)
	e, err := newEngine("docker", "", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer e.close()
	_, err = e.client(t.Context(), "check")
	var refused *Error
	if !errors.As(err, &refused) || refused.Cause != "socket" || !refused.Retry || !strings.Contains(refused.Error(), socket) || refused.Mend == "" {
		t.Errorf("got %#v, want a refusal for the socket %s, to be tried again", err, socket)
	}
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "{}") })}
	done := make(chan error, 1)
	go func() { done <- server.Serve(l) }()
	defer func() {
		server.Close()
		<-done
	}()
	if _, err := e.client(t.Context(), "check"); err != nil {
		t.Errorf("once it is there: %v", err)
	}
}

func TestRouteRewritesOnlyTheHostItself(t *testing.T) {
	r := routeTo("172.18.0.1", 8080)
	for address, want := range map[string]string{
		"localhost:6379":                        "172.18.0.1:6379",
		"127.0.0.1:6379":                        "172.18.0.1:6379",
		"127.9.9.9:6379":                        "172.18.0.1:6379",
		"[::1]:6379":                            "172.18.0.1:6379",
		"0.0.0.0:6379":                          "172.18.0.1:6379",
		":6379":                                 "172.18.0.1:6379",
		"localhost":                             "172.18.0.1",
		"redis:6379":                            "redis:6379",
		"10.0.0.1:6379":                         "10.0.0.1:6379",
		"localhost.example.com:1":               "localhost.example.com:1",
		"amqp://guest:gu%2Fest@localhost:5672/": "amqp://guest:gu%2Fest@172.18.0.1:5672/",
		"amqps://u:p@127.0.0.1/v%2Fh?heartbeat=5":     "amqps://u:p@172.18.0.1/v%2Fh?heartbeat=5",
		"amqp://u:p@rabbitmq:5672/":                   "amqp://u:p@rabbitmq:5672/",
		"redis://:secret@[::1]:6379/0":                "redis://:secret@172.18.0.1:6379/0",
		"amqp://u:p@localhost:5672/localhost?x=%zz#a": "amqp://u:p@172.18.0.1:5672/localhost?x=%zz#a",
	} {
		if got := r.Rewrite(address); got != want {
			t.Errorf("%s becomes %s, want %s", address, got, want)
		}
	}
	if got := r.Rewrite(""); got != "" {
		t.Errorf("no address becomes %s", got)
	}
	if got := (Route{}).Rewrite("localhost:1"); got != "localhost:1" {
		t.Errorf("without a route localhost:1 becomes %s", got)
	}
	if got := routeTo("fd00::1", 80).Rewrite("localhost:1"); got != "[fd00::1]:1" {
		t.Errorf("IPv6: got %s", got)
	}
}

func TestOwnContainerIsToldByItsMounts(t *testing.T) {
	other, own := strings.Repeat("a", 64), strings.Repeat("b", 64)
	for name, tt := range map[string]struct {
		files map[string]string
		want  string
	}{
		"a container": {map[string]string{
			"mountinfo": "715 702 254:0 /var/lib/docker/containers/" + own + "/hostname /etc/hostname rw,relatime - ext4 /dev/vda rw\n",
			"cgroup":    "0::/\n",
		}, own},
		"a container by its cgroup": {map[string]string{"cgroup": "12:memory:/docker/" + own + "\n"}, own},
		// A host sees what it mounts into its containers.
		"the host of others": {map[string]string{
			"mountinfo": "52 29 0:45 / /var/lib/docker/containers/" + other + "/mounts/shm rw - tmpfs shm rw\n29 1 254:0 / / rw - ext4 /dev/vda rw\n",
			"cgroup":    "0::/user.slice\n",
		}, ""},
		"no proc": {nil, ""},
	} {
		t.Run(name, func(t *testing.T) {
			ids, err := ownIDs(writeTree(t, tt.files))
			if err != nil {
				t.Fatal(err)
			}
			if got := strings.Contains(strings.Join(ids, " "), own); got != (tt.want != "") || strings.Contains(strings.Join(ids, " "), other) {
				t.Errorf("got %q, want %q", ids, tt.want)
			}
		})
	}
}
