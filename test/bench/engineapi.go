package main

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"

	cerrdefs "github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/filters"
	"github.com/docker/docker/api/types/network"
	"github.com/docker/docker/client"

	"gmaps-scraper/api"
	"gmaps-scraper/job"
)

// What the bench makes is found by its labels: benchLabel on the Engine API's side, the Manager's own instanceLabel on the spawner's.
const (
	benchLabel    = "gmaps.bench"
	instanceLabel = "gmaps.instance"
)

// bare is the baseline of the spawner benches: the Engine API and nothing else. Its containers run the same image with the same settings
// as one that the spawner made, against a Manager that knows one answer to each question.
type bare struct {
	engine   *client.Client
	name     string // of the network, and of all that belongs to this bench
	image    string
	gateway  string            // this machine, seen from the network
	settings *container.Config // of a worker that the spawner made
	host     *container.HostConfig
}

// newBare makes a network and finds the image.
func newBare(ctx context.Context) (_ *bare, err error) {
	engine, err := client.NewClientWithOpts(client.FromEnv, client.WithAPIVersionNegotiation())
	if err != nil {
		return nil, err
	}
	b := &bare{engine: engine, name: "gmaps-bench-" + strings.ToLower(rand.Text()[:8]), image: cmp.Or(os.Getenv("GMAPS_TEST_IMAGE"), "gmaps-scraper:latest")}
	if _, err := engine.ImageInspect(ctx, b.image); err != nil {
		return nil, fmt.Errorf("needs a Docker engine with the image %s (make image, or another in GMAPS_TEST_IMAGE): %w", b.image, errors.Join(err, engine.Close()))
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, b.close(ctx))
		}
	}()
	if _, err := engine.NetworkCreate(ctx, b.name, network.CreateOptions{Driver: "bridge", Labels: map[string]string{benchLabel: b.name}}); err != nil {
		return nil, err
	}
	n, err := engine.NetworkInspect(ctx, b.name, network.InspectOptions{})
	if err != nil {
		return nil, err
	}
	for _, part := range n.IPAM.Config {
		if ip := net.ParseIP(part.Gateway); ip != nil && ip.To4() != nil {
			b.gateway = part.Gateway
		}
	}
	if b.gateway == "" {
		return nil, fmt.Errorf("network %s has no gateway", b.name)
	}
	return b, nil
}

// close removes all that has the bench's name, the spawner's containers too.
func (b *bare) close(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
	defer cancel()
	errs := []error{b.removeAll(ctx, benchLabel+"="+b.name), b.removeAll(ctx, instanceLabel+"="+b.name)}
	if err := b.engine.NetworkRemove(ctx, b.name); err != nil && !cerrdefs.IsNotFound(err) {
		errs = append(errs, err)
	}
	return errors.Join(append(errs, b.engine.Close())...)
}

func (b *bare) removeAll(ctx context.Context, label string) error {
	found, err := b.engine.ContainerList(ctx, container.ListOptions{All: true, Filters: filters.NewArgs(filters.Arg("label", label))})
	errs := []error{err}
	for _, c := range found {
		err := b.engine.ContainerRemove(ctx, c.ID, container.RemoveOptions{Force: true, RemoveVolumes: true})
		if err != nil && !cerrdefs.IsNotFound(err) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// workers counts the spawner's containers, ended ones included.
func (b *bare) workers(ctx context.Context) (int, error) {
	found, err := b.engine.ContainerList(ctx, container.ListOptions{All: true, Filters: filters.NewArgs(filters.Arg("label", instanceLabel+"="+b.name))})
	return len(found), err
}

// imitate takes over the settings of the spawner's only worker, which runs, but for what it is called and whom it asks.
func (b *bare) imitate(ctx context.Context, managerURL string) error {
	found, err := b.engine.ContainerList(ctx, container.ListOptions{All: true, Filters: filters.NewArgs(filters.Arg("label", instanceLabel+"="+b.name))})
	if err != nil {
		return err
	}
	if len(found) != 1 {
		return fmt.Errorf("%d workers instead of one", len(found))
	}
	c, err := b.engine.ContainerInspect(ctx, found[0].ID)
	if err != nil {
		return err
	}
	b.settings, b.host = c.Config, c.HostConfig
	b.settings.Hostname = ""
	b.settings.Labels = map[string]string{benchLabel: b.name}
	for i, v := range b.settings.Env {
		if strings.HasPrefix(v, "GMAPS_MANAGER_URL=") {
			b.settings.Env[i] = "GMAPS_MANAGER_URL=" + managerURL
		}
	}
	return nil
}

// start creates and starts a container.
func (b *bare) start(ctx context.Context) (id string, err error) {
	made, err := b.engine.ContainerCreate(ctx, b.settings, b.host, nil, nil, "")
	if err != nil {
		return "", err
	}
	return made.ID, b.engine.ContainerStart(ctx, made.ID, container.StartOptions{})
}

// finish waits until a container has ended, and removes it.
func (b *bare) finish(ctx context.Context, id string) error {
	ended, broken := b.engine.ContainerWait(ctx, id, container.WaitConditionNotRunning)
	select {
	case w := <-ended:
		if w.StatusCode != 0 {
			return fmt.Errorf("a worker of the baseline exited with %d", w.StatusCode)
		}
	case err := <-broken:
		return err
	}
	return b.engine.ContainerRemove(ctx, id, container.RemoveOptions{RemoveVolumes: true})
}

// canned is a Manager of few words: each worker that joins is leased the same tasks once, and then told to go.
type canned struct {
	lease  job.Lease
	joined chan<- time.Time // when a worker's first request came; nobody need listen
	idle   bool             // it has no work for anybody

	mu    sync.Mutex
	given map[string]bool // by session
}

func newCanned(keyword string, joined chan<- time.Time) (*canned, error) {
	spec, err := oneSearch(keyword)
	if err != nil {
		return nil, err
	}
	tasks, err := spec.Tasks()
	if err != nil {
		return nil, err
	}
	id := job.NewID()
	for i := range tasks {
		tasks[i].ID, tasks[i].JobID, tasks[i].State, tasks[i].Attempts = job.TaskID(i+1), id, job.TaskLeased, 1
	}
	spec.Inputs = nil
	return &canned{lease: job.Lease{Fence: 1, JobID: id, Spec: spec, Tasks: tasks}, joined: joined, given: make(map[string]bool)}, nil
}

func (c *canned) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var answer any
	switch path := r.URL.Path; {
	case path == api.PathWorkerJoin:
		select {
		case c.joined <- time.Now():
		default:
		}
		var j api.Join
		if json.NewDecoder(r.Body).Decode(&j) != nil {
			http.Error(w, "no join", http.StatusBadRequest)
			return
		}
		answer = api.Joined{Session: j.Nonce, SpawnID: j.SpawnID, JobID: c.lease.JobID, LeaseTTL: leaseTTL}
	case path == api.PathLeases:
		answer = c.grant(r.Header.Get("Authorization"))
	case strings.HasSuffix(path, "/renew"):
		answer = api.OrderAnswer{Order: job.Continue}
	case strings.HasSuffix(path, "/results"):
		if _, err := io.Copy(io.Discard, r.Body); err != nil {
			return
		}
		answer = job.Ack{Order: job.Continue}
	default:
		w.WriteHeader(http.StatusNoContent)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(answer) // a worker that hangs up misses it
}

const leaseTTL = job.Duration(30 * time.Second)

func (c *canned) grant(session string) api.LeaseAnswer {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.idle || c.given[session] {
		return api.LeaseAnswer{Exit: true}
	}
	c.given[session] = true
	return api.LeaseAnswer{Lease: &c.lease, TTL: leaseTTL}
}

// sessions is how many workers got a lease.
func (c *canned) sessions() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.given)
}
