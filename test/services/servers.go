package main

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"
	"github.com/moby/moby/client"
	"github.com/testcontainers/testcontainers-go"
	tclog "github.com/testcontainers/testcontainers-go/log"
	"github.com/testcontainers/testcontainers-go/wait"
	"golang.org/x/sync/errgroup"
)

// Labels of a container: that it is ours, and whose. A run that was killed cannot remove its own; the next run does.
const (
	labelTest = "gmaps.test"
	labelHost = "gmaps.test.host"
	labelPID  = "gmaps.test.pid"
	isService = "services"
)

// server is how one of them is started.
type server struct {
	name     string
	variable string // of the environment, for its address
	port     string
	options  []testcontainers.ContainerCustomizer
	// address is what variable holds, from host:port.
	address func(hostPort string) string
}

// running is a server that was started.
type running struct {
	name, variable, image, address string
	container                      testcontainers.Container
	took                           time.Duration
}

// servers lists all that can be started. Each wait is told how long it may take: it has a minute of its own otherwise, whatever the deadline
// of them all, and on a busy machine RabbitMQ alone takes longer. Passwords are new in each run; they guard nothing but against another user of this machine.
func servers() []server {
	password := rand.Text()
	return []server{
		{
			name: "postgres", variable: "GMAPS_TEST_POSTGRES", port: "5432/tcp",
			options: []testcontainers.ContainerCustomizer{
				testcontainers.WithEnv(map[string]string{"POSTGRES_USER": "gmaps", "POSTGRES_PASSWORD": password, "POSTGRES_DB": "gmaps"}),
				// Each test has a pool of its own. fsync guards against a power cut, which no test makes; a killed server loses nothing without it.
				// What measures asks for it.
				testcontainers.WithCmd("postgres", "-c", "max_connections=300", "-c", "fsync="+cmp.Or(os.Getenv("GMAPS_TEST_FSYNC"), "off")),
				// The first server, which only initialises, says so once too.
				testcontainers.WithWaitStrategyAndDeadline(startWithin,
					wait.ForLog("database system is ready to accept connections").WithOccurrence(2).WithStartupTimeout(startWithin), wait.ForMappedPort("5432/tcp").WithStartupTimeout(startWithin)),
			},
			address: func(hostPort string) string {
				return "postgres://gmaps:" + password + "@" + hostPort + "/gmaps?sslmode=disable"
			},
		},
		{
			name: "rabbitmq", variable: "GMAPS_TEST_RABBITMQ", port: "5672/tcp",
			options: []testcontainers.ContainerCustomizer{
				testcontainers.WithExposedPorts("15672/tcp"),
				testcontainers.WithEnv(map[string]string{"RABBITMQ_DEFAULT_USER": "gmaps", "RABBITMQ_DEFAULT_PASS": password}),
				testcontainers.WithWaitStrategyAndDeadline(startWithin,
					wait.ForLog("Server startup complete").WithStartupTimeout(startWithin), wait.ForHTTP("/api/overview").WithPort("15672/tcp").WithBasicAuth("gmaps", password).WithStartupTimeout(startWithin)),
			},
			address: func(hostPort string) string { return "amqp://gmaps:" + password + "@" + hostPort + "/" },
		},
		{
			name: "redis", variable: "GMAPS_TEST_REDIS", port: "6379/tcp",
			options: []testcontainers.ContainerCustomizer{
				testcontainers.WithCmd("redis-server", "--save", "", "--appendonly", "no"),
				testcontainers.WithWaitStrategyAndDeadline(startWithin, wait.ForLog("Ready to accept connections").WithStartupTimeout(startWithin), wait.ForMappedPort("6379/tcp").WithStartupTimeout(startWithin)),
			},
			address: func(hostPort string) string { return hostPort },
		},
	}
}

func names() []string {
	var list []string
	for _, s := range servers() {
		list = append(list, s.name)
	}
	return list
}

// parseNames reads -with.
func parseNames(list string) ([]string, error) {
	var wanted []string
	for name := range strings.SplitSeq(list, ",") {
		if name = strings.TrimSpace(name); !slices.Contains(names(), name) {
			return nil, fmt.Errorf("-with: %q is none of %s", name, strings.Join(names(), ", "))
		}
		if !slices.Contains(wanted, name) {
			wanted = append(wanted, name)
		}
	}
	return wanted, nil
}

// settings tells testcontainers what it cannot find out everywhere. What the environment says already stands.
func settings() {
	set := func(key, value string) {
		if _, given := os.LookupEnv(key); !given {
			os.Setenv(key, value)
		}
	}
	// Its reaper is an image that needs a registry. We remove by label.
	set("TESTCONTAINERS_RYUK_DISABLED", "true")
	// Inside a container, or where /.dockerenv only looks like one, it takes the bridge's gateway for the engine's host, where ports of
	// the loopback are not published.
	if host := os.Getenv("DOCKER_HOST"); host == "" || strings.HasPrefix(host, "unix://") {
		set("TESTCONTAINERS_HOST_OVERRIDE", "127.0.0.1")
	}
	tclog.SetDefault(tclog.NewNoopLogger())
}

// start starts the wanted servers side by side.
func start(ctx context.Context, wanted []string, images map[string]string) ([]*running, error) {
	var started []*running
	g, gctx := errgroup.WithContext(ctx)
	for _, s := range servers() {
		if !slices.Contains(wanted, s.name) {
			continue
		}
		r := &running{name: s.name, variable: s.variable, image: images[s.name]}
		started = append(started, r)
		g.Go(func() error {
			if err := r.start(gctx, s); err != nil {
				return fmt.Errorf("start %s (%s): %w", s.name, r.image, err)
			}
			return nil
		})
	}
	return started, g.Wait()
}

func (r *running) start(ctx context.Context, s server) error {
	began := time.Now()
	host, _ := os.Hostname()
	options := append(slices.Clone(s.options),
		testcontainers.WithNoStart(),
		testcontainers.WithExposedPorts(s.port),
		testcontainers.WithHostConfigModifier(onLoopback),
		testcontainers.WithLabels(map[string]string{labelTest: isService, labelHost: host, labelPID: strconv.Itoa(os.Getpid())}))
	// The engine goes on with a create whose caller has left: its container would come to be after we removed the others.
	create, cancel := context.WithTimeout(context.WithoutCancel(ctx), createWithin)
	defer cancel()
	c, err := testcontainers.Run(create, r.image, options...)
	if err != nil {
		return err
	}
	r.container = c
	if err := c.Start(ctx); err != nil {
		return errors.Join(err, r.lastWords(ctx))
	}
	hostPort, err := c.PortEndpoint(ctx, s.port, "")
	if err != nil {
		return err
	}
	r.address, r.took = s.address(hostPort), time.Since(began)
	return nil
}

// onLoopback publishes ports to this machine only. An engine on another machine has a loopback of its own: there they are published to all.
func onLoopback(c *container.HostConfig) {
	if host := os.Getenv("DOCKER_HOST"); host != "" && !strings.HasPrefix(host, "unix://") {
		return
	}
	c.PortBindings = network.PortMap{}
	for _, port := range []string{"5432/tcp", "5672/tcp", "15672/tcp", "6379/tcp"} {
		c.PortBindings[network.MustParsePort(port)] = []network.PortBinding{{HostIP: netip.MustParseAddr("127.0.0.1")}}
	}
}

// lastWords is what a server that did not come up said.
func (r *running) lastWords(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	logs, err := r.container.Logs(ctx)
	if err != nil {
		return nil // the first error says more
	}
	defer logs.Close()
	return fmt.Errorf("its log ends:\n%s", tail(logs))
}

// remove removes the containers of this run with their volumes, those that did not come up too.
func remove(ctx context.Context) error {
	api, err := testcontainers.NewDockerClientWithOpts(ctx)
	if err != nil {
		return err
	}
	defer api.Close()
	return removeWhere(ctx, api, func(labels map[string]string) bool {
		return isOfThisHost(labels) && labels[labelPID] == strconv.Itoa(os.Getpid())
	})
}

// sweep removes what runs on this machine left that were killed.
func sweep(ctx context.Context) error {
	api, err := testcontainers.NewDockerClientWithOpts(ctx)
	if err != nil {
		return fmt.Errorf("%w; mend: test/engine.sh up", err)
	}
	defer api.Close()
	return removeWhere(ctx, api, func(labels map[string]string) bool {
		pid, err := strconv.Atoi(labels[labelPID])
		return err == nil && isOfThisHost(labels) && errors.Is(syscall.Kill(pid, 0), syscall.ESRCH)
	})
}

func isOfThisHost(labels map[string]string) bool {
	host, _ := os.Hostname()
	return labels[labelHost] == host
}

func removeWhere(ctx context.Context, api *testcontainers.DockerClient, chosen func(labels map[string]string) bool) error {
	list, err := api.ContainerList(ctx, client.ContainerListOptions{All: true, Filters: make(client.Filters).Add("label", labelTest+"="+isService)})
	if err != nil {
		return err
	}
	var failed error
	for _, c := range list.Items {
		if !chosen(c.Labels) {
			continue
		}
		_, err := api.ContainerRemove(ctx, c.ID, client.ContainerRemoveOptions{Force: true, RemoveVolumes: true})
		if err != nil && !errdefs.IsNotFound(err) && !errdefs.IsConflict(err) { // gone, or being removed by another
			failed = errors.Join(failed, fmt.Errorf("remove container %s: %w", c.ID[:12], err))
		}
	}
	return failed
}
