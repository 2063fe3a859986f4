//go:build linux || darwin

package spawner_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/filters"
	"github.com/docker/docker/api/types/image"
	"github.com/docker/docker/api/types/network"
	"github.com/docker/docker/api/types/swarm"
	"github.com/docker/docker/client"
	"github.com/docker/docker/pkg/stdcopy"
	"github.com/google/go-cmp/cmp"

	"gmaps-scraper/spawner"
	"gmaps-scraper/spawner/spawnertest"
)

// envSwarm lets the tests of Swarm make networks, services and secrets in the swarm of the engine that DOCKER_HOST names.
const envSwarm = "GMAPS_TEST_SWARM"

func TestSwarm(t *testing.T) {
	t.Parallel()
	rig := newSwarmRig(t)
	for name, test := range map[string]func(*testing.T, *swarmRig){
		"ServiceIsAsDocumented":                swarmServiceIsAsDocumented,
		"SaysThatANodeLacksTheImage":           swarmSaysThatANodeLacksTheImage,
		"RefusesAConstraintThatNoNodeMeets":    swarmRefusesAConstraintThatNoNodeMeets,
		"SaysWhyAWorkerWasNeverPlaced":         swarmSaysWhyAWorkerWasNeverPlaced,
		"ServiceRemovedFromOutsideVanishes":    swarmServiceRemovedFromOutsideVanishes,
		"ScaledDownFromOutsideHasEnded":        swarmScaledDownFromOutsideHasEnded,
		"RefusesANetworkThatServicesCannotUse": swarmRefusesANetworkThatServicesCannotUse,
		"StopKeepsTheTask":                     swarmStopKeepsTheTask,
		"WorkersAreConfined":                   swarmWorkersAreConfined,
		"TellsOfMemoryThatRanOut":              swarmTellsOfMemoryThatRanOut,
		"RouteLeadsToThisHost":                 swarmRouteLeadsToThisHost,
		"AdoptsNoStranger":                     swarmAdoptsNoStranger,
		"SecretsOfADeadManager":                swarmSecretsOfADeadManager,
		"SweepSparesSecretsInUse":              swarmSweepSparesSecretsInUse,
		"WatchTellsOfAnEnd":                    swarmWatchTellsOfAnEnd,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			rig.inTurn(t)
			test(t, rig)
		})
	}
	spawnertest.Run(t, func(t *testing.T) spawnertest.Backend {
		rig.inTurn(t)
		instance := dockerUnique()
		cfg := rig.config(instance)
		open := func(t *testing.T, cfg spawner.SwarmConfig) spawner.Spawner {
			return suffixed{rig.open(t, cfg), "-" + instance}
		}
		t.Cleanup(func() { rig.wantNothingOf(t, instance) }) // after the suite's own
		return spawnertest.Backend{
			Open: func(t *testing.T) spawner.Spawner { return open(t, cfg) },
			Other: func(t *testing.T) spawner.Spawner {
				cfg := cfg
				cfg.Instance = dockerUnique()
				return open(t, cfg)
			},
			Broken: func(t *testing.T) spawner.Spawner {
				cfg := cfg
				cfg.Image = "localhost:1/gmaps-none:none"
				return open(t, cfg)
			},
			Kill: func(t *testing.T, w spawner.Worker) {
				if err := rig.api.ContainerKill(t.Context(), rig.container(t, w), "KILL"); err != nil {
					t.Fatal(err)
				}
			},
			Log:      rig.serviceLog,
			Patience: dockerPatience,
		}
	})
}

// swarmRig is a dockerRig whose engine manages a swarm and whose network is an overlay.
type swarmRig struct{ *dockerRig }

func newSwarmRig(t *testing.T) *swarmRig {
	t.Helper()
	if os.Getenv(envSwarm) == "" {
		t.Skip("needs a Docker engine in swarm mode, and " + envSwarm + "=1: make test-docker runs this")
	}
	api, err := client.NewClientWithOpts(client.FromEnv, client.WithAPIVersionNegotiation())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { api.Close() })
	tag := dockerUnique()
	r := &swarmRig{&dockerRig{api: api, image: "gmaps-test-swarm:" + tag, network: "gmaps-test-swarm-" + tag, slots: make(chan struct{}, 3)}}
	r.buildImage(t, "FROM scratch\nCOPY worker /worker\nVOLUME [\"/data\", \"/tmp\"]\nENTRYPOINT [\"/worker\"]\n", r.image)
	r.newNetwork(t, r.network, network.CreateOptions{Driver: "overlay", Attachable: true})
	return r
}

func (r *swarmRig) config(instance string, constraints ...string) spawner.SwarmConfig {
	return spawner.SwarmConfig{
		DockerConfig: spawner.DockerConfig{Image: r.image, Network: r.network, Instance: instance},
		Constraints:  constraints,
	}
}

func (r *swarmRig) open(t *testing.T, cfg spawner.SwarmConfig) *spawner.Swarm {
	t.Helper()
	s, err := spawner.NewSwarm(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// container is that of a running worker.
func (r *swarmRig) container(t *testing.T, w spawner.Worker) string {
	t.Helper()
	list, err := r.api.ContainerList(t.Context(), container.ListOptions{Filters: filters.NewArgs(filters.Arg("label", "com.docker.swarm.service.id="+string(w.ID)))})
	if err != nil || len(list) != 1 {
		t.Fatalf("containers of %s: %+v, %v; want one", w.Name, list, err)
	}
	return list[0].ID
}

func (r *swarmRig) serviceLog(w spawner.Worker) (string, error) {
	logs, err := r.api.ServiceLogs(context.Background(), string(w.ID), container.LogsOptions{ShowStdout: true, ShowStderr: true})
	if err != nil {
		return "", err
	}
	defer logs.Close()
	var b strings.Builder
	_, err = stdcopy.StdCopy(&b, &b, logs)
	return b.String(), err
}

// wantNothingOf fails the test if anything of an instance is left. The swarm forgets a task a moment after its service and container are gone.
func (r *swarmRig) wantNothingOf(t *testing.T, instance string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), dockerPatience)
	defer cancel()
	which := filters.NewArgs(filters.Arg("label", "gmaps.instance="+instance))
	services, err1 := r.api.ServiceList(ctx, swarm.ServiceListOptions{Filters: which})
	secrets, err2 := r.api.SecretList(ctx, swarm.SecretListOptions{Filters: which})
	containers, err3 := r.api.ContainerList(ctx, container.ListOptions{All: true, Filters: which})
	if err := errors.Join(err1, err2, err3); err != nil {
		t.Error(err)
	}
	if len(services)+len(secrets)+len(containers) != 0 {
		t.Errorf("left behind: %d services, %d secrets, %d containers", len(services), len(secrets), len(containers))
	}
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		tasks, err := r.api.TaskList(ctx, swarm.TaskListOptions{Filters: which})
		if err == nil && len(tasks) == 0 {
			return
		}
		select {
		case <-ctx.Done():
			t.Errorf("left behind: %d tasks, %v", len(tasks), err)
			return
		case <-tick.C:
		}
	}
}

func swarmServiceIsAsDocumented(t *testing.T, rig *swarmRig) {
	instance := dockerUnique()
	cfg := rig.config(instance)
	cfg.MemoryMiB, cfg.CPUs, cfg.PIDs, cfg.Constraints = 128, 0.5, 99, []string{"node.role == manager"}
	s := rig.open(t, cfg)
	spec := rig.spec(t, s, instance, "wait")
	spec.Env["GMAPS_MANAGER_URL"] = "http://manager:8080"
	spec.Secrets = map[string]string{"GMAPS_WORKER_TOKEN": "s3cret-t0ken"}
	w, err := s.Create(t.Context(), spec)
	if err != nil {
		t.Fatal(err)
	}
	svc, raw, err := rig.api.ServiceInspectWithRaw(t.Context(), spec.Name, swarm.ServiceInspectOptions{})
	if err != nil {
		t.Fatal(err)
	}
	c := svc.Spec.TaskTemplate.ContainerSpec
	if len(c.Command) != 0 || !slices.Equal(c.Args, spec.Args) {
		t.Errorf("command %q, args %q: want the image's own entrypoint, and %q", c.Command, c.Args, spec.Args)
	}
	if strings.Contains(string(raw), "s3cret") {
		t.Error("docker service inspect shows a secret")
	}
	labels := map[string]string{
		"gmaps.worker": "true", "gmaps.job-id": spec.JobID, "gmaps.priority": "7", "gmaps.spawner": "swarm",
		"gmaps.instance": instance, "gmaps.spawn-id": spec.SpawnID,
	}
	if diff := cmp.Diff(labels, svc.Spec.Labels); diff != "" {
		t.Errorf("labels of the service (-want +got):\n%s", diff)
	}
	if r := svc.Spec.TaskTemplate.RestartPolicy; r.Condition != swarm.RestartPolicyConditionNone {
		t.Errorf("restart condition %s, want none", r.Condition)
	}

	rig.eventually(t, "worker started", func(context.Context) bool {
		log, err := rig.serviceLog(w)
		return err == nil && strings.Contains(log, "worker started")
	})
	got, err := rig.api.ContainerInspect(t.Context(), rig.container(t, w))
	if err != nil {
		t.Fatal(err)
	}
	for k, v := range labels { // docker ps --filter label=gmaps.worker=true
		if got.Config.Labels[k] != v {
			t.Errorf("the container's label %s is %q, want %q", k, got.Config.Labels[k], v)
		}
	}
	h := got.HostConfig
	if !h.ReadonlyRootfs || !slices.Equal(h.CapDrop, []string{"ALL"}) || got.Config.User == "" || strings.HasPrefix(got.Config.User, "0") || h.Privileged {
		t.Errorf("read-only %v, dropped %v, user %q, privileged %v: want a worker that can do no harm", h.ReadonlyRootfs, h.CapDrop, got.Config.User, h.Privileged)
	}
	if h.Memory != 128<<20 || h.NanoCPUs != 5e8 || h.PidsLimit == nil || *h.PidsLimit != 99 {
		t.Errorf("memory %d, cpus %d, pids %v: want the limits of the config", h.Memory, h.NanoCPUs, h.PidsLimit)
	}
	if h.LogConfig.Config["max-size"] == "" {
		t.Errorf("log driver %+v is not bounded", h.LogConfig)
	}
}

// The well-known way to lose a day: the service is made, its task never runs.
func swarmSaysThatANodeLacksTheImage(t *testing.T, rig *swarmRig) {
	ref, instance := "gmaps-test-gone:"+dockerUnique(), dockerUnique()
	if err := rig.api.ImageTag(t.Context(), rig.image, ref); err != nil {
		t.Fatal(err)
	}
	// Its placement is judged by the swarm alone, so the task waits until we say so.
	cfg := rig.config(instance, "node.ip!=0.0.0.0/0")
	cfg.Image = ref
	s := rig.open(t, cfg)
	w, err := s.Create(t.Context(), rig.spec(t, s, instance, "wait"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := rig.api.ImageRemove(t.Context(), ref, image.RemoveOptions{}); err != nil {
		t.Fatal(err)
	}
	rig.change(t, w, func(spec *swarm.ServiceSpec) { spec.TaskTemplate.Placement.Constraints = nil })
	rig.wantEnded(t, s)
	exit, err := s.Collect(t.Context(), w.ID)
	if err != nil {
		t.Fatal(err)
	}
	if exit.Code != -1 || !strings.Contains(exit.Detail, "image "+ref+" not found on node") || !strings.Contains(exit.Detail, "push it") {
		t.Errorf("got %+v, want no code, the image, its node and the mend", exit)
	}
}

func swarmRefusesAConstraintThatNoNodeMeets(t *testing.T, rig *swarmRig) {
	instance := dockerUnique()
	s := rig.open(t, rig.config(instance, "node.role==manager", "node.labels.gmaps-moon==full"))
	_, create := s.Create(t.Context(), rig.spec(t, s, instance, "wait"))
	for op, err := range map[string]error{"create": create, "check": s.Check(t.Context())} {
		wantRefusal(t, err, op, "resources", "no node meets the constraint node.labels.gmaps-moon==full")
	}
}

func swarmSaysWhyAWorkerWasNeverPlaced(t *testing.T, rig *swarmRig) {
	instance := dockerUnique()
	s := rig.open(t, rig.config(instance, "node.ip==192.0.2.1"))
	w, err := s.Create(t.Context(), rig.spec(t, s, instance, "wait"))
	if err != nil {
		t.Fatal(err)
	}
	rig.eventually(t, "check says that a worker waits", func(ctx context.Context) bool { return s.Check(ctx) != nil })
	wantRefusal(t, s.Check(t.Context()), "check", "resources", "no suitable node")
	if err := s.Stop(t.Context(), w.ID, time.Second); err != nil {
		t.Fatal(err)
	}
	exit, err := s.Collect(t.Context(), w.ID)
	if err != nil {
		t.Fatal(err)
	}
	if exit.Code != -1 || !strings.Contains(exit.Detail, "no suitable node") {
		t.Errorf("got %+v, want no code and the swarm's reason", exit)
	}
}

func swarmServiceRemovedFromOutsideVanishes(t *testing.T, rig *swarmRig) {
	instance := dockerUnique()
	s := rig.open(t, rig.config(instance))
	w, err := s.Create(t.Context(), rig.spec(t, s, instance, "wait"))
	if err != nil {
		t.Fatal(err)
	}
	if err := rig.api.ServiceRemove(t.Context(), w.Name); err != nil {
		t.Fatal(err)
	}
	if got, err := s.List(t.Context()); err != nil || len(got) != 0 {
		t.Errorf("list: %+v, %v; want nothing", got, err)
	}
	if _, err := s.Collect(t.Context(), w.ID); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("collect: got %v, want that there is none", err)
	}
	if err := errors.Join(s.Stop(t.Context(), w.ID, time.Second), s.Remove(t.Context(), w.ID)); err != nil {
		t.Errorf("stop and remove: %v", err)
	}
}

func swarmScaledDownFromOutsideHasEnded(t *testing.T, rig *swarmRig) {
	instance := dockerUnique()
	s := rig.open(t, rig.config(instance))
	w, err := s.Create(t.Context(), rig.spec(t, s, instance, "wait"))
	if err != nil {
		t.Fatal(err)
	}
	rig.eventually(t, "worker runs", func(ctx context.Context) bool { // one that is scaled away before it is there may still come for a moment
		list, err := rig.api.ContainerList(ctx, container.ListOptions{Filters: filters.NewArgs(filters.Arg("label", "com.docker.swarm.service.id="+string(w.ID)))})
		return err == nil && len(list) == 1
	})
	none := uint64(0)
	rig.change(t, w, func(spec *swarm.ServiceSpec) { spec.Mode.Replicated.Replicas = &none })
	rig.wantEnded(t, s)
	rig.eventually(t, "task forgotten", func(ctx context.Context) bool {
		exit, err := s.Collect(ctx, w.ID)
		return err == nil && strings.Contains(exit.Detail, "scaled to 0")
	})
}

func swarmRefusesANetworkThatServicesCannotUse(t *testing.T, rig *swarmRig) {
	local := "gmaps-test-" + dockerUnique()
	rig.newNetwork(t, local, network.CreateOptions{Driver: "bridge"})
	for name, want := range map[string]string{
		"bridge":          "bridge network",
		local:             "bridge network",
		"host":            "host network",
		"ingress":         "cannot connect",
		"gmaps-none-such": "not found",
	} {
		instance := dockerUnique()
		cfg := rig.config(instance)
		cfg.Network = name
		s := rig.open(t, cfg)
		_, create := s.Create(t.Context(), rig.spec(t, s, instance, "wait"))
		for op, err := range map[string]error{"create": create, "check": s.Check(t.Context())} {
			wantRefusal(t, err, op, "network", want)
		}
	}
}

// A service that is scaled to 0 would lose its task, and exit code and log with it, a moment later.
func swarmStopKeepsTheTask(t *testing.T, rig *swarmRig) {
	instance := dockerUnique()
	s := rig.open(t, rig.config(instance))
	w, err := s.Create(t.Context(), rig.spec(t, s, instance, "wait"))
	if err != nil {
		t.Fatal(err)
	}
	rig.eventually(t, "worker started", func(context.Context) bool {
		log, err := rig.serviceLog(w)
		return err == nil && strings.Contains(log, "worker started")
	})
	if err := s.Stop(t.Context(), w.ID, dockerPatience); err != nil {
		t.Fatal(err)
	}
	rig.eventually(t, "the swarm has done all that the stop asks for", func(ctx context.Context) bool {
		tasks, err := rig.api.TaskList(ctx, swarm.TaskListOptions{Filters: filters.NewArgs(filters.Arg("service", string(w.ID)))})
		return err == nil && slices.ContainsFunc(tasks, func(task swarm.Task) bool {
			return task.NodeID == "" && strings.Contains(task.Status.Err, "no suitable node")
		})
	})
	exit, err := s.Collect(t.Context(), w.ID)
	if err != nil || exit.Code != 0 || !strings.Contains(exit.LogTail, "asked to stop") {
		t.Errorf("got %+v, %v; want code 0 and the log", exit, err)
	}
	list, err := s.List(t.Context())
	if err != nil || len(list) != 1 || list[0].Running {
		t.Errorf("list: %+v, %v; want one that has ended", list, err)
	}
}

func swarmWorkersAreConfined(t *testing.T, rig *swarmRig) {
	instance := dockerUnique()
	s := rig.open(t, rig.config(instance))
	if _, err := s.Create(t.Context(), rig.spec(t, s, instance, "confines")); err != nil {
		t.Fatal(err)
	}
	exit, err := s.Collect(t.Context(), rig.wantEnded(t, s)[0].ID)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"uid 65532", "write /: open /probe: read-only file system", "write /tmp: <nil>", "write /data: <nil>", "CapBnd:\t0000000000000000", "CapEff:\t0000000000000000"} {
		if !strings.Contains(exit.LogTail, want) {
			t.Errorf("worker's confines lack %q:\n%s", want, exit.LogTail)
		}
	}
}

func swarmTellsOfMemoryThatRanOut(t *testing.T, rig *swarmRig) {
	instance := dockerUnique()
	cfg := rig.config(instance)
	cfg.MemoryMiB = 32
	s := rig.open(t, cfg)
	if _, err := s.Create(t.Context(), rig.spec(t, s, instance, "eat")); err != nil {
		t.Fatal(err)
	}
	exit, err := s.Collect(t.Context(), rig.wantEnded(t, s)[0].ID)
	if err != nil || exit.Code != 137 || !strings.Contains(exit.Detail, "raise -spawner-memory above 32 MiB") {
		t.Errorf("got %+v, %v; want 137 and the mend", exit, err)
	}
}

func swarmRouteLeadsToThisHost(t *testing.T, rig *swarmRig) {
	instance := dockerUnique()
	s := rig.open(t, rig.config(instance))
	probe, err := net.Listen("tcp", ":0")
	if err != nil {
		t.Fatal(err)
	}
	manager := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "manager here") }))
	manager.Listener.Close()
	manager.Listener = probe
	manager.Start()
	defer manager.Close()
	route, err := s.Route(t.Context(), probe.Addr().(*net.TCPAddr).Port)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Create(t.Context(), rig.spec(t, s, instance, "get "+route.URL)); err != nil {
		t.Fatal(err)
	}
	exit, err := s.Collect(t.Context(), rig.wantEnded(t, s)[0].ID)
	if err != nil || !strings.Contains(exit.LogTail, "answer: manager here") {
		t.Errorf("a worker that calls %s prints %q, %v", route.URL, exit.LogTail, err)
	}
}

func swarmAdoptsNoStranger(t *testing.T, rig *swarmRig) {
	instance := dockerUnique()
	other := rig.open(t, rig.config(dockerUnique()))
	s := rig.open(t, rig.config(instance))
	spec := rig.spec(t, other, instance, "wait")
	w, err := other.Create(t.Context(), spec)
	if err != nil {
		t.Fatal(err)
	}
	_, err = s.Create(t.Context(), spec)
	wantRefusal(t, err, "create", "name", spec.Name)
	wantRefusal(t, s.Stop(t.Context(), w.ID, 0), "stop", "other", "no worker of this Manager")
	wantRefusal(t, s.Remove(t.Context(), w.ID), "remove", "other", "no worker of this Manager")
	if got, err := other.List(t.Context()); err != nil || len(got) != 1 || !got[0].Running {
		t.Errorf("the other instance lists %+v, %v; want its worker untouched", got, err)
	}
}

// A Manager that dies between secret and service, or changes its secrets before the next try, leaves no secret behind.
func swarmSecretsOfADeadManager(t *testing.T, rig *swarmRig) {
	instance := dockerUnique()
	cfg := rig.config(instance)
	s := rig.open(t, cfg)
	spec := rig.spec(t, s, instance, "env")
	for _, token := range []string{"first", "first", "second"} {
		spec.Secrets = map[string]string{"GMAPS_WORKER_TOKEN": token}
		w, err := s.Create(t.Context(), spec)
		if err != nil {
			t.Fatal(err)
		}
		if token != "second" { // all that its death would have left
			if err := rig.api.ServiceRemove(t.Context(), string(w.ID)); err != nil {
				t.Fatal(err)
			}
		}
	}
	if got := len(rig.secrets(t, instance)); got != 2 {
		t.Errorf("%d secrets, want one for each content", got)
	}
	list := rig.wantEnded(t, s)
	exit, err := s.Collect(t.Context(), list[0].ID)
	if err != nil || !strings.Contains(exit.LogTail, "GMAPS_WORKER_TOKEN=second") {
		t.Errorf("the worker printed %q, %v; want the second token", exit.LogTail, err)
	}
	if err := s.Remove(t.Context(), list[0].ID); err != nil {
		t.Fatal(err)
	}
	if got := rig.secrets(t, instance); len(got) != 0 {
		t.Errorf("after remove: %+v", got)
	}

	// And one that never made its service.
	spec.SpawnID, spec.Name = "orphan", spec.Name+"-o"
	w, err := s.Create(t.Context(), spec)
	if err != nil {
		t.Fatal(err)
	}
	if err := rig.api.ServiceRemove(t.Context(), string(w.ID)); err != nil {
		t.Fatal(err)
	}
	next := rig.open(t, cfg)
	if _, err := next.List(t.Context()); err != nil {
		t.Fatal(err)
	}
	if len(rig.secrets(t, instance)) != 1 {
		t.Error("a secret of this very moment was taken for an orphan")
	}
	next = rig.open(t, cfg)
	next.SetNow(func() time.Time { return time.Now().Add(2 * time.Minute) })
	if _, err := next.List(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := rig.secrets(t, instance); len(got) != 0 {
		t.Errorf("an orphaned secret outlived a list: %+v", got)
	}
}

func swarmSweepSparesSecretsInUse(t *testing.T, rig *swarmRig) {
	instance := dockerUnique()
	s := rig.open(t, rig.config(instance))
	spec := rig.spec(t, s, instance, "wait")
	spec.Secrets = map[string]string{"GMAPS_WORKER_TOKEN": "t"}
	if _, err := s.Create(t.Context(), spec); err != nil {
		t.Fatal(err)
	}
	s.SetNow(func() time.Time { return time.Now().Add(2 * time.Minute) })
	if _, err := s.List(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := rig.secrets(t, instance); len(got) != 1 {
		t.Errorf("%d secrets, want that of the worker", len(got))
	}
}

func swarmWatchTellsOfAnEnd(t *testing.T, rig *swarmRig) {
	instance := dockerUnique()
	s := rig.open(t, rig.config(instance))
	ctx, cancel := context.WithCancel(t.Context())
	told := make(chan struct{}, 1)
	watched := make(chan error, 1)
	go func() {
		watched <- s.Watch(ctx, func() {
			select {
			case told <- struct{}{}:
			default:
			}
		})
	}()
	if _, err := s.Create(ctx, rig.spec(t, s, instance, "exit 0")); err != nil {
		t.Fatal(err)
	}
	rig.eventually(t, "the end is told", func(ctx context.Context) bool {
		select {
		case <-told:
		case <-ctx.Done():
			return false
		}
		list, err := s.List(ctx)
		return err == nil && len(list) == 1 && !list[0].Running
	})
	cancel()
	if err := <-watched; err != nil {
		t.Errorf("watch: %v", err)
	}
}

// spec is a worker, of which nothing is left after the test.
func (r *swarmRig) spec(t *testing.T, s *spawner.Swarm, instance, do string) spawner.Spec {
	t.Helper()
	t.Cleanup(func() { r.wantNothingOf(t, instance) })
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), dockerPatience)
		defer cancel()
		list, err := s.List(ctx)
		for _, w := range list {
			err = errors.Join(err, s.Stop(ctx, w.ID, 0), s.Remove(ctx, w.ID))
		}
		if err != nil {
			t.Error(err)
		}
	})
	return spawner.Spec{
		Name: "gmaps-worker-" + instance, SpawnID: "spawn-" + instance, JobID: "job-" + instance, Priority: 7,
		Env: map[string]string{spawnertest.EnvDo: do}, Args: []string{"-worker", "two words"},
	}
}

func (r *swarmRig) change(t *testing.T, w spawner.Worker, how func(*swarm.ServiceSpec)) {
	t.Helper()
	r.eventually(t, "service changed", func(ctx context.Context) bool { // the swarm itself changes a new one too
		svc, _, err := r.api.ServiceInspectWithRaw(ctx, string(w.ID), swarm.ServiceInspectOptions{})
		if err != nil {
			return false
		}
		how(&svc.Spec)
		_, err = r.api.ServiceUpdate(ctx, svc.ID, svc.Version, svc.Spec, swarm.ServiceUpdateOptions{})
		return err == nil
	})
}

// wantEnded waits until the one worker has ended.
func (r *swarmRig) wantEnded(t *testing.T, s *spawner.Swarm) []spawner.Worker {
	t.Helper()
	var list []spawner.Worker
	r.eventually(t, "worker ended", func(ctx context.Context) bool {
		var err error
		list, err = s.List(ctx)
		return err == nil && len(list) == 1 && !list[0].Running
	})
	if len(list) != 1 {
		t.FailNow()
	}
	return list
}

func (r *swarmRig) secrets(t *testing.T, instance string) []swarm.Secret {
	t.Helper()
	list, err := r.api.SecretList(t.Context(), swarm.SecretListOptions{Filters: filters.NewArgs(filters.Arg("label", "gmaps.instance="+instance))})
	if err != nil {
		t.Fatal(err)
	}
	return list
}
