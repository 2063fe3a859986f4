//go:build unix

package lambda

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"time"
)

const (
	// guestHost is this machine as a container on a network of its own sees it.
	guestHost = "host.docker.internal"
	// label is on every container of ours.
	label = "gmaps.lambda-emulator=true"
)

// containers starts bootstraps in containers, through the docker command: it knows contexts, TLS and ssh.
type containers struct {
	image, network, docker string
}

const engineDeadline = 10 * time.Second

func newContainers(c Config, _ string) (*containers, error) {
	path, err := exec.LookPath("docker")
	if err != nil {
		return nil, fmt.Errorf("lambda: container sandboxes need the docker command; install it, or set Sandbox to process: %w", err)
	}
	s := &containers{image: c.Image, network: c.Network, docker: path}
	if out, err := s.run("image", "inspect", "-f", "{{.Id}}", c.Image); err != nil {
		return nil, fmt.Errorf("lambda: image %s for container sandboxes: %w: %s; docker pull %s, or name another", c.Image, err, out, c.Image)
	}
	return s, nil
}

// run runs a docker command that ends soon.
func (s *containers) run(args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), engineDeadline) // also used to clean up, when no caller waits
	defer cancel()
	out, err := exec.CommandContext(ctx, s.docker, args...).CombinedOutput()
	return strings.TrimSpace(string(out)), err
}

func (s *containers) kind() SandboxKind { return SandboxContainer }

func (s *containers) close() error { return nil }

func (s *containers) runtimeHost() (listen, guest string) {
	if s.network == hostNetwork {
		return "127.0.0.1", ""
	}
	return "0.0.0.0", guestHost
}

// container is a bootstrap in a container, with the docker command that is attached to it.
type container struct {
	s     *containers
	name  string
	cmd   *exec.Cmd
	out   *output
	guard *watchdog
	ended chan struct{}
	how   string

	mu    sync.Mutex
	still bool
}

func (s *containers) start(spec sandboxSpec) (sandbox, error) {
	c := &container{s: s, name: "gmaps-lambda-" + spec.id, ended: make(chan struct{})}
	args := []string{"run", "--rm", "--name", c.name, "--label", label, "--network", s.network, "--pull", "never",
		"--read-only", "--tmpfs", fmt.Sprintf("/tmp:rw,exec,mode=1777,size=%dm", spec.ephemeralMiB),
		"--user", fmt.Sprintf("%d:%d", sandboxUID, sandboxGID), "--cap-drop", "ALL", "--security-opt", "no-new-privileges",
		"--memory", fmt.Sprintf("%dm", spec.memoryMiB), "--memory-swap", fmt.Sprintf("%dm", spec.memoryMiB),
		"--volume", spec.codeDir + ":" + taskRoot + ":ro", "--workdir", taskRoot, "--entrypoint", taskRoot + "/" + bootstrap}
	if s.network != hostNetwork {
		args = append(args, "--add-host", guestHost+":host-gateway")
	}
	c.cmd = exec.Command(s.docker) //nolint:noctx // ended by kill
	c.cmd.Env = os.Environ()
	spec.env["LAMBDA_TASK_ROOT"] = taskRoot
	for k, v := range spec.env { // values by environment: the command line is open to all. What would mislead the docker command is the exception
		if k == "PATH" || k == "HOME" || strings.HasPrefix(k, "DOCKER_") {
			args = append(args, "-e", k+"="+v)
			continue
		}
		args = append(args, "-e", k)
		c.cmd.Env = append(c.cmd.Env, k+"="+v)
	}
	c.cmd.Args = append(append(c.cmd.Args, args...), s.image)
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer w.Close()
	c.out = &output{r: r, line: spec.line}
	c.cmd.Stdout, c.cmd.Stderr = w, w
	if c.guard, err = watchThen(`"${DOCKER_BIN:-docker}" rm -f "$1"`, c.name); err != nil {
		return nil, errors.Join(fmt.Errorf("start the watchdog of an environment: %w", err), r.Close())
	}
	if err := c.cmd.Start(); err != nil {
		c.guard.release()
		return nil, errors.Join(err, r.Close())
	}
	go c.wait()
	return c, nil
}

func (c *container) wait() {
	defer close(c.ended)
	read := make(chan struct{})
	go func() {
		defer close(read)
		c.out.read()
	}()
	err := c.cmd.Wait()
	switch code := c.cmd.ProcessState.ExitCode(); {
	case err == nil:
		c.how = "exit status 0"
	case code == 128+9:
		c.how = "signal: killed"
	default:
		c.how = exitWords(c.cmd.ProcessState)
	}
	<-read
	c.out.r.Close()
	_, _ = c.s.run("rm", "-f", c.name) // gone already, if the engine lives
	c.guard.release()
}

func (c *container) freeze() error { return c.pause(true) }
func (c *container) thaw() error   { return c.pause(false) }

func (c *container) pause(still bool) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.still == still {
		return nil
	}
	verb := "unpause"
	if still {
		verb = "pause"
	}
	if out, err := c.s.run(verb, c.name); err != nil {
		select {
		case <-c.ended:
			return nil
		default:
			return fmt.Errorf("docker %s: %w: %s", verb, err, out)
		}
	}
	c.still = still
	return nil
}

// kill removes the container. One that is still being created is removed as soon as it is there.
func (c *container) kill() {
	for {
		_, _ = c.s.run("rm", "-f", c.name) // succeeds for a container that is not there
		select {
		case <-c.ended:
			return
		case <-time.After(50 * time.Millisecond):
		}
	}
}

func (c *container) exited() <-chan struct{} { return c.ended }
func (c *container) reason() string          { return c.how }
func (c *container) memoryMiB() int          { return 0 } // bounded by the engine; asking it takes seconds
func (c *container) pid() int                { return 0 }
func (c *container) drain()                  { c.out.drain() }

func (c *container) frozen() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.still
}
