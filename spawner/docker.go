package spawner

import (
	"context"
	"errors"
	"fmt"
	"math"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	cerrdefs "github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/events"
	"github.com/docker/docker/client"
)

// Docker runs workers as containers of one Docker engine. The engine remembers all there is to know: labels say whose a container is,
// its name holds off a second one, its state and log tell how it ended. A container is never removed by the engine itself (--rm):
// its log would go with it.
//
// A container is made in two steps, created and then started. One that is only created is no worker yet: List does not show it, the
// next Create of its name starts it, and List removes it if none comes.
type Docker struct {
	cfg    DockerConfig
	engine *engine
	pulls  pulls

	mu   sync.Mutex
	idle map[string]time.Time // since when this process sees a container that was created and not started, by its own clock
}

var (
	_ Spawner = (*Docker)(nil)
	_ Watcher = (*Docker)(nil)
)

const (
	stopTimeout  = 10 * time.Second // of docker stop by hand; Stop brings its own
	cleanTimeout = 15 * time.Second // to remove what a failed Create made, whatever became of its ctx
	// namePatience is how long another Create of the same name may take to show its container.
	namePatience = 20 * time.Second
	// unstarted is how long a container may stand created: longer than any Create takes, its pull aside, which comes before. An engine that
	// was killed while it started one shows it so for ever.
	unstarted = 2 * time.Minute
)

// NewDocker returns the backend "docker". It does not connect: an engine that is away is told by Check, and by each call.
// The engine is the one that the docker command would use. Close ends it.
func NewDocker(cfg DockerConfig) (*Docker, error) {
	cfg.setDefaults()
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	e, err := newEngine("docker", cfg.Instance, cfg.Logger)
	if err != nil {
		return nil, err
	}
	return &Docker{cfg: cfg, engine: e, pulls: pulls{patience: pullPatience}}, nil
}

// Close breaks off pulls under way and drops connections. Workers go on.
func (d *Docker) Close() error {
	d.pulls.close()
	return d.engine.close()
}

// Backend is "docker".
func (d *Docker) Backend() string { return "docker" }

// Limits are those of the engine's machine, once it has told: four workers a processor, since they wait for the network most of
// their time, and no more than fit into its memory. More than four creates at once only add latency (measured, Engine 20.10).
func (d *Docker) Limits() Limits {
	info := d.engine.known()
	if info.NCPU == 0 {
		info.NCPU = runtime.NumCPU()
	}
	workers := max(4, 4*info.NCPU)
	if d.cfg.MemoryMiB > 0 && info.MemTotal > 0 {
		workers = min(workers, max(1, int(info.MemTotal>>20)/d.cfg.MemoryMiB))
	}
	return Limits{MaxWorkers: workers, Creates: 4, JoinDeadline: time.Minute}
}

// Check finds out whether the engine answers, the network can be attached to, and the image is there or, as the policy allows, in its registry.
func (d *Docker) Check(ctx context.Context) error {
	cli, err := d.engine.client(ctx, "check")
	if err != nil {
		return err
	}
	if err := d.engine.learn(ctx, "check", cli); err != nil {
		return err
	}
	if err := d.checkNetwork(ctx, "check"); err != nil {
		return err
	}
	_, err = d.engine.image(ctx, "check", d.cfg.Image)
	if err == nil && d.cfg.PullPolicy != PullAlways || d.cfg.PullPolicy == PullNever || err != nil && !cerrdefs.IsNotFound(err) {
		return err
	}
	return d.engine.inRegistry(ctx, "check", d.cfg.Image)
}

// Route finds the way from a worker to this Manager, which listens on port. Its error is an *Error of op "route".
func (d *Docker) Route(ctx context.Context, port int) (Route, error) {
	return d.engine.route(ctx, d.cfg.Network, port)
}

// Create returns the container of that name if there is one already, started if it was not. Image and network are looked at
// first: without a network the engine creates a container all the same, and then cannot start it.
func (d *Docker) Create(ctx context.Context, spec Spec) (Worker, error) {
	cli, err := d.engine.client(ctx, "create")
	if err != nil {
		return Worker{}, err
	}
	if w, there, err := d.adopt(ctx, cli, spec); there || err != nil {
		return w, err
	}
	user, volumes, err := d.provide(ctx)
	if err != nil {
		return Worker{}, err
	}
	if err := d.checkNetwork(ctx, "create"); err != nil {
		return Worker{}, err
	}
	config, host := d.container(spec, user, volumes)
	again := time.NewTicker(100 * time.Millisecond)
	defer again.Stop()
	for patience := time.After(namePatience); ; {
		made, err := cli.ContainerCreate(ctx, config, host, nil, nil, spec.Name)
		switch {
		case err == nil:
			return d.start(ctx, cli, made.ID, spec)
		case cerrdefs.IsNotFound(err): // since we looked
			return Worker{}, d.engine.imageMissing("create", d.cfg.Image, err)
		case !cerrdefs.IsConflict(err):
			return Worker{}, d.engine.refused("create", "create container "+spec.Name, err)
		}
		// Another Create came first. The engine gives it the name before it shows the container.
		if w, there, err := d.adopt(ctx, cli, spec); there || err != nil {
			return w, err
		}
		select {
		case <-again.C:
		case <-ctx.Done():
			return Worker{}, fmt.Errorf("create container %s: %w", spec.Name, context.Cause(ctx))
		case <-patience:
			return Worker{}, &Error{Op: "create", Reason: "the engine has given the name " + spec.Name + " to a container that it does not show", Retry: true, Cause: "name", Err: err}
		}
	}
}

// adopt returns the worker that has the name of spec, if there is one.
func (d *Docker) adopt(ctx context.Context, cli *client.Client, spec Spec) (w Worker, there bool, err error) {
	c, err := cli.ContainerInspect(ctx, spec.Name)
	switch {
	case cerrdefs.IsNotFound(err):
		return Worker{}, false, nil
	case err != nil:
		return Worker{}, false, d.engine.refused("create", "inspect container "+spec.Name, err)
	case !d.engine.owns(c.Config.Labels) || c.Config.Labels[labelSpawn] != spec.SpawnID:
		return Worker{}, true, &Error{
			Op: "create", Reason: fmt.Sprintf("a container named %s exists and is no worker of this Manager", spec.Name),
			Mend: "remove it: docker rm -f " + spec.Name, Cause: "name",
		}
	case c.State.Status == container.StateRemoving:
		return Worker{}, true, &Error{Op: "create", Reason: "container " + spec.Name + " is being removed", Retry: true, Cause: "name"}
	case c.State.Status == container.StateCreated:
		// Two who start it start it once: the engine takes a second start of a running container for done.
		w, err = d.start(ctx, cli, c.ID, spec)
		return w, true, err
	}
	return inspected(c), true, nil
}

// start starts a created container, or leaves none behind.
func (d *Docker) start(ctx context.Context, cli *client.Client, id string, spec Spec) (Worker, error) {
	failed := cli.ContainerStart(ctx, id, container.StartOptions{})
	if failed != nil {
		refused := d.engine.refused("create", "start container "+spec.Name, failed)
		var known *Error
		if !errors.As(refused, &known) { // it may have started; the next Create will see
			return Worker{}, refused
		}
		clean, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanTimeout)
		defer cancel()
		err := cli.ContainerRemove(clean, id, container.RemoveOptions{RemoveVolumes: true})
		if !cerrdefs.IsConflict(err) { // conflict: it runs, another Create has started it
			if err != nil && !cerrdefs.IsNotFound(err) {
				d.engine.log.WarnContext(ctx, "container that did not start not removed", "worker", spec.Name, "err", err)
			}
			if err := d.checkNetwork(clean, "create"); err != nil {
				return Worker{}, err
			}
			return Worker{}, refused
		}
	}
	c, err := cli.ContainerInspect(ctx, id)
	if err != nil {
		return Worker{}, d.engine.refused("create", "inspect container "+spec.Name, err)
	}
	return inspected(c), nil
}

// checkNetwork finds out whether containers can be attached to the network.
func (d *Docker) checkNetwork(ctx context.Context, op string) error {
	n, err := d.engine.network(ctx, op, d.cfg.Network)
	if err != nil {
		return err
	}
	refused := &Error{Op: op, Cause: "network", Mend: "create another: docker network create NAME, and set -spawner-network"}
	switch {
	case n.Scope == "swarm" && n.Driver == "overlay" && !n.Attachable:
		refused.Reason = fmt.Sprintf("network %s is for Swarm services only: it is not attachable", n.Name)
		refused.Mend = "create it with --attachable: docker network create --driver overlay --attachable NAME, or use -spawner swarm"
	case n.Ingress || n.ConfigOnly || n.Driver == "null":
		refused.Reason = fmt.Sprintf("network %s cannot connect a worker to anything", n.Name)
	default:
		return nil
	}
	return refused
}

// idleOf says since when each container that was created and not started is known to be so. The engine's clock is not asked: it may be
// another machine's.
func (d *Docker) idleOf(found []container.Summary) map[string]time.Time {
	d.mu.Lock()
	defer d.mu.Unlock()
	idle := make(map[string]time.Time)
	for _, c := range found {
		if c.State != container.StateCreated {
			continue
		}
		since, known := d.idle[c.ID]
		if !known {
			since = time.Now()
		}
		idle[c.ID] = since
	}
	d.idle = idle
	return idle
}

// List returns the workers of this instance, oldest first, and removes containers that nobody has started for long.
func (d *Docker) List(ctx context.Context) ([]Worker, error) {
	cli, err := d.engine.client(ctx, "list")
	if err != nil {
		return nil, err
	}
	found, err := cli.ContainerList(ctx, container.ListOptions{All: true, Filters: d.engine.filter()})
	if err != nil {
		return nil, d.engine.refused("list", "list containers", err)
	}
	idle := d.idleOf(found)
	var workers []Worker
	for _, c := range found {
		switch c.State {
		case container.StateRemoving:
			continue
		case container.StateCreated:
			if time.Since(idle[c.ID]) > unstarted {
				err := cli.ContainerRemove(ctx, c.ID, container.RemoveOptions{RemoveVolumes: true}) // refused if it runs by now
				if err != nil && !cerrdefs.IsNotFound(err) && !cerrdefs.IsConflict(err) {
					d.engine.log.WarnContext(ctx, "container that was never started not removed", "container", c.ID, "err", err)
				}
			}
			continue
		}
		workers = append(workers, Worker{
			ID: ID(c.ID), Name: ownName(c.Names), SpawnID: c.Labels[labelSpawn], JobID: c.Labels[labelJob],
			Running: c.State != container.StateExited && c.State != container.StateDead, CreatedAt: time.Unix(c.Created, 0).UTC(),
		})
	}
	slices.SortFunc(workers, func(a, b Worker) int { return a.CreatedAt.Compare(b.CreatedAt) })
	return workers, nil
}

// Stop ends a container. Its grace is counted in whole seconds, rounded up.
func (d *Docker) Stop(ctx context.Context, id ID, grace time.Duration) error {
	cli, c, err := d.own(ctx, "stop", id)
	if cerrdefs.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return err
	}
	seconds := int(math.Ceil(grace.Seconds()))
	err = cli.ContainerStop(ctx, c.ID, container.StopOptions{Timeout: &seconds})
	if err != nil && !cerrdefs.IsNotFound(err) {
		return d.engine.refused("stop", "stop container "+c.Name[1:], err)
	}
	return nil
}

// Remove deletes an ended container with its log. It refuses one that runs.
func (d *Docker) Remove(ctx context.Context, id ID) error {
	cli, c, err := d.own(ctx, "remove", id)
	if cerrdefs.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return err
	}
	if c.State.Running {
		return &Error{Op: "remove", Reason: "worker " + c.Name[1:] + " runs", Mend: "stop it first", Cause: "other"}
	}
	err = cli.ContainerRemove(ctx, c.ID, container.RemoveOptions{RemoveVolumes: true})
	if cerrdefs.IsNotFound(err) || cerrdefs.IsConflict(err) && c.State.Status == container.StateRemoving {
		return nil
	}
	if err != nil {
		return d.engine.refused("remove", "remove container "+c.Name[1:], err)
	}
	return nil
}

// Watch follows the engine's events: an exit is told within milliseconds.
func (d *Docker) Watch(ctx context.Context, changed func()) error {
	cli, err := d.engine.client(ctx, "watch")
	if err != nil {
		return err
	}
	filter := d.engine.filter()
	filter.Add("type", string(events.ContainerEventType))
	for _, action := range []events.Action{events.ActionStart, events.ActionDie, events.ActionDestroy} {
		filter.Add("event", string(action))
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	messages, broken := cli.Events(ctx, events.ListOptions{Filters: filter})
	for {
		select {
		case <-messages:
			changed()
		case err := <-broken:
			if ctx.Err() != nil {
				return nil
			}
			return d.engine.refused("watch", "follow the engine's events", err)
		}
	}
}

// own returns the container of that id, and an *Error if it is not one of ours. cerrdefs.IsNotFound holds for the error if there is none.
func (d *Docker) own(ctx context.Context, op string, id ID) (*client.Client, container.InspectResponse, error) {
	cli, err := d.engine.client(ctx, op)
	if err != nil {
		return nil, container.InspectResponse{}, err
	}
	c, err := cli.ContainerInspect(ctx, string(id))
	if cerrdefs.IsNotFound(err) {
		return nil, container.InspectResponse{}, &Error{Op: op, Reason: fmt.Sprintf("worker %s is unknown to the engine", id), Cause: "other", Err: err}
	}
	if err != nil {
		return nil, container.InspectResponse{}, d.engine.refused(op, fmt.Sprintf("inspect container %s", id), err)
	}
	if !d.engine.owns(c.Config.Labels) {
		return nil, container.InspectResponse{}, &Error{Op: op, Reason: fmt.Sprintf("container %s is no worker of this Manager", id), Cause: "other"}
	}
	return cli, c, nil
}

// inspected is a container as List would show it, which knows times to the second.
func inspected(c container.InspectResponse) Worker {
	created, err := time.Parse(time.RFC3339Nano, c.Created)
	if err != nil {
		created = time.Time{}
	}
	return Worker{
		ID: ID(c.ID), Name: strings.TrimPrefix(c.Name, "/"), SpawnID: c.Config.Labels[labelSpawn], JobID: c.Config.Labels[labelJob],
		Running: c.State.Running, CreatedAt: created.UTC().Truncate(time.Second),
	}
}

// ownName is a container's own name among those that links have given it.
func ownName(names []string) string {
	for _, name := range names {
		if name = strings.TrimPrefix(name, "/"); !strings.Contains(name, "/") {
			return name
		}
	}
	return ""
}
