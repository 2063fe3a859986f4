package spawner

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"maps"
	"path"
	"regexp"
	"slices"
	"strings"
	"time"

	cerrdefs "github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/image"
	"github.com/docker/docker/api/types/mount"
	"github.com/docker/docker/api/types/swarm"
	"github.com/docker/docker/client"
)

const (
	// labelStopped marks a service that was told to stop, and says what its task was waiting for then, if it was.
	labelStopped = "gmaps.stopped"
	// nowhere is a placement that no node meets: node ids are 25 characters.
	nowhere = "node.id==gmaps-stopped"
	// secretPath is where a task finds its secrets. The file is in memory on the node, never on its disk.
	secretPath = "/run/secrets/gmaps"
	// stopGracePeriod is what a node gives a task between SIGTERM and SIGKILL. It is fixed when the service is made.
	stopGracePeriod = 10 * time.Second
)

// serviceSpec is the service of one worker: the same container as that of the backend docker. It holds no secrets, since docker service
// inspect shows the environment.
func (s *Swarm) serviceSpec(spec Spec, secret *swarm.SecretReference, user string, img image.InspectResponse) swarm.ServiceSpec {
	labels := s.engine.labels(spec)
	env := maps.Clone(spec.Env)
	var secrets []*swarm.SecretReference
	if secret != nil {
		if env == nil {
			env = make(map[string]string)
		}
		env[SecretsFile] = secretPath
		secrets = append(secrets, secret)
	}
	grace, once := stopGracePeriod, uint64(1)
	c := &swarm.ContainerSpec{
		Image:           s.cfg.Image,
		Labels:          labels,    // the container's too: docker ps --filter label=gmaps.worker=true
		Args:            spec.Args, // not Command, which would replace the image's entrypoint
		Env:             containerEnv(Spec{Env: env}),
		User:            user,
		ReadOnly:        true,
		Mounts:          []mount.Mount{inMemory("/tmp", workerTmp), inMemory("/dev/shm", workerShm)},
		Secrets:         secrets,
		StopSignal:      "SIGTERM",
		StopGracePeriod: &grace,
		Healthcheck:     &container.HealthConfig{Test: []string{"NONE"}}, // heartbeats tell more than an image's own check
		CapabilityDrop:  []string{"ALL"},
		Privileges:      &swarm.Privileges{NoNewPrivileges: true}, // from API 1.44 (Engine 25); older ones pass it over
	}
	if img.Config != nil {
		for dir := range img.Config.Volumes { // else each worker would get a volume on disk
			if dir = path.Clean(dir); dir != "/tmp" && dir != "/dev/shm" { // a mount that is there twice is refused
				c.Mounts = append(c.Mounts, inMemory(dir, workerTmp))
			}
		}
	}
	if s.engine.known().InitCommit.ID != "N/A" { // as with the backend docker
		init := true
		c.Init = &init
	}
	return swarm.ServiceSpec{
		Annotations: swarm.Annotations{Name: spec.Name, Labels: labels},
		Mode:        swarm.ServiceMode{Replicated: &swarm.ReplicatedService{Replicas: &once}},
		TaskTemplate: swarm.TaskSpec{
			ContainerSpec: c,
			Resources: &swarm.ResourceRequirements{Limits: &swarm.Limit{
				MemoryBytes: int64(s.cfg.MemoryMiB) << 20, NanoCPUs: int64(s.cfg.CPUs * 1e9), Pids: int64(s.cfg.PIDs),
			}},
			// MaxAttempts restarts nothing with this condition, but makes the swarm keep an ended task where its task-history-limit is 0
			// (swarmkit, manager/orchestrator/taskreaper).
			RestartPolicy: &swarm.RestartPolicy{Condition: swarm.RestartPolicyConditionNone, MaxAttempts: &once},
			Placement:     &swarm.Placement{Constraints: slices.Clone(s.cfg.Constraints)},
			Networks:      []swarm.NetworkAttachmentConfig{{Target: s.cfg.Network}},
			LogDriver:     &swarm.Driver{Name: "json-file", Options: map[string]string{"max-size": "4m", "max-file": "2"}},
		},
	}
}

func inMemory(dir string, size int64) mount.Mount {
	return mount.Mount{Type: mount.TypeTmpfs, Target: dir, TmpfsOptions: &mount.TmpfsOptions{SizeBytes: size, Mode: 0o1777}}
}

// userFor is whom a worker runs as. Its secrets need a number, and workerUser knows the names in an image.
func userFor(img image.InspectResponse) string {
	if img.Config != nil && numericUser.MatchString(img.Config.User) {
		return img.Config.User
	}
	return workerUser
}

// numericUser is a user, not root, and perhaps a group.
var numericUser = regexp.MustCompile(`^[1-9][0-9]*(:[0-9]+)?$`)

// secret makes the swarm secret of a worker, or finds the one that a Manager before us has made. Its name holds a hash of its
// content, so that what is found is what is wanted, and Managers that race or differ never take each other's away.
func (s *Swarm) secret(ctx context.Context, api *client.Client, spec Spec, user string) (*swarm.SecretReference, error) {
	if len(spec.Secrets) == 0 {
		return nil, nil
	}
	content := encodeSecrets(spec.Secrets)
	sum := sha256.Sum256(content)
	name := spec.Name + "-" + hex.EncodeToString(sum[:4])
	var id string
	made, err := api.SecretCreate(ctx, swarm.SecretSpec{Annotations: swarm.Annotations{Name: name, Labels: s.engine.labels(spec)}, Data: content})
	switch {
	case err == nil:
		id = made.ID
	case cerrdefs.IsConflict(err):
		there, _, err := api.SecretInspectWithRaw(ctx, name)
		if err != nil {
			return nil, err
		}
		if !s.engine.owns(there.Spec.Labels) {
			return nil, &Error{
				Op: "create", Reason: "a secret " + name + " is there already and is not this Manager's",
				Mend: "remove it: docker secret rm " + name, Cause: "name",
			}
		}
		id = there.ID
	default:
		return nil, err
	}
	uid, _, _ := strings.Cut(user, ":")
	return &swarm.SecretReference{SecretID: id, SecretName: name, File: &swarm.SecretReferenceFileTarget{
		Name: secretPath, UID: uid, GID: uid, Mode: 0o400,
	}}, nil
}

// secretGone reports whether a secret that was just there has been removed.
func (s *Swarm) secretGone(ctx context.Context, api *client.Client, secret *swarm.SecretReference) bool {
	if secret == nil {
		return false
	}
	_, _, err := api.SecretInspectWithRaw(ctx, secret.SecretID)
	return cerrdefs.IsNotFound(err)
}

// removeSecrets deletes the secrets of a spawn. One that a service uses is refused by the swarm.
func (s *Swarm) removeSecrets(ctx context.Context, api *client.Client, spawn string) error {
	which := s.engine.filter()
	which.Add("label", labelSpawn+"="+spawn)
	list, err := api.SecretList(ctx, swarm.SecretListOptions{Filters: which})
	if err != nil {
		return err
	}
	for _, secret := range list {
		if e := api.SecretRemove(ctx, secret.ID); e != nil && !cerrdefs.IsNotFound(e) {
			err = errors.Join(err, e)
		}
	}
	return err
}

// discard deletes the secret of a service that was refused. If that fails, a later List sweeps it.
func (s *Swarm) discard(ctx context.Context, api *client.Client, spawn string) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	if err := s.removeSecrets(ctx, api, spawn); err != nil {
		s.engine.log.WarnContext(ctx, "secret not removed", "spawn", spawn, "err", err)
	}
}

// begin notes that the secret of a spawn may be there before its service is (by 1), or no longer (by -1).
func (s *Swarm) begin(spawn string, by int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.creating[spawn] += by; s.creating[spawn] == 0 {
		delete(s.creating, spawn)
	}
}

// sweepable returns this instance's secrets that are old enough to be orphans, once in orphanAge.
func (s *Swarm) sweepable(ctx context.Context, api *client.Client) ([]swarm.Secret, error) {
	now := s.now()
	s.mu.Lock()
	due := now.Sub(s.swept) >= orphanAge
	if due {
		s.swept = now
	}
	s.mu.Unlock()
	if !due {
		return nil, nil
	}
	secrets, err := api.SecretList(ctx, swarm.SecretListOptions{Filters: s.engine.filter()})
	return slices.DeleteFunc(secrets, func(secret swarm.Secret) bool { return now.Sub(secret.CreatedAt) < orphanAge }), err
}

// sweep deletes those of secrets, seen before services, that no service is there for: their Manager died between the two.
func (s *Swarm) sweep(ctx context.Context, api *client.Client, secrets []swarm.Secret, services []swarm.Service) {
	if len(secrets) == 0 {
		return
	}
	s.mu.Lock()
	used := make(map[string]bool, len(services)+len(s.creating))
	for spawn := range s.creating {
		used[spawn] = true
	}
	s.mu.Unlock()
	for _, svc := range services {
		used[svc.Spec.Labels[labelSpawn]] = true
	}
	for _, secret := range secrets {
		if used[secret.Spec.Labels[labelSpawn]] {
			continue
		}
		if err := api.SecretRemove(ctx, secret.ID); err != nil && !cerrdefs.IsNotFound(err) {
			s.engine.log.WarnContext(ctx, "orphaned secret not removed", "secret", secret.Spec.Name, "err", err)
		}
	}
}
