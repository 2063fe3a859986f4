//go:build linux || darwin

package spawner_test

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/docker/docker/api/types/build"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/filters"
	"github.com/docker/docker/api/types/image"
	"github.com/docker/docker/api/types/network"
	"github.com/docker/docker/client"
	"github.com/docker/docker/pkg/stdcopy"

	"gmaps-scraper/spawner"
)

const (
	// envDocker lets the tests of Docker make images, networks and containers on the engine that DOCKER_HOST names.
	envDocker = "GMAPS_TEST_DOCKER"
	// dockerMark is a label of all that these tests make themselves.
	dockerMark = "gmaps.test"
	// dockerPatience bounds waits for an engine that shares its processors with others.
	dockerPatience = 90 * time.Second

	dockerfile = "FROM scratch\nCOPY worker /worker\nVOLUME [\"/data\"]\nENTRYPOINT [\"/worker\"]\n"
)

// dockerRig is what the tests of Docker share: an engine, an image of the suite's worker, a network.
type dockerRig struct {
	api     *client.Client
	image   string
	network string
	slots   chan struct{}
}

func newDockerRig(t *testing.T) *dockerRig {
	t.Helper()
	if os.Getenv(envDocker) == "" {
		t.Skip("needs a Docker engine, and " + envDocker + "=1: make test-docker runs this")
	}
	api, err := client.NewClientWithOpts(client.FromEnv, client.WithAPIVersionNegotiation())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { api.Close() })
	tag := dockerUnique()
	r := &dockerRig{api: api, image: "gmaps-test-docker:" + tag, network: "gmaps-test-docker-" + tag, slots: make(chan struct{}, 3)}
	r.buildImage(t, dockerfile, r.image)
	r.newNetwork(t, r.network, network.CreateOptions{Driver: "bridge"})
	return r
}

func dockerUnique() string { return strings.ToLower(rand.Text()[:10]) }

// inTurn holds a test back until the engine has room for it: more at a time only take longer.
func (r *dockerRig) inTurn(t *testing.T) {
	r.slots <- struct{}{}
	t.Cleanup(func() { <-r.slots })
}

func (r *dockerRig) buildImage(t *testing.T, file, ref string) {
	t.Helper()
	binary := filepath.Join(t.TempDir(), "worker")
	compile := exec.Command("go", "build", "-trimpath", "-ldflags=-s -w", "-o", binary, "./spawnertest/worker")
	compile.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux")
	if out, err := compile.CombinedOutput(); err != nil {
		t.Fatalf("build worker: %v\n%s", err, out)
	}
	b, err := os.ReadFile(binary)
	if err != nil {
		t.Fatal(err)
	}
	var tree bytes.Buffer
	w := tar.NewWriter(&tree)
	for name, content := range map[string][]byte{"worker": b, "Dockerfile": []byte(file)} {
		if err := w.WriteHeader(&tar.Header{Name: name, Mode: 0o755, Size: int64(len(content))}); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(content); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	answer, err := r.api.ImageBuild(t.Context(), &tree, build.ImageBuildOptions{Tags: []string{ref}, Remove: true, ForceRemove: true, Labels: map[string]string{dockerMark: "docker-spawner"}})
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	said, err := io.ReadAll(answer.Body)
	if err != nil || strings.Contains(string(said), `"error"`) {
		t.Fatalf("build image: %v\n%s", err, said)
	}
	t.Cleanup(func() {
		r.eventually(t, "image "+ref+" removed", func(ctx context.Context) bool {
			_, err := r.api.ImageRemove(ctx, ref, image.RemoveOptions{PruneChildren: true})
			return err == nil
		})
	})
}

func (r *dockerRig) newNetwork(t *testing.T, name string, opts network.CreateOptions) {
	t.Helper()
	opts.Labels = map[string]string{dockerMark: "docker-spawner"}
	if _, err := r.api.NetworkCreate(t.Context(), name, opts); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		r.eventually(t, "network "+name+" removed", func(ctx context.Context) bool { return r.api.NetworkRemove(ctx, name) == nil })
	})
}

// config is of an instance that no other test has.
func (r *dockerRig) config() spawner.DockerConfig {
	return spawner.DockerConfig{Image: r.image, Network: r.network, Instance: dockerUnique(), PullPolicy: spawner.PullNever}
}

// open returns a Docker that removes its workers at the end of the test.
func (r *dockerRig) open(t *testing.T, cfg spawner.DockerConfig) *spawner.Docker {
	t.Helper()
	d, err := spawner.NewDocker(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), dockerPatience)
		defer cancel()
		for _, c := range r.containers(t, cfg.Instance) {
			if err := r.api.ContainerRemove(ctx, c.ID, container.RemoveOptions{Force: true, RemoveVolumes: true}); err != nil && !strings.Contains(err.Error(), "already in progress") {
				t.Error(err)
			}
		}
	})
	return d
}

// containers are all of an instance, started or not.
func (r *dockerRig) containers(t *testing.T, instance string) []container.Summary {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), dockerPatience)
	defer cancel()
	list, err := r.api.ContainerList(ctx, container.ListOptions{All: true, Filters: filters.NewArgs(filters.Arg("label", "gmaps.instance="+instance))})
	if err != nil {
		t.Error(err)
	}
	return list
}

func (r *dockerRig) log(id string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), dockerPatience)
	defer cancel()
	logs, err := r.api.ContainerLogs(ctx, id, container.LogsOptions{ShowStdout: true, ShowStderr: true})
	if err != nil {
		return "", err
	}
	defer logs.Close()
	var b strings.Builder
	_, err = stdcopy.StdCopy(&b, &b, logs)
	return b.String(), err
}

// eventually waits for done, after the test too.
func (r *dockerRig) eventually(t *testing.T, what string, done func(context.Context) bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), dockerPatience)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for !done(ctx) {
		select {
		case <-ctx.Done():
			t.Errorf("waited in vain: %s", what)
			return
		case <-tick.C:
		}
	}
}

// ended creates a worker, waits for its end and returns how it was.
func (r *dockerRig) ended(t *testing.T, d *spawner.Docker, spec spawner.Spec) spawner.Exit {
	t.Helper()
	w, err := d.Create(t.Context(), spec)
	if err != nil {
		t.Fatal(err)
	}
	r.eventually(t, w.Name+" ended", func(context.Context) bool {
		workers, err := d.List(t.Context())
		for _, got := range workers {
			if err == nil && got.ID == w.ID {
				return !got.Running
			}
		}
		return false
	})
	exit, err := d.Collect(t.Context(), w.ID)
	if err != nil {
		t.Fatal(err)
	}
	return exit
}

// wantRefusal fails unless err is a refusal for that cause, with a mend.
func wantRefusal(t *testing.T, err error, op, cause string, words ...string) {
	t.Helper()
	var refused *spawner.Error
	if !errors.As(err, &refused) || refused.Op != op || refused.Cause != cause {
		t.Fatalf("got %#v, want a refusal of %s for %s", err, op, cause)
	}
	for _, w := range words {
		if !strings.Contains(refused.Error(), w) {
			t.Errorf("refusal %q lacks %q", refused, w)
		}
	}
}

// suffixed gives workers a name that is the engine's only one: the suite has one name for all tests.
type suffixed struct {
	spawner.Spawner
	suffix string
}

func (s suffixed) Create(ctx context.Context, spec spawner.Spec) (spawner.Worker, error) {
	spec.Name += s.suffix
	w, err := s.Spawner.Create(ctx, spec)
	w.Name = strings.TrimSuffix(w.Name, s.suffix)
	return w, err
}

func (s suffixed) List(ctx context.Context) ([]spawner.Worker, error) {
	list, err := s.Spawner.List(ctx)
	for i := range list {
		list[i].Name = strings.TrimSuffix(list[i].Name, s.suffix)
	}
	return list, err
}
