package spawner

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"

	cerrdefs "github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/events"
	"github.com/docker/docker/api/types/filters"
	"github.com/docker/docker/api/types/image"
	"github.com/docker/docker/api/types/swarm"
	"github.com/docker/docker/client"
)

// Check finds out whether a service could be made and its task placed. On a swarm of several nodes it cannot see whether each has the
// image or reaches its registry; such a worker's end says so.
func (s *Swarm) Check(ctx context.Context) error {
	api, err := s.engine.client(ctx, "check")
	if err != nil {
		return err
	}
	if _, err := s.ready(ctx, api, "check"); err != nil {
		return err
	}
	tasks, err := api.TaskList(ctx, swarm.TaskListOptions{Filters: s.engine.filter()})
	if err != nil {
		return s.declined("check", "list tasks", err)
	}
	for _, t := range tasks {
		if t.Status.State == swarm.TaskStatePending && t.Status.Err != "" && t.DesiredState == swarm.TaskStateRunning && !placedNowhere(t) {
			return &Error{Op: "check", Reason: "a worker waits for a node: " + t.Status.Err, Mend: "add a node or free one: docker node ls", Retry: true, Cause: "resources"}
		}
	}
	return nil
}

// Route is the way from a worker to this Manager, which listens on port: by the name of its own service if it is a service on the
// network.
func (s *Swarm) Route(ctx context.Context, port int) (Route, error) {
	r, err := s.engine.route(ctx, s.cfg.Network, port)
	if err != nil || r.Listen == "" {
		return r, err
	}
	api, err := s.engine.client(ctx, "route")
	if err != nil {
		return Route{}, err
	}
	nodes, err := s.nodes(ctx, api)
	if err != nil {
		return Route{}, s.declined("route", "list nodes", err)
	}
	if len(nodes) > 1 { // the gateway is each node's own
		refused := noRoute("workers may run on any of %d nodes, and this Manager is no service on network %s", len(nodes), s.cfg.Network)
		refused.Mend = "set -spawner-manager-url to a URL that every node reaches"
		return Route{}, refused
	}
	return r, nil
}

// Watch tells of containers of this instance on this engine's own node, and of its services. The ends of workers on other nodes are
// found at the next look: their engines tell only who asks them.
func (s *Swarm) Watch(ctx context.Context, changed func()) error {
	api, err := s.engine.client(ctx, "watch")
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	which := filters.NewArgs(
		filters.Arg("type", string(events.ContainerEventType)), filters.Arg("type", string(events.ServiceEventType)),
		filters.Arg("event", "start"), filters.Arg("event", "die"), filters.Arg("event", "destroy"),
		filters.Arg("event", "create"), filters.Arg("event", "update"), filters.Arg("event", "remove"),
	)
	told, broke := api.Events(ctx, events.ListOptions{Filters: which})
	for {
		select {
		case <-ctx.Done():
			return nil
		case err := <-broke:
			if ctx.Err() != nil {
				return nil
			}
			return s.declined("watch", "watch the swarm", err)
		case m := <-told:
			a := m.Actor.Attributes // a service's hold its name, no labels
			if s.engine.owns(a) || m.Type == events.ServiceEventType && strings.HasPrefix(a["name"], workerPrefix) {
				changed()
			}
		}
	}
}

// workerPrefix begins the names of all workers, of any instance.
const workerPrefix = "gmaps-worker-"

// ready finds out whether this node manages a swarm, in which some node would take a worker with this network and image. It returns
// what the image says of itself; nothing if this node does not have it.
func (s *Swarm) ready(ctx context.Context, api *client.Client, op string) (image.InspectResponse, error) {
	none := image.InspectResponse{}
	nodes, err := s.nodes(ctx, api)
	if err != nil {
		return none, s.declined(op, "list nodes", err)
	}
	if err := s.placeable(op, nodes); err != nil {
		return none, err
	}
	n, err := s.engine.network(ctx, op, s.cfg.Network)
	if err != nil {
		return none, err
	}
	refused := &Error{Op: op, Cause: "network", Mend: "create one: docker network create --driver overlay --attachable NAME, and set -spawner-network"}
	switch {
	case n.Driver != "overlay" || n.Scope != "swarm":
		refused.Reason = fmt.Sprintf("network %s is a %s network of this host: services need an overlay network", n.Name, n.Driver)
		return none, refused
	case n.Ingress || n.ConfigOnly:
		refused.Reason = fmt.Sprintf("network %s cannot connect a worker to anything", n.Name)
		return none, refused
	}
	img, missing := s.engine.image(ctx, op, s.cfg.Image)
	if !cerrdefs.IsNotFound(missing) || s.cfg.PullPolicy == PullNever {
		return img, missing
	}
	unregistered := s.engine.inRegistry(ctx, op, s.cfg.Image)
	switch {
	case unregistered == nil: // each node pulls it
	case ctx.Err() != nil, len(nodes) == 1:
		return none, unregistered
	default:
		s.engine.log.WarnContext(ctx, "image neither on this node nor in a registry: workers start only on nodes that have it", "image", s.cfg.Image)
	}
	return none, nil
}

// nodes returns the swarm's nodes. Limits follow them.
func (s *Swarm) nodes(ctx context.Context, api *client.Client) ([]swarm.Node, error) {
	nodes, err := api.NodeList(ctx, swarm.NodeListOptions{})
	if err != nil {
		return nil, err
	}
	ceiling := int64(0)
	for _, n := range nodes {
		if !takesTasks(n) || unmet(s.cfg.Constraints, n) != "" {
			continue
		}
		has := n.Description.Resources
		workers := max(1, 4*has.NanoCPUs/1e9)
		if s.cfg.MemoryMiB > 0 && has.MemoryBytes > 0 {
			workers = min(workers, max(1, has.MemoryBytes>>20/int64(s.cfg.MemoryMiB)))
		}
		ceiling += workers
	}
	s.ceiling.Store(max(1, ceiling))
	return nodes, nil
}

// placeable refuses if no node takes tasks, or none meets the constraints.
func (s *Swarm) placeable(op string, nodes []swarm.Node) error {
	why := "no node of the swarm is ready and active"
	for _, n := range nodes {
		if !takesTasks(n) {
			continue
		}
		constraint := unmet(s.cfg.Constraints, n)
		if constraint == "" {
			return nil
		}
		why = "no node meets the constraint " + constraint
	}
	return &Error{Op: op, Reason: why, Mend: "see docker node ls and docker node inspect NODE, label one (docker node update --label-add KEY=VALUE NODE), or change -spawner-constraint", Retry: true, Cause: "resources"}
}

func takesTasks(n swarm.Node) bool {
	return n.Status.State == swarm.NodeStateReady && n.Spec.Availability == swarm.NodeAvailabilityActive
}

// constraintForm is a constraint as the swarm takes it (swarmkit, manager/constraint).
var constraintForm = regexp.MustCompile(`^\s*([A-Za-z0-9_.-]+)\s*(==|!=)\s*(\S.*?)\s*$`)

// unmet returns the first constraint that a node does not meet; empty: it meets all. One that only the swarm can judge counts as met.
func unmet(constraints []string, n swarm.Node) string {
	for _, c := range constraints {
		m := constraintForm.FindStringSubmatch(c)
		if m == nil {
			continue
		}
		var value string
		switch key := strings.ToLower(m[1]); {
		case key == "node.id":
			value = n.ID
		case key == "node.hostname":
			value = n.Description.Hostname
		case key == "node.role":
			value = string(n.Spec.Role)
		case key == "node.platform.os":
			value = n.Description.Platform.OS
		case strings.HasPrefix(key, "node.labels."):
			value = n.Spec.Labels[m[1][len("node.labels."):]]
		case strings.HasPrefix(key, "engine.labels."):
			value = n.Description.Engine.Labels[m[1][len("engine.labels."):]]
		default: // node.ip takes subnets, node.platform.arch other names
			continue
		}
		if strings.EqualFold(value, m[3]) != (m[2] == "==") {
			return c
		}
	}
	return ""
}

// outOfSequence reports whether an update came too late: somebody else has changed the service since it was read.
func outOfSequence(err error) bool {
	return err != nil && strings.Contains(err.Error(), "update out of sequence")
}

// declined says what an error of the swarm means, where it is more than an engine's.
func (s *Swarm) declined(op, doing string, err error) error {
	var known *Error
	// An engine that is in no swarm, or no manager of its, answers every such call with 503 and one of these texts (moby, daemon/cluster).
	if !errors.As(err, &known) && cerrdefs.IsUnavailable(err) {
		text := err.Error()
		switch {
		case strings.Contains(text, "not a swarm manager"):
			return &Error{
				Op: op, Reason: "this Docker engine is not a manager of a swarm", Retry: strings.Contains(text, "being prepared"), Cause: "other", Err: err,
				Mend: "make it one: docker swarm init; in an existing swarm run the Manager on a manager node: constraint node.role == manager",
			}
		case strings.Contains(text, "encrypted"), strings.Contains(text, "locked"):
			return &Error{Op: op, Reason: "the swarm is locked", Mend: "docker swarm unlock", Cause: "other", Err: err}
		case strings.Contains(text, "does not have a leader"):
			return &Error{Op: op, Reason: "the swarm has no leader: most of its managers are away", Mend: "bring them back: docker node ls on another manager", Retry: true, Cause: "other", Err: err}
		}
	}
	return s.engine.refused(op, doing, err)
}
