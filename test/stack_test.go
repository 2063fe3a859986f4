package test

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/docker/docker/api/types/network"

	"gmaps-scraper/api"
)

// TestStackIsDeployedAndItsJobsAreDoneByServices deploys stack.yaml as it is, but for names of what a machine has only one of: the images
// that are there, the published port, the network. The simulator stands for Google.
func TestStackIsDeployedAndItsJobsAreDoneByServices(t *testing.T) {
	t.Parallel()
	needSwarm(t)
	name, port := "gmaps-e2e-"+randomName(), portOf(freeAddr(t))
	e := &engine{t: t, api: engineAPI(t), backend: onSwarm, image: workerImage(t), network: name + "-network", instances: map[string]bool{}}
	e.gateway = e.gatewayOf(gwbridge)
	w := &world{t: t, bin: binary(t), dir: t.TempDir(), ground: e, setup: setup{ground: onSwarm}, addr: "127.0.0.1:" + port}
	simulator := net.JoinHostPort(e.gateway, portOf(freeAddr(t)))
	w.maps = "http://" + simulator
	sim := w.start("simulator", nil, "-simulator", "-addr", simulator, "-synthetic", "300", "-latency", "100ms")
	t.Cleanup(sim.kill)

	published := strconv.Quote(port + ":8080")
	if !balances() {
		published = "{target: 8080, published: " + port + ", mode: host}"
	}
	swaps := append([]string{"gmaps-scraper:latest", e.image, `"8080:8080"`, published, "name: gmaps-network", "name: " + e.network,
		"-spawner-network gmaps-network", "-spawner-network " + e.network}, localImages(t)...)
	w.deploy(name, strings.NewReplacer(swaps...))
	// The Manager ends and is started again until PostgreSQL and RabbitMQ answer, and the swarm leads nobody to it before its first check.
	within(t, 2*patience, "the stack to be ready", func() bool { return answers("http://" + w.addr + "/readyz") })
	n, err := e.api.NetworkInspect(t.Context(), e.network, network.InspectOptions{})
	if err != nil {
		t.Fatal(err)
	}
	e.networkID = n.ID
	w.key = w.printedKey(name)
	if w.client, err = api.NewClient("http://"+w.addr, api.Secret(w.key), nil); err != nil {
		t.Fatal(err)
	}

	l := newLedger(w)
	id := l.mustSubmit("stack", 4, func(n *api.NewJob) { n.Priority = 7 })
	waitFor(t, "docker service ls --filter label=gmaps.worker=true to show a worker", func() bool { return len(e.services()) > 0 && len(w.workersOf(id)) > 0 })
	for _, s := range e.services() {
		e.wantLabels(s.Spec.Labels, id, 7)
	}
	l.balance("none: stack.yaml", 1)
	w.wantEvidence(id)
	w.wantGone(goneWithin)
}

func portOf(addr string) string {
	_, port, _ := net.SplitHostPort(addr)
	return port
}

// balances reports whether this kernel has IPVS, by which a swarm gives each service one address. Where it lacks, names lead to the tasks
// themselves, and ports are published by the node.
func balances() bool {
	_, err := os.Stat("/proc/net/ip_vs")
	return err == nil
}

// localImages pairs the official images of the stack with those that this machine has.
func localImages(t *testing.T) []string {
	t.Helper()
	list := command(t, "images/build.sh", "postgres", "rabbitmq", "redis")
	var swaps []string
	for _, s := range [][2]string{{"IMAGE_POSTGRES=", "postgres:15-alpine"}, {"IMAGE_RABBITMQ=", "rabbitmq:3-management-alpine"}, {"IMAGE_REDIS=", "redis:7-alpine"}} {
		_, rest, found := strings.Cut(list, s[0])
		if !found {
			t.Fatalf("images/build.sh says nothing of %s:\n%s", s[0], list)
		}
		swaps = append(swaps, "image: "+s[1], "image: "+strings.Fields(rest)[0])
	}
	return swaps
}

func (w *world) deploy(name string, swap *strings.Replacer) {
	w.t.Helper()
	text, err := os.ReadFile("../stack.yaml")
	if err != nil {
		w.t.Fatal(err)
	}
	file, more := filepath.Join(w.dir, "stack.yaml"), filepath.Join(w.dir, "test.yaml")
	// The second file points the workers at the simulator, and marks all that the stack makes as a test's.
	var extra strings.Builder
	fmt.Fprintf(&extra, "version: '3.8'\nservices:\n")
	for _, service := range []string{"manager", "postgres", "rabbitmq", "redis"} {
		fmt.Fprintf(&extra, "  %s:\n    labels: {%s: e2e}\n    deploy:\n      labels: {%s: e2e}\n", service, mark, mark)
		if !balances() {
			extra.WriteString("      endpoint_mode: dnsrr\n")
		}
		if service == "manager" {
			fmt.Fprintf(&extra, "    environment: {GMAPS_MAPS_URL: '%s'}\n", w.maps)
		}
	}
	network := w.ground.(*engine).network // all of it again: a second file replaces a network as a whole
	fmt.Fprintf(&extra, "networks:\n  gmaps-network: {name: %s, driver: overlay, attachable: true, labels: {%s: e2e}}\nvolumes:\n", network, mark)
	for _, volume := range []string{"postgres_data", "manager_data"} {
		fmt.Fprintf(&extra, "  %s: {labels: {%s: e2e}}\n", volume, mark)
	}
	for path, text := range map[string]string{file: swap.Replace(string(text)), more: extra.String()} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			w.t.Fatal(err)
		}
	}
	w.t.Cleanup(func() { w.undeploy(name) })
	command(w.t, "docker", "stack", "deploy", "--resolve-image", "never", "-c", file, "-c", more, name)
}

// undeploy removes a stack and its volumes, and waits until the engine has done so.
func (w *world) undeploy(name string) {
	if w.t.Failed() {
		for _, service := range []string{"manager", "postgres", "rabbitmq"} {
			logs, _ := exec.Command("docker", "service", "logs", "--raw", "--tail", "20", name+"_"+service).CombinedOutput()
			w.t.Logf("%s's log ends:\n%s", service, logs)
		}
		tasks, _ := exec.Command("docker", "stack", "ps", "--no-trunc", name).CombinedOutput()
		w.t.Logf("%s", tasks)
		w.ground.raze()
	}
	filter := "label=com.docker.stack.namespace=" + name
	command(w.t, "docker", "stack", "rm", name)
	waitFor(w.t, "the stack to be gone", func() bool {
		return command(w.t, "docker", "ps", "-aq", "--filter", filter)+command(w.t, "docker", "network", "ls", "-q", "--filter", filter) == ""
	})
	if volumes := strings.Fields(command(w.t, "docker", "volume", "ls", "-q", "--filter", filter)); len(volumes) > 0 {
		command(w.t, "docker", append([]string{"volume", "rm"}, volumes...)...)
	}
}

// printedKey is the key that the Manager prints at its first start.
func (w *world) printedKey(stack string) (key string) {
	w.t.Helper()
	printed := regexp.MustCompile(`API key \([^)]*\): (\S+)`)
	waitFor(w.t, "the Manager to print its first key", func() bool {
		found := printed.FindStringSubmatch(command(w.t, "docker", "service", "logs", "--raw", stack+"_manager"))
		if found != nil {
			key = found[1]
		}
		return found != nil
	})
	return key
}

// command runs a program to its end, after the test too, and returns what it printed.
func command(t *testing.T, name string, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	var out, said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &said
	if err := cmd.Run(); err != nil {
		t.Errorf("%s %s: %v\n%s", name, strings.Join(args, " "), err, said.String())
	}
	return strings.TrimSpace(out.String() + map[bool]string{true: "\n" + said.String()}[slices.Contains(args, "logs")])
}
