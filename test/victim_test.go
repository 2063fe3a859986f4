package test

import (
	"cmp"
	"context"
	"crypto/rand"
	"io"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"
	"github.com/moby/moby/client"
	"github.com/testcontainers/testcontainers-go"
	tcexec "github.com/testcontainers/testcontainers-go/exec"
	tclog "github.com/testcontainers/testcontainers-go/log"
	"github.com/testcontainers/testcontainers-go/wait"
)

// comesUp bounds the start of a server on a machine that has other things to do.
const comesUp = 4 * time.Minute

// victim is a PostgreSQL, RabbitMQ or Redis of a test's own, in a container: it is there to be paused, killed and starved.
type victim struct {
	t         *testing.T
	name      string
	container testcontainers.Container
	engine    *testcontainers.DockerClient
	// address is its host:port on this machine, the same whatever was done to the server.
	address  string
	password string
}

// startVictim starts the server from the image that IMAGE_… names. Its port is fixed: the engine gives a container that is started again
// another one, unless it was told which.
func startVictim(t *testing.T, name, port string, options ...testcontainers.ContainerCustomizer) *victim {
	t.Helper()
	variable := "IMAGE_" + strings.ToUpper(name)
	image := os.Getenv(variable)
	if image == "" {
		t.Skip("needs the image of a server that may be killed, in " + variable + ": make test-services runs this")
	}
	setDefaultEnv("TESTCONTAINERS_RYUK_DISABLED", "true")
	setDefaultEnv("TESTCONTAINERS_HOST_OVERRIDE", "127.0.0.1")
	tclog.SetDefault(tclog.NewNoopLogger())
	engine, err := testcontainers.NewDockerClientWithOpts(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	v := &victim{t: t, name: name, engine: engine, address: freeAddr(t)}
	t.Cleanup(func() { engine.Close() })
	host, _ := os.Hostname()
	published := netip.MustParseAddrPort(v.address)
	options = append(options,
		testcontainers.WithExposedPorts(port),
		// The same labels as those of test/services, which removes what a killed run left.
		testcontainers.WithLabels(map[string]string{"gmaps.test": "services", "gmaps.test.host": host, "gmaps.test.pid": strconv.Itoa(os.Getpid())}),
		testcontainers.WithHostConfigModifier(func(c *container.HostConfig) {
			c.PortBindings = network.PortMap{network.MustParsePort(port): {{HostIP: published.Addr(), HostPort: strconv.Itoa(int(published.Port()))}}}
		}))
	v.container, err = testcontainers.Run(t.Context(), image, options...)
	if v.container != nil {
		t.Cleanup(v.remove)
	}
	if err != nil {
		t.Fatalf("start %s: %v", name, err)
	}
	return v
}

func setDefaultEnv(key, value string) {
	if _, given := os.LookupEnv(key); !given {
		os.Setenv(key, value)
	}
}

func (v *victim) remove() {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(v.t.Context()), patience)
	defer cancel()
	if v.t.Failed() {
		v.t.Logf("%s's log ends:\n%s", v.name, v.log(ctx))
	}
	if _, err := v.engine.ContainerRemove(ctx, v.id(), client.ContainerRemoveOptions{Force: true, RemoveVolumes: true}); err != nil {
		v.t.Errorf("remove %s: %v", v.name, err)
	}
}

func (v *victim) log(ctx context.Context) string {
	logs, err := v.container.Logs(ctx)
	if err != nil {
		return err.Error()
	}
	defer logs.Close()
	b, _ := io.ReadAll(logs)
	return string(b[max(0, len(b)-2000):])
}

func (v *victim) id() string { return v.container.GetContainerID() }

// pause freezes all of its processes: connections stay, nothing answers.
func (v *victim) pause() {
	v.t.Helper()
	_, err := v.engine.ContainerPause(v.context(), v.id(), client.ContainerPauseOptions{})
	v.check("pause", err)
}

func (v *victim) unpause() {
	v.t.Helper()
	_, err := v.engine.ContainerUnpause(v.context(), v.id(), client.ContainerUnpauseOptions{})
	v.check("unpause", err)
}

// kill is kill -9.
func (v *victim) kill() {
	v.t.Helper()
	_, err := v.engine.ContainerKill(v.context(), v.id(), client.ContainerKillOptions{Signal: "SIGKILL"})
	v.check("kill", err)
	waitFor(v.t, v.name+" to be dead", func() bool { return !v.isRunning() })
}

// stop is an orderly stop.
func (v *victim) stop() {
	v.t.Helper()
	grace := 20
	_, err := v.engine.ContainerStop(v.context(), v.id(), client.ContainerStopOptions{Timeout: &grace})
	v.check("stop", err)
}

// start starts a stopped or killed server. It returns before the server serves.
func (v *victim) start() {
	v.t.Helper()
	_, err := v.engine.ContainerStart(v.context(), v.id(), client.ContainerStartOptions{})
	v.check("start", err)
}

// heal undoes pause, kill and stop.
func (v *victim) heal() {
	v.t.Helper()
	found, err := v.engine.ContainerInspect(v.context(), v.id(), client.ContainerInspectOptions{})
	v.check("inspect", err)
	switch state := found.Container.State; {
	case state.Paused:
		v.unpause()
	case !state.Running:
		v.start()
	}
}

func (v *victim) isRunning() bool {
	found, err := v.engine.ContainerInspect(v.context(), v.id(), client.ContainerInspectOptions{})
	return err == nil && found.Container.State.Running
}

// exec runs a command in its container and returns what it said.
func (v *victim) exec(args ...string) string {
	v.t.Helper()
	code, out, err := v.container.Exec(v.context(), args, tcexec.Multiplexed())
	v.check(strings.Join(args, " "), err)
	b, _ := io.ReadAll(out)
	if code != 0 {
		v.t.Fatalf("%s in %s: exit %d: %s", strings.Join(args, " "), v.name, code, b)
	}
	return string(b)
}

func (v *victim) context() context.Context {
	return context.WithoutCancel(v.t.Context()) // servers are healed in cleanups too
}

func (v *victim) check(doing string, err error) {
	v.t.Helper()
	if err != nil {
		v.t.Fatalf("%s: %s: %v", v.name, doing, err)
	}
}

// startPostgres starts a PostgreSQL whose data lives as long as its container. args are for its server.
func startPostgres(t *testing.T, options []testcontainers.ContainerCustomizer, args ...string) *victim {
	t.Helper()
	password := rand.Text()
	v := startVictim(t, "postgres", "5432/tcp", append([]testcontainers.ContainerCustomizer{
		testcontainers.WithEnv(map[string]string{"POSTGRES_USER": "gmaps", "POSTGRES_PASSWORD": password, "POSTGRES_DB": "gmaps"}),
		testcontainers.WithCmd(append([]string{"postgres", "-c", "fsync=off"}, args...)...), // a killed server loses nothing without it; a power cut is not made here
		testcontainers.WithWaitStrategyAndDeadline(comesUp,
			wait.ForLog("database system is ready to accept connections").WithOccurrence(2).WithStartupTimeout(comesUp), wait.ForMappedPort("5432/tcp")),
	}, options...)...)
	v.password = password
	return v
}

// dsn is that of the superuser, at addr: the server's own, or that of a proxy before it.
func (v *victim) dsn(addr string) string {
	return "postgres://gmaps:" + v.password + "@" + cmp.Or(addr, v.address) + "/gmaps?sslmode=disable"
}

func startRabbitMQ(t *testing.T) *victim {
	t.Helper()
	password := rand.Text()
	v := startVictim(t, "rabbitmq", "5672/tcp",
		testcontainers.WithEnv(map[string]string{"RABBITMQ_DEFAULT_USER": "gmaps", "RABBITMQ_DEFAULT_PASS": password}),
		testcontainers.WithWaitStrategyAndDeadline(comesUp, wait.ForLog("Server startup complete").WithStartupTimeout(comesUp), wait.ForMappedPort("5672/tcp")),
		// Its node is named after its host, and finds its data by that name.
		testcontainers.WithConfigModifier(func(c *container.Config) { c.Hostname = "broker" }))
	v.password = password
	return v
}

// amqp is its URL at addr: the server's own, or that of a proxy before it.
func (v *victim) amqp(addr string) string {
	return "amqp://gmaps:" + v.password + "@" + cmp.Or(addr, v.address) + "/"
}

// startRedis starts a Redis that asks for a password.
func startRedis(t *testing.T) *victim {
	t.Helper()
	password := rand.Text()
	v := startVictim(t, "redis", "6379/tcp",
		testcontainers.WithCmd("redis-server", "--save", "", "--appendonly", "no", "--requirepass", password),
		testcontainers.WithWaitStrategyAndDeadline(comesUp, wait.ForLog("Ready to accept connections").WithStartupTimeout(comesUp), wait.ForMappedPort("6379/tcp")))
	v.password = password
	return v
}

// flush empties a Redis.
func (v *victim) flush() {
	v.t.Helper()
	v.exec("redis-cli", "--no-auth-warning", "-a", v.password, "FLUSHALL")
}

// redis is its URL.
func (v *victim) redis() string { return "redis://:" + v.password + "@" + v.address }
