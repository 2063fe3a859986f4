package spawner

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"regexp"
	"strconv"
	"sync"
	"sync/atomic"

	cerrdefs "github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/filters"
	"github.com/docker/docker/api/types/image"
	"github.com/docker/docker/api/types/network"
	"github.com/docker/docker/api/types/system"
	"github.com/docker/docker/client"
)

// Labels of what the backends docker and swarm make. The first four are for users too: docker ps --filter label=gmaps.worker=true.
const (
	labelWorker   = "gmaps.worker" // "true"
	labelJob      = "gmaps.job-id"
	labelPriority = "gmaps.priority"
	labelSpawner  = "gmaps.spawner" // docker or swarm
	labelInstance = "gmaps.instance"
	labelSpawn    = "gmaps.spawn-id"
)

const defaultInstance = "default"

// instanceName is what an instance may be called: a label's value that needs no quoting.
var instanceName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.-]{0,127}$`)

// engine is a Docker engine as the backends docker and swarm share it: the connection, the labels by which they know their own,
// and what the engine's errors mean. It connects at the first call, and again at the next after a failure: an engine that is down
// when the Manager starts is no different from one that goes down later.
type engine struct {
	backend  string // docker or swarm
	instance string
	log      *slog.Logger

	mu   sync.Mutex
	cli  *client.Client // nil: not connected yet
	host string         // as configured: unix:///var/run/docker.sock, tcp://…, ssh://…

	facts atomic.Pointer[system.Info] // nil until the engine has answered once
}

// newEngine returns the engine that the environment and the user's Docker configuration name. It does not connect.
func newEngine(backend, instance string, log *slog.Logger) (*engine, error) {
	if instance == "" {
		instance = defaultInstance
	}
	if !instanceName.MatchString(instance) {
		return nil, fmt.Errorf("%s spawner: instance %q: want letters, digits, _ . - only", backend, instance)
	}
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &engine{backend: backend, instance: instance, log: log}, nil
}

// client returns a client that has agreed with the engine on a version of the API. Its error is an *Error of op.
func (e *engine) client(ctx context.Context, op string) (*client.Client, error) {
	e.mu.Lock()
	if e.cli == nil {
		cli, host, err := connect()
		if err != nil {
			e.mu.Unlock()
			return nil, &Error{Op: op, Reason: err.Error(), Mend: "see docker context ls, DOCKER_HOST and DOCKER_CONTEXT", Cause: "socket", Err: err}
		}
		e.cli, e.host = cli, host
	}
	cli := e.cli
	e.mu.Unlock()
	if e.facts.Load() != nil {
		return cli, nil
	}
	// The client would agree by itself, but forget an error at that and go on with a version that this engine may refuse.
	ping, err := cli.Ping(ctx)
	if err != nil {
		return nil, e.refused(op, "reach the Docker engine", err)
	}
	cli.NegotiateAPIVersionPing(ping)
	if err := e.learn(ctx, op, cli); err != nil {
		return nil, err
	}
	return cli, nil
}

// learn asks the engine for its facts: processors, memory, operating system, Swarm. See known.
func (e *engine) learn(ctx context.Context, op string, cli *client.Client) error {
	info, err := cli.Info(ctx)
	if err != nil {
		return e.refused(op, "read the Docker engine's facts", err)
	}
	e.facts.Store(&info)
	return nil
}

// known returns the engine's facts when it last told them; zero before that.
func (e *engine) known() system.Info {
	if info := e.facts.Load(); info != nil {
		return *info
	}
	return system.Info{}
}

// close drops idle connections.
func (e *engine) close() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.cli == nil {
		return nil
	}
	return e.cli.Close()
}

// labels are those of a worker, and of the service that it is a task of.
func (e *engine) labels(spec Spec) map[string]string {
	return map[string]string{
		labelWorker:   "true",
		labelJob:      spec.JobID,
		labelPriority: strconv.Itoa(spec.Priority),
		labelSpawner:  e.backend,
		labelInstance: e.instance,
		labelSpawn:    spec.SpawnID,
	}
}

// filter selects what this instance has made on this backend. It goes for containers, services, secrets and events.
func (e *engine) filter() filters.Args {
	return filters.NewArgs(
		filters.Arg("label", labelWorker+"=true"),
		filters.Arg("label", labelSpawner+"="+e.backend),
		filters.Arg("label", labelInstance+"="+e.instance),
	)
}

// owns reports whether labels are those of something that this instance has made on this backend.
func (e *engine) owns(labels map[string]string) bool {
	return labels[labelWorker] == "true" && labels[labelSpawner] == e.backend && labels[labelInstance] == e.instance
}

// network returns the network of that name, or an *Error of op that says how to make one.
func (e *engine) network(ctx context.Context, op, name string) (network.Inspect, error) {
	cli, err := e.client(ctx, op)
	if err != nil {
		return network.Inspect{}, err
	}
	n, err := cli.NetworkInspect(ctx, name, network.InspectOptions{})
	switch {
	case cerrdefs.IsNotFound(err):
		mend := "create it: docker network create " + name
		if e.backend == "swarm" {
			mend = "create it: docker network create --driver overlay --attachable " + name
		}
		return network.Inspect{}, &Error{Op: op, Reason: fmt.Sprintf("network %s not found on this engine", name), Mend: mend, Cause: "network", Err: err}
	case err != nil:
		return network.Inspect{}, e.refused(op, "inspect network "+name, err)
	}
	return n, nil
}

// image returns the image if this engine has it. An error for which cerrdefs.IsNotFound holds says that it has not.
func (e *engine) image(ctx context.Context, op, ref string) (image.InspectResponse, error) {
	cli, err := e.client(ctx, op)
	if err != nil {
		return image.InspectResponse{}, err
	}
	img, err := cli.ImageInspect(ctx, ref)
	switch {
	case cerrdefs.IsNotFound(err):
		return image.InspectResponse{}, e.imageMissing(op, ref, err)
	case err != nil:
		return image.InspectResponse{}, e.refused(op, "inspect image "+ref, err)
	}
	return img, nil
}

// imageMissing is the refusal for an image that neither this engine nor its registry has.
func (e *engine) imageMissing(op, ref string, err error) *Error {
	mend := "docker pull " + ref + ", or set -spawner-image"
	if ref == "gmaps-scraper:latest" {
		mend = "build it: make image"
	}
	return &Error{Op: op, Reason: fmt.Sprintf("image %s not found on this engine", ref), Mend: mend, Cause: "image", Err: err}
}

// inRegistry asks, through the engine and with the user's credentials, whether a registry has the image.
func (e *engine) inRegistry(ctx context.Context, op, ref string) error {
	cli, err := e.client(ctx, op)
	if err != nil {
		return err
	}
	auth, unread := registryAuth(ref)
	if _, err := cli.DistributionInspect(ctx, ref, auth); err != nil {
		return e.pullRefused(op, ref, errors.Join(err, unread))
	}
	return nil
}
