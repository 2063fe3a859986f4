//go:build linux || darwin

package spawner_test

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/network"
	"github.com/docker/docker/api/types/swarm"
	"github.com/google/go-cmp/cmp"

	"gmaps-scraper/spawner"
	"gmaps-scraper/spawner/spawnertest"
)

func TestDocker(t *testing.T) {
	t.Parallel()
	rig := newDockerRig(t)
	for name, test := range map[string]func(*testing.T, *dockerRig){
		"ContainerIsAsDocumented":            dockerContainerIsAsDocumented,
		"WorkerIsConfined":                   dockerWorkerIsConfined,
		"ImageWithAUserKeepsIt":              dockerImageWithAUserKeepsIt,
		"EnvironmentIsOnlyWhatWasGiven":      dockerEnvironmentIsOnlyWhatWasGiven,
		"OutOfMemorySaysTheMend":             dockerOutOfMemorySaysTheMend,
		"MissingImageLeavesNothing":          dockerMissingImageLeavesNothing,
		"MissingNetworkLeavesNothing":        dockerMissingNetworkLeavesNothing,
		"NetworkGoneBeforeTheStart":          dockerNetworkGoneBeforeTheStart,
		"FullNetworkLeavesNothing":           dockerFullNetworkLeavesNothing,
		"NetworksThatCannotBeUsed":           dockerNetworksThatCannotBeUsed,
		"ForeignContainerOfThatName":         dockerForeignContainerOfThatName,
		"OtherInstancesAreLeftAlone":         dockerOtherInstancesAreLeftAlone,
		"CreatedButNotStartedIsStarted":      dockerCreatedButNotStartedIsStarted,
		"TooManyCPUsSayTheMend":              dockerTooManyCPUsSayTheMend,
		"StopOfAPausedWorker":                dockerStopOfAPausedWorker,
		"WatchTellsOfAnExit":                 dockerWatchTellsOfAnExit,
		"RouteFromABridgeToThisHost":         dockerRouteFromABridgeToThisHost,
		"RouteFromAnOverlayToThisHost":       dockerRouteFromAnOverlayToThisHost,
		"RouteToAManagerInAContainer":        dockerRouteToAManagerInAContainer,
		"RouteToAManagerOnAnotherNetwork":    dockerRouteToAManagerOnAnotherNetwork,
		"RouteOfHostAndIsolatedNetworks":     dockerRouteOfHostAndIsolatedNetworks,
		"LimitsFollowTheEnginesMachine":      dockerLimitsFollowTheEnginesMachine,
		"PullFromARegistryThatDoesNotAnswer": dockerPullFromARegistryThatDoesNotAnswer,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			rig.inTurn(t)
			test(t, rig)
		})
	}
	spawnertest.Run(t, func(t *testing.T) spawnertest.Backend {
		rig.inTurn(t)
		cfg := rig.config()
		t.Cleanup(func() { // after the suite's own
			if left := rig.containers(t, cfg.Instance); len(left) != 0 {
				t.Errorf("left behind: %+v", left)
			}
		})
		open := func(t *testing.T, cfg spawner.DockerConfig) spawner.Spawner {
			return suffixed{rig.open(t, cfg), "-" + cfg.Instance}
		}
		return spawnertest.Backend{
			Open: func(t *testing.T) spawner.Spawner { return open(t, cfg) },
			Other: func(t *testing.T) spawner.Spawner {
				other := cfg
				other.Instance = dockerUnique()
				return open(t, other)
			},
			Broken: func(t *testing.T) spawner.Spawner {
				broken := cfg
				broken.Image = "gmaps-test-docker:none"
				return open(t, broken)
			},
			Kill: func(t *testing.T, w spawner.Worker) {
				if err := rig.api.ContainerKill(t.Context(), string(w.ID), "KILL"); err != nil {
					t.Fatal(err)
				}
			},
			Log:      func(w spawner.Worker) (string, error) { return rig.log(string(w.ID)) },
			Patience: dockerPatience,
		}
	})
}

// doing is a spec of a name that is the engine's only one.
func doing(do string) spawner.Spec {
	id := dockerUnique()
	return spawner.Spec{
		Name: "gmaps-worker-" + id, SpawnID: id, JobID: "job-" + id, Priority: 7,
		Env: map[string]string{spawnertest.EnvDo: do}, Args: []string{"-worker"},
	}
}

func dockerContainerIsAsDocumented(t *testing.T, rig *dockerRig) {
	cfg := rig.config()
	cfg.MemoryMiB, cfg.CPUs, cfg.PIDs = 128, 0.5, 99
	d := rig.open(t, cfg)
	spec := doing("wait")
	spec.Secrets = map[string]string{"GMAPS_WORKER_TOKEN": "s3cret"}
	w, err := d.Create(t.Context(), spec)
	if err != nil {
		t.Fatal(err)
	}
	c, err := rig.api.ContainerInspect(t.Context(), string(w.ID))
	if err != nil {
		t.Fatal(err)
	}
	labels := map[string]string{
		"gmaps.worker": "true", "gmaps.job-id": spec.JobID, "gmaps.priority": "7", "gmaps.spawner": "docker",
		"gmaps.instance": cfg.Instance, "gmaps.spawn-id": spec.SpawnID, dockerMark: "docker-spawner", // the last is the image's
	}
	if diff := cmp.Diff(labels, c.Config.Labels); diff != "" {
		t.Errorf("labels (-want +got):\n%s", diff)
	}
	h := c.HostConfig
	if h.Memory != 128<<20 || h.MemorySwap != 128<<20 || h.NanoCPUs != 5e8 || h.PidsLimit == nil || *h.PidsLimit != 99 {
		t.Errorf("memory %d, with swap %d, cpus %d, pids %v: want what was asked for", h.Memory, h.MemorySwap, h.NanoCPUs, h.PidsLimit)
	}
	if h.AutoRemove || h.Privileged || h.RestartPolicy.Name != "no" || !h.ReadonlyRootfs || h.Init == nil || !*h.Init {
		t.Errorf("host config %+v: want no --rm, no privileges, no restart, a read-only root and an init", h)
	}
	if h.LogConfig.Type != "json-file" || h.LogConfig.Config["max-size"] == "" || h.LogConfig.Config["max-file"] == "" {
		t.Errorf("log %+v: want it bounded", h.LogConfig)
	}
	if len(c.Mounts) != 0 {
		t.Errorf("mounts %+v: want no volumes", c.Mounts)
	}
	if args := fmt.Sprint(c.Path, c.Args); strings.Contains(args, "s3cret") || !strings.Contains(args, "-worker") {
		t.Errorf("command %s: want the arguments and no secrets", args)
	}
	if c.HostConfig.NetworkMode != container.NetworkMode(rig.network) || len(c.NetworkSettings.Networks) != 1 {
		t.Errorf("networks %+v: want only %s", c.NetworkSettings.Networks, rig.network)
	}
}

func dockerWorkerIsConfined(t *testing.T, rig *dockerRig) {
	exit := rig.ended(t, rig.open(t, rig.config()), doing("confines"))
	for _, want := range []string{
		"uid 65532", "write /: open /probe: read-only file system", "write /tmp: <nil>", "write /data: <nil>",
		"NoNewPrivs:\t1", "CapEff:\t0000000000000000", "CapBnd:\t0000000000000000",
	} {
		if !strings.Contains(exit.LogTail, want) {
			t.Errorf("the worker does not print %q, but:\n%s", want, exit.LogTail)
		}
	}
	if strings.Contains(exit.LogTail, "pid 1\n") {
		t.Error("the worker is process 1: nobody reaps orphans")
	}
}

func dockerImageWithAUserKeepsIt(t *testing.T, rig *dockerRig) {
	cfg := rig.config()
	cfg.Image += "-user"
	rig.buildImage(t, dockerfile+"USER 1234:1234\n", cfg.Image)
	if exit := rig.ended(t, rig.open(t, cfg), doing("confines")); !strings.Contains(exit.LogTail, "uid 1234 ") {
		t.Errorf("the worker prints:\n%s\nwant uid 1234", exit.LogTail)
	}
}

func dockerEnvironmentIsOnlyWhatWasGiven(t *testing.T, rig *dockerRig) {
	spec := doing("env")
	spec.Env["A"] = "from env"
	spec.Secrets = map[string]string{"A": "from secrets"}
	exit := rig.ended(t, rig.open(t, rig.config()), spec)
	_, env, _ := strings.Cut(exit.LogTail, "]\n")
	var names []string
	for line := range strings.Lines(env) {
		name, _, _ := strings.Cut(line, "=")
		names = append(names, name)
	}
	if diff := cmp.Diff([]string{"A", spawnertest.EnvDo, "HOME", "HOSTNAME", "PATH"}, names); diff != "" {
		t.Errorf("variables (-want +got):\n%s", diff)
	}
	if !strings.Contains(env, "A=from secrets\n") {
		t.Errorf("environment %q: want the secret to win", env)
	}
}

func dockerOutOfMemorySaysTheMend(t *testing.T, rig *dockerRig) {
	cfg := rig.config()
	cfg.MemoryMiB = 32
	exit := rig.ended(t, rig.open(t, cfg), doing("eat"))
	if exit.Code != 137 || !strings.Contains(exit.Detail, "out of memory") || !strings.Contains(exit.Detail, "raise -spawner-memory above 32 MiB") {
		t.Errorf("got code %d, detail %q; want 137, out of memory and the flag", exit.Code, exit.Detail)
	}
}

func dockerMissingImageLeavesNothing(t *testing.T, rig *dockerRig) {
	cfg := rig.config()
	cfg.Image = "gmaps-test-docker:none"
	d := rig.open(t, cfg)
	_, err := d.Create(t.Context(), doing("wait"))
	wantRefusal(t, err, "create", "image", "image gmaps-test-docker:none not found", "docker pull")
	wantRefusal(t, d.Check(t.Context()), "check", "image")
	if left := rig.containers(t, cfg.Instance); len(left) != 0 {
		t.Errorf("left behind: %+v", left)
	}
}

func dockerMissingNetworkLeavesNothing(t *testing.T, rig *dockerRig) {
	cfg := rig.config()
	cfg.Network = "gmaps-test-docker-none"
	d := rig.open(t, cfg)
	_, err := d.Create(t.Context(), doing("wait"))
	wantRefusal(t, err, "create", "network", "network gmaps-test-docker-none not found", "docker network create gmaps-test-docker-none")
	wantRefusal(t, d.Check(t.Context()), "check", "network")
	if left := rig.containers(t, cfg.Instance); len(left) != 0 {
		t.Errorf("left behind: %+v", left)
	}
}

// A container whose network went away after it was created can never be started: it must not stand in the way.
func dockerNetworkGoneBeforeTheStart(t *testing.T, rig *dockerRig) {
	cfg := rig.config()
	cfg.Network = rig.network + dockerUnique()
	spec := doing("wait")
	rig.create(t, cfg, spec)
	d := rig.open(t, cfg)
	_, err := d.Create(t.Context(), spec)
	wantRefusal(t, err, "create", "network", "not found", "docker network create")
	if left := rig.containers(t, cfg.Instance); len(left) != 0 {
		t.Errorf("left behind: %+v", left)
	}
}

func dockerFullNetworkLeavesNothing(t *testing.T, rig *dockerRig) {
	cfg := rig.config()
	cfg.Network = rig.network + dockerUnique()
	n := 16 + os.Getpid()%200
	rig.newNetwork(t, cfg.Network, network.CreateOptions{Driver: "bridge", IPAM: &network.IPAM{Config: []network.IPAMConfig{{Subnet: fmt.Sprintf("10.213.%d.0/30", n)}}}})
	d := rig.open(t, cfg)
	if _, err := d.Create(t.Context(), doing("wait")); err != nil {
		t.Fatal(err) // the one address besides the gateway's
	}
	_, err := d.Create(t.Context(), doing("wait"))
	wantRefusal(t, err, "create", "network", "no available IPv4 addresses", "--subnet")
	if got := rig.containers(t, cfg.Instance); len(got) != 1 {
		t.Errorf("containers: %+v, want only the first", got)
	}
}

func dockerNetworksThatCannotBeUsed(t *testing.T, rig *dockerRig) {
	cfg := rig.config()
	cfg.Network = "none"
	wantRefusal(t, rig.open(t, cfg).Check(t.Context()), "check", "network", "-spawner-network")
	if !rig.swarm(t) {
		t.Skip("needs an engine in swarm mode for the rest: make test-docker runs this")
	}
	cfg.Network = rig.network + dockerUnique()
	rig.newNetwork(t, cfg.Network, network.CreateOptions{Driver: "overlay"})
	wantRefusal(t, rig.open(t, cfg).Check(t.Context()), "check", "network", "not attachable", "--attachable")
}

func dockerForeignContainerOfThatName(t *testing.T, rig *dockerRig) {
	cfg := rig.config()
	spec := doing("wait")
	theirs := cfg
	theirs.Instance = dockerUnique()
	rig.open(t, theirs)
	rig.create(t, theirs, spec)
	_, err := rig.open(t, cfg).Create(t.Context(), spec)
	wantRefusal(t, err, "create", "name", spec.Name, "docker rm -f "+spec.Name)
	if got := rig.containers(t, theirs.Instance); len(got) != 1 || got[0].State != container.StateCreated {
		t.Errorf("the foreign container: %+v, want it untouched", got)
	}
}

func dockerOtherInstancesAreLeftAlone(t *testing.T, rig *dockerRig) {
	w, err := rig.open(t, rig.config()).Create(t.Context(), doing("wait"))
	if err != nil {
		t.Fatal(err)
	}
	other := rig.open(t, rig.config())
	wantRefusal(t, other.Stop(t.Context(), w.ID, 0), "stop", "other", "no worker of this Manager")
	wantRefusal(t, other.Remove(t.Context(), w.ID), "remove", "other", "no worker of this Manager")
	if c, err := rig.api.ContainerInspect(t.Context(), string(w.ID)); err != nil || !c.State.Running {
		t.Errorf("the other instance's worker: %+v, %v; want it running", c.State, err)
	}
}

func dockerCreatedButNotStartedIsStarted(t *testing.T, rig *dockerRig) {
	cfg := rig.config()
	spec := doing("wait")
	rig.create(t, cfg, spec)
	d := rig.open(t, cfg)
	if workers, err := d.List(t.Context()); err != nil || len(workers) != 0 {
		t.Errorf("list: %+v, %v; want nothing: no worker was started", workers, err)
	}
	w, err := d.Create(t.Context(), spec)
	if err != nil || !w.Running {
		t.Fatalf("create: %+v, %v; want it running", w, err)
	}
	if got := rig.containers(t, cfg.Instance); len(got) != 1 || got[0].ID != string(w.ID) {
		t.Errorf("containers: %+v, want only %s", got, w.ID)
	}
}

func dockerTooManyCPUsSayTheMend(t *testing.T, rig *dockerRig) {
	cfg := rig.config()
	cfg.CPUs = 5000
	_, err := rig.open(t, cfg).Create(t.Context(), doing("wait"))
	wantRefusal(t, err, "create", "resources", "lower -spawner-cpus")
}

func dockerStopOfAPausedWorker(t *testing.T, rig *dockerRig) {
	d := rig.open(t, rig.config())
	w, err := d.Create(t.Context(), doing("wait"))
	if err != nil {
		t.Fatal(err)
	}
	if err := rig.api.ContainerPause(t.Context(), string(w.ID)); err != nil {
		t.Fatal(err)
	}
	if workers, err := d.List(t.Context()); err != nil || len(workers) != 1 || !workers[0].Running {
		t.Errorf("list: %+v, %v; want the paused worker running", workers, err)
	}
	if err := d.Stop(t.Context(), w.ID, time.Second); err != nil {
		t.Fatal(err)
	}
	if exit, err := d.Collect(t.Context(), w.ID); err != nil {
		t.Errorf("collect: %+v, %v; want that it has ended", exit, err)
	}
}

func dockerWatchTellsOfAnExit(t *testing.T, rig *dockerRig) {
	d := rig.open(t, rig.config())
	w, err := d.Create(t.Context(), doing("wait"))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	told, done := make(chan struct{}, 100), make(chan error, 1)
	go func() { done <- d.Watch(ctx, func() { told <- struct{}{} }) }()
	// A change before the stream stands is not told: start others until one is.
	rig.eventually(t, "watch stands", func(context.Context) bool {
		if _, err := d.Create(t.Context(), doing("exit 0")); err != nil {
			t.Fatal(err)
		}
		select {
		case <-told:
			return true
		case <-time.After(time.Second):
			return false
		}
	})
	rig.eventually(t, "others have ended", func(context.Context) bool {
		workers, err := d.List(t.Context())
		return err == nil && !slices.ContainsFunc(workers, func(o spawner.Worker) bool { return o.Running && o.ID != w.ID })
	})
	for quiet := false; !quiet; {
		select {
		case <-told:
		case <-time.After(time.Second):
			quiet = true
		}
	}
	if err := rig.api.ContainerKill(t.Context(), string(w.ID), "KILL"); err != nil {
		t.Fatal(err)
	}
	select {
	case <-told:
	case <-time.After(dockerPatience):
		t.Error("the exit was not told")
	}
	cancel()
	if err := <-done; err != nil {
		t.Errorf("watch ended with %v, want nil", err)
	}
}

func dockerRouteFromABridgeToThisHost(t *testing.T, rig *dockerRig) {
	rig.wantRouteToThisHost(t, rig.config())
}

func dockerRouteFromAnOverlayToThisHost(t *testing.T, rig *dockerRig) {
	if !rig.swarm(t) {
		t.Skip("needs an engine in swarm mode: make test-docker runs this")
	}
	cfg := rig.config()
	cfg.Network = rig.network + dockerUnique()
	rig.newNetwork(t, cfg.Network, network.CreateOptions{Driver: "overlay", Attachable: true})
	rig.wantRouteToThisHost(t, cfg)
}

// wantRouteToThisHost lets a worker call a server of this process on the route.
func (r *dockerRig) wantRouteToThisHost(t *testing.T, cfg spawner.DockerConfig) {
	t.Helper()
	d := r.open(t, cfg)
	probe, err := d.Route(t.Context(), 1)
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", net.JoinHostPort(probe.Listen, "0"))
	if err != nil {
		t.Fatal(err)
	}
	s := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "host here") })}
	done := make(chan error, 1)
	go func() { done <- s.Serve(l) }()
	t.Cleanup(func() {
		s.Close()
		<-done
	})
	route, err := d.Route(t.Context(), l.Addr().(*net.TCPAddr).Port)
	if err != nil {
		t.Fatal(err)
	}
	exit := r.ended(t, d, doing("get "+route.URL))
	if !strings.Contains(exit.LogTail, "answer: host here") {
		t.Errorf("route %+v: the worker prints:\n%s", route, exit.LogTail)
	}
	if got := route.Rewrite("localhost:6379"); got != probe.Listen+":6379" && probe.Listen != "" {
		t.Errorf("localhost:6379 becomes %s, want an address on %s", got, probe.Listen)
	}
}

func dockerRouteToAManagerInAContainer(t *testing.T, rig *dockerRig) {
	cfg := rig.config()
	name, said := rig.manager(t, rig.network, "bridge", rig.network)
	if want := "route http://" + name + ":8080 listen \"\"\n"; !strings.Contains(said, want) {
		t.Fatalf("the manager prints:\n%s\nwant %s", said, want)
	}
	exit := rig.ended(t, rig.open(t, cfg), doing("get http://"+name+":8080"))
	if !strings.Contains(exit.LogTail, "answer: manager here") {
		t.Errorf("the worker prints:\n%s", exit.LogTail)
	}
}

func dockerRouteToAManagerOnAnotherNetwork(t *testing.T, rig *dockerRig) {
	name, said := rig.manager(t, rig.network, "bridge")
	if !strings.Contains(said, "which is not on network "+rig.network) || !strings.Contains(said, "docker network connect "+rig.network+" "+name) {
		t.Errorf("the manager prints:\n%s\nwant the command that attaches it", said)
	}
}

func dockerRouteOfHostAndIsolatedNetworks(t *testing.T, rig *dockerRig) {
	cfg := rig.config()
	cfg.Network = "host"
	route, err := rig.open(t, cfg).Route(t.Context(), 8080)
	if err != nil || route.URL != "http://127.0.0.1:8080" || route.Listen != "" || route.Rewrite("localhost:1") != "127.0.0.1:1" {
		t.Errorf("host network: %+v, %v; want http://127.0.0.1:8080", route, err)
	}
	cfg.Network = "none"
	_, err = rig.open(t, cfg).Route(t.Context(), 8080)
	wantRefusal(t, err, "route", "network", "-spawner-manager-url")
	cfg.Network = "gmaps-test-docker-none"
	_, err = rig.open(t, cfg).Route(t.Context(), 8080)
	wantRefusal(t, err, "route", "network", "docker network create")
}

func dockerLimitsFollowTheEnginesMachine(t *testing.T, rig *dockerRig) {
	info, err := rig.api.Info(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	cfg := rig.config()
	cfg.MemoryMiB = int(info.MemTotal>>20)/3 + 1
	d := rig.open(t, cfg)
	if err := d.Check(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := d.Limits().MaxWorkers; got != 2 {
		t.Errorf("workers of more than a third of the machine's memory each: at most %d, want 2", got)
	}
}

func dockerPullFromARegistryThatDoesNotAnswer(t *testing.T, rig *dockerRig) {
	for _, policy := range []spawner.PullPolicy{spawner.PullMissing, spawner.PullAlways} {
		cfg := rig.config()
		cfg.PullPolicy, cfg.Image = policy, "localhost:1/gmaps-test:none"
		d := rig.open(t, cfg)
		for range 2 { // the first failure must not stand for the second
			_, err := d.Create(t.Context(), doing("wait"))
			wantRefusal(t, err, "create", "image", "localhost:1", "docker pull")
		}
		wantRefusal(t, d.Check(t.Context()), "check", "image", "localhost:1")
	}
}

// create makes a worker's container and does not start it: a Manager that dies in between.
func (r *dockerRig) create(t *testing.T, cfg spawner.DockerConfig, spec spawner.Spec) {
	t.Helper()
	_, err := r.api.ContainerCreate(t.Context(), &container.Config{
		Image: r.image, Cmd: spec.Args, Env: []string{spawnertest.EnvDo + "=" + spec.Env[spawnertest.EnvDo]},
		Labels: map[string]string{
			"gmaps.worker": "true", "gmaps.job-id": spec.JobID, "gmaps.priority": strconv.Itoa(spec.Priority), "gmaps.spawner": "docker",
			"gmaps.instance": cfg.Instance, "gmaps.spawn-id": spec.SpawnID,
		},
	}, &container.HostConfig{NetworkMode: container.NetworkMode(cfg.Network)}, nil, nil, spec.Name)
	if err != nil {
		t.Fatal(err)
	}
}

// manager runs a Manager in a container on networks, which looks for the route from network, and returns its name and what it says.
func (r *dockerRig) manager(t *testing.T, network string, networks ...string) (name, said string) {
	t.Helper()
	host, err := url.Parse(r.api.DaemonHost())
	if err != nil || host.Scheme != "unix" {
		t.Skip("needs an engine on a Unix socket, to hand it to a container")
	}
	name = "gmaps-test-docker-manager-" + dockerUnique()
	c, err := r.api.ContainerCreate(t.Context(), &container.Config{
		Image: r.image, Env: []string{spawnertest.EnvDo + "=manager " + network + " 8080"}, Labels: map[string]string{dockerMark: "docker-spawner"},
	}, &container.HostConfig{NetworkMode: container.NetworkMode(networks[0]), Binds: []string{host.Path + ":/var/run/docker.sock"}}, nil, nil, name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), dockerPatience)
		defer cancel()
		if err := r.api.ContainerRemove(ctx, c.ID, container.RemoveOptions{Force: true, RemoveVolumes: true}); err != nil {
			t.Error(err)
		}
	})
	for _, n := range networks[1:] {
		if err := r.api.NetworkConnect(t.Context(), n, c.ID, nil); err != nil {
			t.Fatal(err)
		}
	}
	if err := r.api.ContainerStart(t.Context(), c.ID, container.StartOptions{}); err != nil {
		t.Fatal(err)
	}
	r.eventually(t, "manager speaks", func(context.Context) bool {
		said, err = r.log(c.ID)
		return err == nil && (strings.Contains(said, "route") || strings.Contains(said, "manager ended"))
	})
	return name, said
}

// swarm reports whether the engine is a manager of a swarm.
func (r *dockerRig) swarm(t *testing.T) bool {
	t.Helper()
	info, err := r.api.Info(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return info.Swarm.LocalNodeState == swarm.LocalNodeStateActive && info.Swarm.ControlAvailable
}
