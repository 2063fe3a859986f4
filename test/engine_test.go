package test

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	cerrdefs "github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/events"
	"github.com/docker/docker/api/types/filters"
	"github.com/docker/docker/api/types/network"
	"github.com/docker/docker/api/types/swarm"
	"github.com/docker/docker/client"

	"gmaps-scraper/job"
)

const (
	// mark is on all that these tests make themselves; what the Manager makes has its own labels.
	mark = "gmaps.test"
	// gwbridge is the bridge by which containers of an overlay network reach this machine.
	gwbridge = "docker_gwbridge"
)

// engine is the ground of -spawner docker and swarm: a network of this world's own on a real Docker engine. Whose a container or service is
// shows in its network, so that worlds do not meet, and nothing is taken from the Manager's own word.
type engine struct {
	t         *testing.T
	api       *client.Client
	backend   string
	image     string
	network   string
	networkID string
	gateway   string
	contained bool
	instances map[string]bool // seen on workers: secrets and events have no network
	own       []string        // containers that the test itself has started
	addresses *network.IPAM   // of a network that was lost
}

func newEngine(w *world, backend string) *engine {
	t := w.t
	t.Helper()
	e := &engine{t: t, api: engineAPI(t), backend: backend, image: workerImage(t), contained: w.setup.contained, instances: map[string]bool{}}
	if e.network = w.setup.network; e.network == "" {
		e.network = "gmaps-e2e-" + randomName()
	}
	options := network.CreateOptions{Driver: "bridge", Labels: map[string]string{mark: "e2e"}}
	if backend == onSwarm {
		needSwarm(t)
		options.Driver, options.Attachable = "overlay", true
	}
	made, err := e.api.NetworkCreate(t.Context(), e.network, options)
	if err != nil {
		t.Fatal(err)
	}
	e.networkID = made.ID
	t.Cleanup(e.removeNetwork)
	e.gateway = e.gatewayOf(map[string]string{onDocker: e.network, onSwarm: gwbridge}[backend])
	return e
}

func randomName() string { return strings.ToLower(rand.Text()[:10]) }

// engineAPI connects to the engine that the docker command would use.
func engineAPI(t *testing.T) *client.Client {
	t.Helper()
	if os.Getenv("GMAPS_TEST_DOCKER") != "1" {
		t.Skip("needs a Docker engine, and GMAPS_TEST_DOCKER=1: make test-e2e runs this")
	}
	api, err := client.NewClientWithOpts(client.FromEnv, client.WithAPIVersionNegotiation())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { api.Close() })
	return api
}

func needSwarm(t *testing.T) {
	t.Helper()
	if os.Getenv("GMAPS_TEST_SWARM") != "1" {
		t.Skip("needs an engine that is a Swarm manager, and GMAPS_TEST_SWARM=1: make test-e2e runs this")
	}
}

// workerImage is the image under test.
func workerImage(t *testing.T) string {
	t.Helper()
	return fromEnv(t, "GMAPS_TEST_IMAGE")
}

// gatewayOf is this machine's address on a bridge.
func (e *engine) gatewayOf(name string) string {
	e.t.Helper()
	n, err := e.api.NetworkInspect(e.t.Context(), name, network.InspectOptions{})
	if err != nil {
		e.t.Fatal(err)
	}
	for _, c := range n.IPAM.Config {
		if ip, err := netip.ParseAddr(c.Gateway); err == nil && ip.Is4() {
			return ip.String()
		}
	}
	e.t.Fatalf("network %s has no gateway: %v", name, n.IPAM.Config)
	return ""
}

func (e *engine) host() string { return e.gateway }

func (e *engine) reach(s servers) servers {
	for _, address := range []*string{&s.rabbitmq, &s.redis, &s.postgres} {
		if *address == "" || address == &s.postgres && !e.contained { // workers have no business there
			continue
		}
		_, port, _ := net.SplitHostPort(freeAddr(e.t))
		*address = through(*address, forward(e.t, net.JoinHostPort(e.gateway, port), hostPort(*address)).addr)
	}
	return s
}

func (e *engine) flags(maps string) []string {
	// The simulator is on no loopback address here, and would be asked at the polite rate that Google is.
	return []string{"-maps-url", maps, "-rate", "1000", "-spawner", e.backend, "-spawner-image", e.image, "-spawner-network", e.network, "-spawner-pull", "never"}
}

func (*engine) env() []string { return nil }

// ctx outlives the test, for cleanup, and bounds a call.
func (e *engine) ctx() (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(e.t.Context()), time.Minute)
}

func (e *engine) workers() []worker {
	var list []worker
	for _, c := range e.containers() {
		if c.State != container.StateRunning && c.State != container.StatePaused {
			continue
		}
		list = append(list, worker{
			id: c.ID, spawn: job.SpawnID(c.Labels["gmaps.spawn-id"]), job: job.ID(c.Labels["gmaps.job-id"]),
			act: func(d deed) error { return e.act(c.ID, d) },
		})
	}
	return list
}

func (e *engine) act(id string, d deed) error {
	ctx, cancel := e.ctx()
	defer cancel()
	switch d {
	case killed:
		return e.api.ContainerKill(ctx, id, "KILL")
	case frozen:
		return e.api.ContainerPause(ctx, id)
	case thawed:
		return e.api.ContainerUnpause(ctx, id)
	case stopped:
		grace := 10
		return e.api.ContainerStop(ctx, id, container.StopOptions{Timeout: &grace})
	}
	return fmt.Errorf("unknown deed %q", d)
}

// containers are those of workers on this network, ended ones included.
func (e *engine) containers() []container.Summary {
	ctx, cancel := e.ctx()
	defer cancel()
	list, err := e.api.ContainerList(ctx, container.ListOptions{All: true, Filters: filters.NewArgs(filters.Arg("label", "gmaps.worker=true"))})
	if err != nil {
		e.t.Errorf("list containers: %v", err)
		return nil
	}
	services := e.services()
	list = slices.DeleteFunc(list, func(c container.Summary) bool {
		if c.HostConfig.NetworkMode == e.network || c.HostConfig.NetworkMode == e.networkID {
			return false
		}
		if c.NetworkSettings != nil && c.NetworkSettings.Networks[e.network] != nil {
			return false
		}
		service := c.Labels["com.docker.swarm.service.id"]
		return !slices.ContainsFunc(services, func(s swarm.Service) bool { return s.ID == service })
	})
	for _, c := range list {
		e.instances[c.Labels["gmaps.instance"]] = true
	}
	return list
}

// services are those of workers on this network.
func (e *engine) services() []swarm.Service {
	if e.backend != onSwarm {
		return nil
	}
	ctx, cancel := e.ctx()
	defer cancel()
	list, err := e.api.ServiceList(ctx, swarm.ServiceListOptions{Filters: filters.NewArgs(filters.Arg("label", "gmaps.worker=true"))})
	if err != nil {
		e.t.Errorf("list services: %v", err)
	}
	list = slices.DeleteFunc(list, func(s swarm.Service) bool { return !e.attached(s.Spec.TaskTemplate) })
	for _, s := range list {
		e.instances[s.Spec.Labels["gmaps.instance"]] = true
	}
	return list
}

func (e *engine) attached(t swarm.TaskSpec) bool {
	return slices.ContainsFunc(t.Networks, func(n swarm.NetworkAttachmentConfig) bool { return n.Target == e.network || n.Target == e.networkID })
}

// secrets are those of the instances whose services were seen.
func (e *engine) secrets() []swarm.Secret {
	if e.backend != onSwarm {
		return nil
	}
	ctx, cancel := e.ctx()
	defer cancel()
	list, err := e.api.SecretList(ctx, swarm.SecretListOptions{})
	if err != nil {
		e.t.Errorf("list secrets: %v", err)
	}
	return slices.DeleteFunc(list, func(s swarm.Secret) bool { return !e.instances[s.Spec.Labels["gmaps.instance"]] })
}

// tasks are those of workers on this network; they outlive their service for a while.
func (e *engine) tasks() []swarm.Task {
	if e.backend != onSwarm {
		return nil
	}
	ctx, cancel := e.ctx()
	defer cancel()
	list, err := e.api.TaskList(ctx, swarm.TaskListOptions{})
	if err != nil {
		e.t.Errorf("list tasks: %v", err)
	}
	return slices.DeleteFunc(list, func(t swarm.Task) bool {
		return t.Spec.ContainerSpec == nil || t.Spec.ContainerSpec.Labels["gmaps.worker"] != "true" || !e.attached(t.Spec)
	})
}

// names are those of the containers or services that the backend has created.
func (e *engine) names() []string {
	var names []string
	for _, s := range e.services() {
		names = append(names, s.Spec.Name)
	}
	for _, c := range e.containers() {
		names = append(names, c.Names...)
	}
	return names
}

// created counts, by the engine's own record, the containers that were created for each spawn of this world.
func (e *engine) created(since time.Time) map[job.SpawnID]int {
	ctx, cancel := e.ctx()
	defer cancel()
	messages, failed := e.api.Events(ctx, events.ListOptions{
		Since: fmt.Sprintf("%d.%09d", since.Unix(), since.Nanosecond()), Until: fmt.Sprint(time.Now().Unix() + 1),
		Filters: filters.NewArgs(filters.Arg("type", "container"), filters.Arg("event", "create"), filters.Arg("label", "gmaps.worker=true")),
	})
	count := map[job.SpawnID]int{}
	for {
		select {
		case m := <-messages:
			if e.instances[m.Actor.Attributes["gmaps.instance"]] {
				count[job.SpawnID(m.Actor.Attributes["gmaps.spawn-id"])]++
			}
		case <-failed: // io.EOF: that was all
			return count
		}
	}
}

func (e *engine) left() []string {
	var left []string
	for _, s := range e.services() {
		left = append(left, "service "+s.Spec.Name)
	}
	for _, t := range e.tasks() {
		left = append(left, fmt.Sprintf("task %s (%s)", t.ID, t.Status.State))
	}
	for _, s := range e.secrets() {
		left = append(left, "secret "+s.Spec.Name)
	}
	for _, c := range e.containers() {
		left = append(left, fmt.Sprintf("container %s (%s)", strings.Join(c.Names, " "), c.Status))
	}
	return left
}

func (e *engine) raze() {
	ctx, cancel := e.ctx()
	defer cancel()
	for _, s := range e.services() {
		_ = e.api.ServiceRemove(ctx, s.ID)
	}
	for _, s := range e.secrets() {
		_ = e.api.SecretRemove(ctx, s.ID)
	}
	for _, c := range e.containers() {
		e.own = append(e.own, c.ID)
	}
	for _, id := range e.own {
		_ = e.api.ContainerRemove(ctx, id, container.RemoveOptions{Force: true, RemoveVolumes: true})
	}
}

// removeNetwork fails the test if something is attached to it still.
func (e *engine) removeNetwork() {
	ctx, cancel := e.ctx()
	defer cancel()
	var err error
	for ctx.Err() == nil {
		if err = e.api.NetworkRemove(ctx, e.networkID); err == nil || cerrdefs.IsNotFound(err) {
			return
		}
		pause(ctx, 100*time.Millisecond)
	}
	e.t.Errorf("network %s is still in use: %v", e.network, errors.Join(err, ctx.Err()))
}
