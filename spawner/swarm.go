package spawner

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	cerrdefs "github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/filters"
	"github.com/docker/docker/api/types/swarm"
	"github.com/docker/docker/client"
)

// Swarm runs each worker as a service of one task that is never restarted. All it knows of a worker is in the service's labels
// and in its task, so that any Manager of the instance finds it again. An ended task leaves its service at 0/1 replicas, with exit
// code and log kept, until Remove.
//
// Stop does not scale to 0: the swarm deletes the tasks of a service that it scales down, and their logs with them. It gives the
// service a placement that no node meets instead: the task is shut down and kept, its successor is never placed.
type Swarm struct {
	cfg    SwarmConfig
	engine *engine
	now    func() time.Time

	// ceiling follows the nodes, as of the last look.
	ceiling atomic.Int64

	mu       sync.Mutex
	creating map[string]int // spawns whose secret may be there before its service
	swept    time.Time
}

var (
	_ Spawner = (*Swarm)(nil)
	_ Watcher = (*Swarm)(nil)
)

// Bounds of what the swarm does on its own time.
const (
	swarmStopSlack  = 45 * time.Second // for its two rounds from the service to the node and back
	swarmRemoveWait = 30 * time.Second
	swarmLogWait    = 5 * time.Second // a node that is down does not answer for its logs
	swarmPoll       = 100 * time.Millisecond
	// orphanAge is how old a secret without a service must be to be nobody's work under way.
	orphanAge = time.Minute
)

// Backend is "swarm".
func (s *Swarm) Backend() string { return "swarm" }

// Limits are those of the nodes that take tasks, once the swarm has told: four workers a core, since they wait for the network most of
// their time, and no more than fit into a node's memory. A node that must pull the image first needs its time to join.
func (s *Swarm) Limits() Limits {
	return Limits{MaxWorkers: int(s.ceiling.Load()), Creates: 4, JoinDeadline: 3 * time.Minute}
}

// Create starts a service unless there is one of that name. The swarm's own uniqueness of names decides, so that it holds against
// other goroutines, another Manager, and a Manager that died half-way.
func (s *Swarm) Create(ctx context.Context, spec Spec) (Worker, error) {
	api, err := s.engine.client(ctx, "create")
	if err != nil {
		return Worker{}, err
	}
	w, err := s.create(ctx, api, spec)
	if err != nil {
		return Worker{}, s.declined("create", "create service "+spec.Name, err)
	}
	return w, nil
}

func (s *Swarm) create(ctx context.Context, api *client.Client, spec Spec) (Worker, error) {
	w, err := s.existing(ctx, api, spec)
	if !cerrdefs.IsNotFound(err) {
		return w, err
	}
	img, err := s.ready(ctx, api, "create")
	if err != nil {
		return Worker{}, err
	}
	user := userFor(img)
	auth, err := registryAuth(s.cfg.Image)
	if err != nil {
		s.engine.log.WarnContext(ctx, "registry credentials not read", "image", s.cfg.Image, "err", err)
	}
	s.begin(spec.SpawnID, 1)
	defer s.begin(spec.SpawnID, -1)
	for tries := 0; ; tries++ {
		secret, err := s.secret(ctx, api, spec, user)
		if err != nil {
			return Worker{}, err
		}
		made, err := api.ServiceCreate(ctx, s.serviceSpec(spec, secret, user, img), swarm.ServiceCreateOptions{EncodedRegistryAuth: auth, QueryRegistry: s.cfg.PullPolicy == PullAlways})
		switch {
		case err == nil:
			for _, warning := range made.Warnings {
				s.engine.log.WarnContext(ctx, "swarm warned", "worker", spec.Name, "warning", warning)
			}
			svc, _, err := api.ServiceInspectWithRaw(ctx, made.ID, swarm.ServiceInspectOptions{})
			if err != nil { // it is there, and that is what matters
				return Worker{ID: ID(made.ID), Name: spec.Name, SpawnID: spec.SpawnID, JobID: spec.JobID, Running: true, CreatedAt: s.now().UTC()}, nil
			}
			return serviceWorker(svc, true), nil
		case cerrdefs.IsConflict(err): // another Create came first
			w, err := s.existing(ctx, api, spec)
			if cerrdefs.IsNotFound(err) { // and its worker is gone already
				err = &Error{Op: "create", Reason: "service " + spec.Name + " was removed meanwhile", Retry: true, Cause: "name", Err: err}
			}
			return w, err
		case tries < 2 && s.secretGone(ctx, api, secret):
			continue // swept by another Manager as a leftover, between our two calls
		}
		if ctx.Err() == nil { // else nobody knows whether there is a service now: a later List sweeps
			s.discard(ctx, api, spec.SpawnID)
		}
		return Worker{}, err
	}
}

// existing returns the worker that has spec's name. Its error is a not-found if there is none.
func (s *Swarm) existing(ctx context.Context, api *client.Client, spec Spec) (Worker, error) {
	svc, _, err := api.ServiceInspectWithRaw(ctx, spec.Name, swarm.ServiceInspectOptions{})
	if err != nil {
		return Worker{}, err
	}
	if !s.engine.owns(svc.Spec.Labels) || svc.Spec.Labels[labelSpawn] != spec.SpawnID {
		return Worker{}, &Error{
			Op: "create", Reason: fmt.Sprintf("a service %s is there already and is not this Manager's", spec.Name),
			Mend: "remove it: docker service rm " + spec.Name, Cause: "name",
		}
	}
	seen, err := s.look(ctx, api, svc)
	if err != nil {
		return Worker{}, err
	}
	return serviceWorker(svc, seen.running), nil
}

// List returns the workers of this instance, oldest first. Now and then it sweeps secrets whose service was never made or is gone.
func (s *Swarm) List(ctx context.Context) ([]Worker, error) {
	api, err := s.engine.client(ctx, "list")
	if err != nil {
		return nil, err
	}
	workers, err := s.list(ctx, api)
	if err != nil {
		return nil, s.declined("list", "list services", err)
	}
	return workers, nil
}

func (s *Swarm) list(ctx context.Context, api *client.Client) ([]Worker, error) {
	secrets, err := s.sweepable(ctx, api)
	if err != nil {
		return nil, err
	}
	// Services before tasks: else one that has just got its task would look like one that has lost it.
	services, err := api.ServiceList(ctx, swarm.ServiceListOptions{Filters: s.engine.filter()})
	if err != nil {
		return nil, err
	}
	tasks, err := api.TaskList(ctx, swarm.TaskListOptions{Filters: s.engine.filter()})
	if err != nil {
		return nil, err
	}
	nodes, err := s.nodes(ctx, api)
	if err != nil {
		return nil, err
	}
	s.sweep(ctx, api, secrets, services)
	of := make(map[string][]swarm.Task, len(services))
	for _, t := range tasks {
		of[t.ServiceID] = append(of[t.ServiceID], t)
	}
	var workers []Worker
	for _, svc := range services {
		workers = append(workers, serviceWorker(svc, lookAt(svc, of[svc.ID], nodes, s.now()).running))
	}
	slices.SortFunc(workers, func(a, b Worker) int {
		return cmp.Or(a.CreatedAt.Compare(b.CreatedAt), cmp.Compare(a.ID, b.ID))
	})
	return workers, nil
}

// Stop shuts the task down: its node sends SIGTERM, and SIGKILL after the grace that the service was made with. A shorter grace is
// kept only on the node of this engine.
func (s *Swarm) Stop(ctx context.Context, id ID, grace time.Duration) error {
	api, err := s.engine.client(ctx, "stop")
	if err != nil {
		return err
	}
	bounded, cancel := context.WithTimeout(ctx, max(grace, stopGracePeriod)+swarmStopSlack)
	defer cancel()
	err = s.stop(bounded, api, id, grace)
	if cerrdefs.IsNotFound(err) {
		return nil
	}
	if err != nil && ctx.Err() == nil && errors.Is(err, context.DeadlineExceeded) {
		return &Error{Op: "stop", Reason: fmt.Sprintf("worker %s still runs after SIGKILL", id), Mend: "look at its node: docker node ls", Retry: true, Cause: "other"}
	}
	return s.declined("stop", "stop service "+string(id), err)
}

func (s *Swarm) stop(ctx context.Context, api *client.Client, id ID, grace time.Duration) error {
	killAt := s.now().Add(grace)
	for {
		svc, err := s.service(ctx, api, "stop", id)
		if err != nil {
			return err
		}
		seen, err := s.look(ctx, api, svc)
		if err != nil || !seen.running {
			return err
		}
		if svc.Spec.Labels[labelStopped] == "" {
			if err := s.shutDown(ctx, api, svc, seen); err != nil && !outOfSequence(err) {
				return err
			}
			continue // looked at again: an update that came in between may have won
		}
		if !s.now().Before(killAt) {
			if err := s.kill(ctx, api, id); err != nil {
				return err
			}
		}
		if err := pause(ctx, swarmPoll); err != nil {
			return err
		}
	}
}

// shutDown ends the service's task and keeps it. Why a task was never placed is noted, since such a task is not kept.
func (s *Swarm) shutDown(ctx context.Context, api *client.Client, svc swarm.Service, seen sightOfTask) error {
	spec := svc.Spec
	spec.Labels[labelStopped] = cmp.Or(seen.waits(), "asked to stop")
	if spec.TaskTemplate.Placement == nil {
		spec.TaskTemplate.Placement = new(swarm.Placement)
	}
	spec.TaskTemplate.Placement.Constraints = append(spec.TaskTemplate.Placement.Constraints, nowhere)
	_, err := api.ServiceUpdate(ctx, svc.ID, svc.Version, spec, swarm.ServiceUpdateOptions{RegistryAuthFrom: swarm.RegistryAuthFromSpec})
	return err
}

// kill ends what runs of a worker on this engine's own node.
func (s *Swarm) kill(ctx context.Context, api *client.Client, id ID) error {
	list, err := s.containers(ctx, api, id, false)
	if err != nil {
		return err
	}
	for _, c := range list {
		if err := api.ContainerKill(ctx, c.ID, "KILL"); err != nil && !cerrdefs.IsNotFound(err) && !cerrdefs.IsConflict(err) { // conflict: it does not run
			return err
		}
	}
	return nil
}

// Collect returns what the worker's task says of its end. Without an exit code the detail says why it never ran.
func (s *Swarm) Collect(ctx context.Context, id ID) (Exit, error) {
	api, err := s.engine.client(ctx, "collect")
	if err != nil {
		return Exit{}, err
	}
	exit, err := s.collect(ctx, api, id)
	if cerrdefs.IsNotFound(err) {
		return Exit{}, &Error{Op: "collect", Reason: fmt.Sprintf("worker %s is not known", id), Cause: "name", Err: fs.ErrNotExist}
	}
	if err != nil {
		return Exit{}, s.declined("collect", "collect service "+string(id), err)
	}
	return exit, nil
}

func (s *Swarm) collect(ctx context.Context, api *client.Client, id ID) (Exit, error) {
	svc, err := s.service(ctx, api, "collect", id)
	if err != nil {
		return Exit{}, err
	}
	seen, err := s.look(ctx, api, svc)
	if err != nil {
		return Exit{}, err
	}
	if seen.running {
		return Exit{}, &Error{Op: "collect", Reason: fmt.Sprintf("worker %s runs", id), Retry: true, Cause: "other"}
	}
	exit := seen.exit(svc)
	if seen.task == nil || seen.task.Status.ContainerStatus == nil || seen.task.Status.ContainerStatus.ContainerID == "" {
		return exit, nil
	}
	// The engine of this node knows more and answers sooner than the swarm.
	c, err := api.ContainerInspect(ctx, seen.task.Status.ContainerStatus.ContainerID)
	switch {
	case err == nil && c.State != nil && exit.Code >= 0:
		exit.Detail = cmp.Or(s.cfg.detail(c.State), exit.Detail)
	case err != nil && !cerrdefs.IsNotFound(err):
		return Exit{}, err
	}
	exit.LogTail, err = s.logTail(ctx, api, *seen.task, err == nil)
	if err != nil && ctx.Err() != nil {
		return Exit{}, err
	}
	if err != nil { // the node is away: the code is worth having without
		exit.Detail = strings.TrimPrefix(fmt.Sprintf("%s; its log could not be read: %v", exit.Detail, err), "; ")
	}
	return exit, nil
}

// Remove deletes service, task, container and secret, and returns when they are gone from this node.
func (s *Swarm) Remove(ctx context.Context, id ID) error {
	api, err := s.engine.client(ctx, "remove")
	if err != nil {
		return err
	}
	return s.declined("remove", "remove service "+string(id), s.remove(ctx, api, id))
}

func (s *Swarm) remove(ctx context.Context, api *client.Client, id ID) error {
	svc, err := s.service(ctx, api, "remove", id)
	if err != nil && !cerrdefs.IsNotFound(err) {
		return err
	}
	if err == nil {
		seen, err := s.look(ctx, api, svc)
		if err != nil {
			return err
		}
		if seen.running {
			return &Error{Op: "remove", Reason: fmt.Sprintf("worker %s runs", id), Mend: "stop it first", Cause: "other"}
		}
		if err := api.ServiceRemove(ctx, svc.ID); err != nil && !cerrdefs.IsNotFound(err) {
			return err
		}
		if err := s.removeSecrets(ctx, api, svc.Spec.Labels[labelSpawn]); err != nil {
			return err
		}
	}
	bounded, cancel := context.WithTimeout(ctx, swarmRemoveWait)
	defer cancel()
	for {
		gone, err := s.gone(bounded, api, id)
		if gone {
			return nil
		}
		if err == nil {
			err = pause(bounded, swarmPoll)
		}
		if err != nil && ctx.Err() == nil && bounded.Err() != nil {
			return &Error{Op: "remove", Reason: fmt.Sprintf("the container of worker %s is still there", id), Mend: "look for it: docker ps -a --filter label=com.docker.swarm.service.id=" + string(id), Retry: true, Cause: "other", Err: err}
		}
		if err != nil {
			return err
		}
	}
}

// gone reports whether nothing of a removed service is left: no container on this engine's node, and no task from which a node that
// is up might still make one.
func (s *Swarm) gone(ctx context.Context, api *client.Client, id ID) (bool, error) {
	tasks, err := api.TaskList(ctx, swarm.TaskListOptions{Filters: s.engine.filter()}) // a removed service is no filter
	if err != nil {
		return false, err
	}
	nodes, err := s.nodes(ctx, api)
	if err != nil {
		return false, err
	}
	for _, t := range tasks {
		down := slices.ContainsFunc(nodes, func(n swarm.Node) bool { return n.ID == t.NodeID && n.Status.State == swarm.NodeStateDown })
		if t.ServiceID == string(id) && !down {
			return false, nil
		}
	}
	list, err := s.containers(ctx, api, id, true)
	for _, c := range list { // a busy node takes its time to do the same
		e := api.ContainerRemove(ctx, c.ID, container.RemoveOptions{Force: true, RemoveVolumes: true})
		if e != nil && !cerrdefs.IsNotFound(e) && !cerrdefs.IsConflict(e) { // conflict: it is being removed
			return false, e
		}
	}
	return err == nil && len(list) == 0, err
}

// service returns a service of this instance. Its error is a not-found if there is none, and a refusal if it is another's.
func (s *Swarm) service(ctx context.Context, api *client.Client, op string, id ID) (swarm.Service, error) {
	svc, _, err := api.ServiceInspectWithRaw(ctx, string(id), swarm.ServiceInspectOptions{})
	if err == nil && !s.engine.owns(svc.Spec.Labels) {
		err = &Error{Op: op, Reason: fmt.Sprintf("service %s is no worker of this Manager", id), Cause: "other"}
	}
	return svc, err
}

// look asks for a service's tasks.
func (s *Swarm) look(ctx context.Context, api *client.Client, svc swarm.Service) (sightOfTask, error) {
	tasks, err := api.TaskList(ctx, swarm.TaskListOptions{Filters: filters.NewArgs(filters.Arg("service", svc.ID))})
	if err != nil {
		return sightOfTask{}, err
	}
	nodes, err := s.nodes(ctx, api)
	if err != nil {
		return sightOfTask{}, err
	}
	return lookAt(svc, tasks, nodes, s.now()), nil
}

// containers are those of a worker on this engine's own node.
func (s *Swarm) containers(ctx context.Context, api *client.Client, id ID, ended bool) ([]container.Summary, error) {
	return api.ContainerList(ctx, container.ListOptions{All: ended, Filters: filters.NewArgs(filters.Arg("label", "com.docker.swarm.service.id="+string(id)))})
}

func serviceWorker(svc swarm.Service, running bool) Worker {
	l := svc.Spec.Labels
	return Worker{ID: ID(svc.ID), Name: svc.Spec.Name, SpawnID: l[labelSpawn], JobID: l[labelJob], Running: running, CreatedAt: svc.CreatedAt}
}

// pause waits for d or for the end of ctx.
func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-t.C:
		return nil
	}
}
