package test

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"

	dockercontainer "github.com/docker/docker/api/types/container"
	"github.com/docker/docker/pkg/stdcopy"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"
	"github.com/testcontainers/testcontainers-go"
	"github.com/testcontainers/testcontainers-go/wait"
)

// contained is a Manager that runs as a container of the image.
type contained struct {
	e   *engine
	id  string
	log string // file that its output is copied to
}

const dockerSocket = "/var/run/docker.sock"

// startContained starts the Manager as compose.yaml does: on the workers' network, with the engine's socket and the group that may open it.
func (w *world) startContained() machine {
	t := w.t
	t.Helper()
	e := w.ground.(*engine)
	var socket syscall.Stat_t
	if err := syscall.Stat(dockerSocket, &socket); err != nil {
		t.Skipf("needs the engine's socket at %s: %v", dockerSocket, err)
	}
	_, port, _ := net.SplitHostPort(w.addr)
	made, err := testcontainers.Run(t.Context(), e.image,
		testcontainers.WithName(e.network+"-manager"),
		testcontainers.WithLabels(map[string]string{mark: "e2e"}),
		testcontainers.WithEnv(map[string]string{"GMAPS_API_KEY": w.key}),
		testcontainers.WithCmd(w.managerFlags("-addr", ":8080")...),
		testcontainers.WithExposedPorts("8080/tcp"),
		testcontainers.WithHostConfigModifier(func(c *container.HostConfig) {
			c.NetworkMode = container.NetworkMode(e.network)
			c.Binds = []string{dockerSocket + ":" + dockerSocket}
			c.GroupAdd = []string{strconv.Itoa(int(socket.Gid))}
			c.ReadonlyRootfs, c.CapDrop, c.SecurityOpt = true, []string{"ALL"}, []string{"no-new-privileges:true"}
			c.Tmpfs = map[string]string{"/tmp": "", "/data": "uid=65532,mode=0700"}
			c.PortBindings = network.PortMap{network.MustParsePort("8080/tcp"): {{HostIP: netip.MustParseAddr("127.0.0.1"), HostPort: port}}}
		}),
		testcontainers.WithWaitStrategyAndDeadline(patience, wait.ForHTTP("/readyz").WithPort("8080/tcp")),
	)
	if made == nil {
		t.Fatal(err)
	}
	c := &contained{e: e, id: made.GetContainerID(), log: filepath.Join(w.dir, "manager.log")}
	e.own = append(e.own, c.id)
	if err != nil {
		c.keepLog()
		t.Fatal(err)
	}
	return c
}

func (c *contained) kill() {
	c.signal(syscall.SIGKILL)
	waitFor(c.e.t, "the Manager's container to end", func() bool { return !c.running() })
}

func (c *contained) signal(s syscall.Signal) {
	ctx, cancel := c.e.ctx()
	defer cancel()
	if err := c.e.api.ContainerKill(ctx, c.id, fmt.Sprint(int(s))); err != nil {
		c.e.t.Errorf("signal %v to the Manager's container: %v", s, err)
	}
}

func (c *contained) terminate(t *testing.T) {
	t.Helper()
	c.signal(syscall.SIGTERM)
	waitFor(t, "the Manager's container to stop", func() bool { return !c.running() })
	c.keepLog()
}

func (c *contained) running() bool {
	ctx, cancel := c.e.ctx()
	defer cancel()
	state, err := c.e.api.ContainerInspect(ctx, c.id)
	return err == nil && state.State.Running
}

// keepLog copies the log to where that of a process would be.
func (c *contained) keepLog() {
	ctx, cancel := c.e.ctx()
	defer cancel()
	logs, err := c.e.api.ContainerLogs(ctx, c.id, dockercontainer.LogsOptions{ShowStdout: true, ShowStderr: true})
	if err != nil {
		return
	}
	defer logs.Close()
	f, err := os.OpenFile(c.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return
	}
	defer f.Close()
	_, _ = stdcopy.StdCopy(f, f, logs)
}
