package spawner

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/client"
	"github.com/docker/docker/pkg/stdcopy"
)

// logLines is more than fits into the tail of a log, short of a worker that writes in single words.
const logLines = "1000"

// container is what a worker runs in: no root, no capabilities, nothing to write but memory, and bounds on all that could hurt its host.
func (d *Docker) container(spec Spec, user string, volumes map[string]struct{}) (*container.Config, *container.HostConfig) {
	stop := int(stopTimeout.Seconds())
	tmp := fmt.Sprintf("rw,nosuid,nodev,noexec,size=%d,mode=1777", workerTmp)
	config := &container.Config{
		Image: d.cfg.Image, Cmd: spec.Args, Env: containerEnv(spec), User: user, Labels: d.engine.labels(spec),
		StopSignal: "SIGTERM", StopTimeout: &stop,
		Healthcheck: &container.HealthConfig{Test: []string{"NONE"}}, // heartbeats tell more than an image's own check
	}
	host := &container.HostConfig{
		NetworkMode:    container.NetworkMode(d.cfg.Network),
		RestartPolicy:  container.RestartPolicy{Name: container.RestartPolicyDisabled},
		ReadonlyRootfs: true,
		Tmpfs:          map[string]string{"/tmp": tmp},
		ShmSize:        workerShm,
		CapDrop:        []string{"ALL"},
		SecurityOpt:    []string{"no-new-privileges"},
		OomScoreAdj:    500, // rather a worker than the Manager beside it
		LogConfig:      container.LogConfig{Type: "json-file", Config: map[string]string{"max-size": "4m", "max-file": "2"}},
		Resources: container.Resources{
			Memory: int64(d.cfg.MemoryMiB) << 20, MemorySwap: int64(d.cfg.MemoryMiB) << 20, // no swap besides
			NanoCPUs: int64(d.cfg.CPUs * 1e9),
		},
	}
	if d.cfg.PIDs > 0 {
		pids := int64(d.cfg.PIDs)
		host.PidsLimit = &pids
	}
	for path := range volumes { // else each worker would get a volume on disk, which docker rm leaves behind
		host.Tmpfs[path] = tmp
	}
	// An init as process 1 reaps what a browser leaves. "N/A" is how an engine says that it has none (moby daemon/info_unix.go).
	if d.engine.known().InitCommit.ID != "N/A" {
		init := true
		host.Init = &init
	}
	return config, host
}

// containerEnv is env and secrets: an engine without Swarm keeps none. They are in no argument list, but docker inspect shows them.
func containerEnv(spec Spec) []string {
	var env []string
	for _, vars := range []map[string]string{spec.Env, spec.Secrets} { // the last of a name wins
		for k, v := range vars {
			env = append(env, k+"="+v)
		}
	}
	slices.SortStableFunc(env, func(a, b string) int {
		a, _, _ = strings.Cut(a, "=")
		b, _, _ = strings.Cut(b, "=")
		return strings.Compare(a, b)
	})
	return env
}

// Collect reads exit code and log. What the kernel or the engine did to the worker is put into words.
func (d *Docker) Collect(ctx context.Context, id ID) (Exit, error) {
	cli, c, err := d.own(ctx, "collect", id)
	if err != nil {
		return Exit{}, err
	}
	if c.State.Running {
		return Exit{}, &Error{Op: "collect", Reason: "worker " + c.Name[1:] + " runs still", Retry: true, Cause: "other"}
	}
	exit := Exit{Code: c.State.ExitCode, Detail: d.cfg.detail(c.State)}
	if exit.EndedAt, err = time.Parse(time.RFC3339Nano, c.State.FinishedAt); err != nil {
		exit.EndedAt = time.Time{}
	}
	log, err := cli.ContainerLogs(ctx, c.ID, container.LogsOptions{ShowStdout: true, ShowStderr: true, Tail: logLines})
	var tail lastBytes
	if err == nil {
		_, err = stdcopy.StdCopy(&tail, &tail, log)
		log.Close()
	}
	switch {
	case err == nil:
	case ctx.Err() != nil || client.IsErrConnectionFailed(err):
		return Exit{}, d.engine.refused("collect", "read log of "+c.Name[1:], err)
	default: // a broken log file must not cost the exit code
		exit.Detail = strings.TrimPrefix(exit.Detail+"; its log could not be read: "+err.Error(), "; ")
	}
	exit.LogTail = tail.String()
	return exit, nil
}

// detail explains an end that was not the worker's own.
func (c *DockerConfig) detail(s *container.State) string {
	switch {
	case s.OOMKilled && s.ExitCode != 0: // with 0 only a child was killed, and the worker coped
		if c.MemoryMiB == 0 {
			return outOfMemory + ": the engine's machine has too little for its workers; lower -spawner-max-workers"
		}
		return fmt.Sprintf(outOfMemory+": raise -spawner-memory above %d MiB", c.MemoryMiB)
	case s.Error != "":
		return s.Error
	}
	return codeDetail(s.ExitCode)
}
