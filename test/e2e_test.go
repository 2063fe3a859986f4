package test

import (
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/swarm"

	"gmaps-scraper/api"
	"gmaps-scraper/job"
)

// From a query to rows, with PostgreSQL, RabbitMQ and Redis, and then nothing is left.

// cancelWithin is what "within seconds" means: a heartbeat of the worker and the Manager's next look.
const cancelWithin = 20 * time.Second

func TestJobIsDoneByAWorkerThatComesAndGoes(t *testing.T) {
	t.Parallel()
	for name, s := range map[string]setup{
		"process":                        {ground: onProcess},
		"docker":                         {ground: onDocker},
		"swarm":                          {ground: onSwarm},
		"docker, Manager in a container": {ground: onDocker, contained: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s.servers, s.size, s.latency = realServers(t), 400, 300*time.Millisecond // long enough to be looked at
			w := newWorld(t, s)
			l := newLedger(w)
			id := l.mustSubmit("e2e", 4, func(n *api.NewJob) { n.Priority = 7 })
			waitFor(t, "a worker", func() bool { return len(w.workersOf(id)) > 0 })
			w.wantAsDocumented(id)
			l.balance("none", 1)
			w.wantEvidence(id)
			waitFor(t, "the worker to go by itself", func() bool { return len(w.workers()) == 0 })

			long, err := w.client.Create(t.Context(), api.NewJob{Lines: "synthetic:long"}, "long")
			if err != nil {
				t.Fatal(err)
			}
			w.waitJob(long.ID, "a worker with a lease", leased)
			if _, err := w.client.Cancel(t.Context(), long.ID); err != nil {
				t.Fatal(err)
			}
			within(t, cancelWithin, "the cancelled job's worker to stop", func() bool { return len(w.workersOf(long.ID)) == 0 })
		})
	}
}

// wantEvidence fails unless exit code and log of a job's ended workers were stored.
func (w *world) wantEvidence(id job.ID) {
	w.t.Helper()
	waitFor(w.t, "the job's workers to have ended", func() bool {
		spawns := w.spawns(id)
		return len(spawns) > 0 && !slices.ContainsFunc(spawns, job.Spawn.Live)
	})
	for _, x := range w.spawns(id) {
		if x.ExitCode == nil || *x.ExitCode != 0 || !strings.Contains(x.LogTail, "worker") {
			w.t.Errorf("spawn %s ended %s, code %v, log %q: want 0 and its log", x.ID, x.Outcome, x.ExitCode, x.LogTail)
		}
	}
}

// wantAsDocumented holds the live workers of a job to what auto-spawn.md says of labels and connection info, and to keeping secrets out of
// everybody's sight.
func (w *world) wantAsDocumented(id job.ID) {
	w.t.Helper()
	e, ok := w.ground.(*engine)
	if !ok {
		w.wantNoSecretInArguments(w.secrets(w.workersOf(id)))
		return
	}
	for _, x := range w.workersOf(id) {
		c, err := e.api.ContainerInspect(w.t.Context(), x.id)
		if err != nil {
			continue // it has ended since
		}
		e.wantLabels(c.Config.Labels, id, 7)
		if strings.Join(c.Args, " ") == "" || strings.Contains(strings.Join(append(c.Args, c.Path), " "), "://") {
			w.t.Errorf("arguments %q: want -worker, and no address with a password", c.Args)
		}
	}
	for _, s := range e.services() {
		e.wantLabels(s.Spec.Labels, id, 7)
		e.wantNoSecretInService(s, w)
	}
	if e.backend == onSwarm && len(e.services()) == 0 {
		w.t.Error("no service has the label gmaps.worker=true")
	}
	w.wantNoSecretInArguments(w.secrets(w.workersOf(id)))
}

func (e *engine) wantLabels(got map[string]string, id job.ID, priority int) {
	e.t.Helper()
	for name, want := range map[string]string{"gmaps.worker": "true", "gmaps.job-id": string(id), "gmaps.priority": fmt.Sprint(priority), "gmaps.spawner": e.backend} {
		if got[name] != want {
			e.t.Errorf("label %s is %q, want %q", name, got[name], want)
		}
	}
}

// wantNoSecretInService fails if docker service inspect shows the token or the broker's address.
func (e *engine) wantNoSecretInService(s swarm.Service, w *world) {
	e.t.Helper()
	shown, err := json.Marshal(s)
	if err != nil {
		e.t.Fatal(err)
	}
	for _, secret := range []string{"GMAPS_WORKER_TOKEN", w.servers.rabbitmq, w.servers.postgres} {
		if strings.Contains(string(shown), secret) {
			e.t.Errorf("docker service inspect shows %.20s…", secret)
		}
	}
	if len(s.Spec.TaskTemplate.ContainerSpec.Secrets) != 1 {
		e.t.Errorf("service %s has %d secrets, want one", s.Spec.Name, len(s.Spec.TaskTemplate.ContainerSpec.Secrets))
	}
}

// secrets are what no command line may show: the worker's token, where its environment has it, and the broker's address.
func (w *world) secrets(workers []worker) []string {
	secrets := []string{w.servers.rabbitmq}
	if token := w.environment(workers)["GMAPS_WORKER_TOKEN"]; token != "" {
		secrets = append(secrets, token)
	}
	return secrets
}

// environment is that of the first of workers, as docker inspect shows it; empty on other grounds.
func (w *world) environment(workers []worker) map[string]string {
	env := map[string]string{}
	e, ok := w.ground.(*engine)
	if !ok || len(workers) == 0 {
		return env
	}
	c, err := e.api.ContainerInspect(w.t.Context(), workers[0].id)
	if err != nil {
		return env // it has ended since
	}
	for _, pair := range c.Config.Env {
		name, value, _ := strings.Cut(pair, "=")
		env[name] = value
	}
	return env
}

// wantNoSecretInArguments looks at every process of this machine but those that a person has given the servers' addresses: the Managers.
func (w *world) wantNoSecretInArguments(secrets []string) {
	w.t.Helper()
	names, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	workers := 0
	for _, name := range names {
		b, _ := os.ReadFile(name)
		line := strings.ReplaceAll(string(b), "\x00", " ")
		if !strings.Contains(line, " -worker") {
			continue
		}
		workers++
		for _, secret := range secrets {
			if secret != "" && strings.Contains(line, secret) {
				w.t.Errorf("the command line of a worker shows a secret: %.60s…", line)
			}
		}
	}
	if workers == 0 {
		w.t.Error("no process with -worker is seen: the test shows nothing")
	}
}

// TestQuickStartOfTheDocument runs the command line of auto-spawn.md with its values swapped: RabbitMQ and Redis are localhost, the
// Manager listens on the loopback, and nobody says under which URL containers reach it.
func TestQuickStartOfTheDocument(t *testing.T) {
	t.Parallel()
	const quickStart = `
  -dsn 'postgres://user:pass@localhost/gmaps'
  -rabbitmq-url 'amqp://guest:guest@localhost:5672/'
  -redis-addr localhost:6379
  -spawner docker
  -spawner-image gmaps-scraper:latest
  -spawner-network gmaps-network`
	engineAPI(t)
	servers, name := realServers(t), "gmaps-e2e-quick-"+randomName()
	var ports []string // one port leads to a server from the loopback, as the Manager sees it, and from the containers' side
	local := func(address string) string {
		_, port, _ := net.SplitHostPort(forward(t, freeAddr(t), hostPort(address)).addr)
		ports = append(ports, port)
		return through(address, "localhost:"+port)
	}
	flags := strings.Fields(strings.NewReplacer("'", "",
		"postgres://user:pass@localhost/gmaps", servers.postgres, "amqp://guest:guest@localhost:5672/", local(servers.rabbitmq), "localhost:6379", local(servers.redis),
		"gmaps-scraper:latest", workerImage(t), "gmaps-network", name).Replace(quickStart))
	w := newWorld(t, setup{ground: onDocker, network: name, size: 300, latency: 100 * time.Millisecond, flags: flags})
	redis := forward(t, net.JoinHostPort(w.ground.host(), ports[1]), hostPort(servers.redis))
	l := newLedger(w)
	id := l.mustSubmit("quick", 2, func(n *api.NewJob) { n.Priority = 7 })
	waitFor(t, "docker ps --filter label=gmaps.worker=true to show a worker", func() bool { return len(w.workersOf(id)) == 1 })
	w.wantAsDocumented(id)
	if env := w.environment(w.workersOf(id)); env["GMAPS_RABBITMQ_URL"] != through(servers.rabbitmq, net.JoinHostPort(w.ground.host(), ports[0])) {
		t.Errorf("the worker was told of RabbitMQ at %q, want at %s:%s", env["GMAPS_RABBITMQ_URL"], w.ground.host(), ports[0])
	}
	l.balance("none: the document's quick start", 1)
	w.wantEvidence(id)
	if redis.accepted.Load() == 0 {
		t.Error("no worker has reached Redis, which the Manager calls localhost")
	}
}

func TestWorkersRemainsAreKeptAndServersWithheldWhereAsked(t *testing.T) {
	t.Parallel()
	engineAPI(t)
	w := newWorld(t, setup{
		ground: onDocker, servers: realServers(t), size: 60, latency: 50 * time.Millisecond,
		flags: []string{"-spawner-auto-remove=false", "-spawner-share-services=false"},
	})
	l := newLedger(w)
	id := l.mustSubmit("kept", 1, nil)
	l.balance("none: remains kept", 1)
	w.wantEvidence(id)
	e := w.ground.(*engine)
	kept := e.containers()
	if len(kept) != 1 || kept[0].State != container.StateExited {
		t.Fatalf("%v: want one exited container", e.left())
	}
	c, err := e.api.ContainerInspect(t.Context(), kept[0].ID)
	if err != nil {
		t.Fatal(err)
	}
	for _, pair := range c.Config.Env {
		if strings.HasPrefix(pair, "GMAPS_RABBITMQ_URL=") || strings.HasPrefix(pair, "GMAPS_REDIS_ADDR=") {
			t.Errorf("the worker was told of %s", strings.Split(pair, "=")[0])
		}
	}
	// docker rm $(docker ps -a --filter label=gmaps.worker=true --filter status=exited -q), but of this world only
	if err := e.api.ContainerRemove(t.Context(), c.ID, container.RemoveOptions{}); err != nil {
		t.Fatal(err)
	}
}
