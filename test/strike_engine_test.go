package test

import (
	"context"
	"fmt"
	"io"
	"log"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"gmaps-scraper/api"
	"gmaps-scraper/job"
)

var discardLog = log.New(io.Discard, "", 0)

// What the engine does is counted by the engine itself, past the socket that the Manager has.

func TestFaultDockerSocketIsGone(t *testing.T) {
	t.Parallel()
	s := newSocket(t)
	w := newWorld(t, setup{ground: onDocker, env: []string{"DOCKER_HOST=" + s.host()}, size: 200, latency: 20 * time.Millisecond, flags: []string{"-spawner-max-workers", "3"}})
	w.stays()
	stop := w.audit(3)
	l := newLedger(w)
	for i := range 3 {
		l.mustSubmit(fmt.Sprintf("gone%d", i), 4, nil)
	}
	waitFor(t, "workers", func() bool { return len(w.workers()) > 1 })
	s.vanish()
	l.submitPrompt(3, "gone", 4)
	pause(t.Context(), max(10*time.Second, time.Duration(min(runs(0), 30))*time.Second))
	s.appear()
	l.balance("Docker's socket gone", 1)
	stop()
	for id := range l.jobs() {
		w.wantAttempts(t, id, 1, "the engine's absence was charged to the job")
	}
}

func TestFaultDockerDoesNotSayWhatItDid(t *testing.T) {
	t.Parallel()
	for name, mode := range map[string]socketMode{"create hangs": hangs, "create is cut off": cuts} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSocket(t)
			w := newWorld(t, setup{ground: onDocker, env: []string{"DOCKER_HOST=" + s.host()}, size: 100, latency: 10 * time.Millisecond, flags: []string{"-spawner-max-workers", "3"}})
			w.stays()
			stop := w.audit(3)
			l := newLedger(w)
			s.set(mode)
			for i := range 4 {
				l.mustSubmit(fmt.Sprintf("silent%d", i), 3, nil)
			}
			s.waitSpoiled(2)
			pause(t.Context(), max(5*time.Second, time.Duration(min(runs(0), 90))*time.Second)) // under torture beyond the Manager's own bound of a create
			s.set(passes)
			l.balance("Docker: "+name, s.spoiled())
			stop()
			for id := range l.jobs() {
				w.wantAttempts(t, id, 1, "the engine's silence was charged to the job")
			}
		})
	}
}

// insideVariable is set in the test process that has namespaces of its own.
const insideVariable = "GMAPS_TEST_INSIDE"

// inOwnNamespaces runs the calling test once more, in a process with a network, mounts and process ids of its own, and reports whether this is
// that process. All that it started ends with it, however it ends: it is process 1 there.
// A second engine in the network of another one would delete its bridge when it starts (moby, removeDefaultBridgeInterface): here there is none.
func inOwnNamespaces(t *testing.T) bool {
	t.Helper()
	if os.Getenv(insideVariable) == "1" {
		run(t, "ip", "link", "set", "lo", "up")
		run(t, "mount", "-t", "proc", "proc", "/proc")
		return true
	}
	t.Parallel() // out here alone: inside, the test sets its environment
	if os.Geteuid() != 0 {
		t.Skip("needs root, for an engine that may be killed: make test-e2e as root runs this")
	}
	for _, program := range []string{"dockerd", "ip"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skipf("needs %s here, for an engine that may be killed: test/engine.sh up installs it", program)
		}
	}
	saved := filepath.Join(t.TempDir(), "image.tar")
	run(t, "docker", "save", "-o", saved, workerImage(t))
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.v", "-test.run", "^"+t.Name()+"$")
	cmd.Env = append(os.Environ(), insideVariable+"=1", imageFileVariable+"="+saved)
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWPID, Unshareflags: syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	out, err := cmd.CombinedOutput()
	t.Logf("%s", out)
	if err != nil {
		t.Errorf("in namespaces of its own: %v", err)
	}
	return false
}

// imageFileVariable names the file that the worker's image was saved to.
const imageFileVariable = "GMAPS_TEST_IMAGE_FILE"

func run(t *testing.T, args ...string) {
	t.Helper()
	if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v: %s", strings.Join(args, " "), err, out)
	}
}

// privateEngine is a Docker engine that may be killed.
type privateEngine struct {
	t    *testing.T
	dir  string
	proc *exec.Cmd
	done chan struct{}
}

// startPrivateEngine has DOCKER_HOST lead to the new engine until the test ends, and loads the worker's image into it.
func startPrivateEngine(t *testing.T) *privateEngine {
	t.Helper()
	dir, err := os.MkdirTemp("", "gmaps-engine-")
	if err != nil {
		t.Fatal(err)
	}
	e := &privateEngine{t: t, dir: dir}
	t.Cleanup(e.clear)
	t.Setenv("DOCKER_HOST", e.host())
	e.start()
	run(t, "docker", "load", "-q", "-i", os.Getenv(imageFileVariable))
	return e
}

func (e *privateEngine) host() string { return "unix://" + filepath.Join(e.dir, "docker.sock") }

func (e *privateEngine) start() {
	e.t.Helper()
	out, err := os.OpenFile(filepath.Join(e.dir, "log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		e.t.Fatal(err)
	}
	defer out.Close()
	// A dead containerd's pid file makes the next engine wait for it.
	_ = os.Remove(filepath.Join(e.dir, "exec", "containerd", "containerd.pid"))
	_ = os.Remove(filepath.Join(e.dir, "pid"))
	e.proc = exec.Command("dockerd", "--host", e.host(), "--data-root", filepath.Join(e.dir, "data"), "--exec-root", filepath.Join(e.dir, "exec"),
		"--pidfile", filepath.Join(e.dir, "pid"), "--bridge", "none", "--iptables=false")
	e.proc.Stdout, e.proc.Stderr = out, out
	if err := e.proc.Start(); err != nil {
		e.t.Fatal(err)
	}
	done, proc := make(chan struct{}), e.proc
	e.done = done
	go func() {
		_ = proc.Wait()
		close(done)
	}()
	waitFor(e.t, "a private engine", func() bool { return exec.Command("docker", "version").Run() == nil })
}

// end ends the engine by a signal.
func (e *privateEngine) end(s syscall.Signal) {
	_ = e.proc.Process.Signal(s)
	<-e.done
}

func (e *privateEngine) clear() {
	if e.proc != nil {
		if e.t.Failed() {
			b, _ := os.ReadFile(filepath.Join(e.dir, "log"))
			e.t.Logf("the private engine's log ends:\n%s", b[max(0, len(b)-4000):])
		}
		e.end(syscall.SIGTERM)
	}
	// What is mounted outlives the engine.
	mounts, _ := os.ReadFile("/proc/self/mountinfo")
	for line := range strings.Lines(string(mounts)) {
		if f := strings.Fields(line); len(f) > 4 && strings.HasPrefix(f[4], e.dir+"/") {
			_ = syscall.Unmount(f[4], syscall.MNT_DETACH)
		}
	}
	if err := os.RemoveAll(e.dir); err != nil {
		e.t.Errorf("remove the private engine: %v", err)
	}
}

func TestFaultDockerIsRestarted(t *testing.T) {
	engineAPI(t) // or skip
	if !inOwnNamespaces(t) {
		return
	}
	e := startPrivateEngine(t)
	w := newWorld(t, setup{ground: onDocker, size: 300, latency: 20 * time.Millisecond, flags: []string{"-spawner-max-workers", "3"}})
	w.stays()
	l := newLedger(w)
	rounds := 0
	for range runs(1) {
		for _, s := range []syscall.Signal{syscall.SIGTERM, syscall.SIGKILL} {
			rounds++
			for i := range 3 {
				l.mustSubmit(fmt.Sprintf("engine%d", i), 4, nil)
			}
			waitFor(t, "workers", func() bool { return len(w.workers()) > 1 })
			e.end(s)
			l.submitPrompt(3, "engine", 4)
			e.start()
			stop := w.audit(3)
			w.waitDrained()
			stop()
		}
	}
	l.balance("dockerd restarted", rounds)
}

// TestFaultTwoManagers freezes the one that leads: the other takes over, and whoever wakes up writes nothing that is not his.
func TestFaultTwoManagers(t *testing.T) {
	t.Parallel()
	const limit = 3
	// One task after the other, so that a job's places come by and by.
	w := newWorld(t, setup{ground: onDocker, servers: realServers(t), size: 200, latency: 100 * time.Millisecond,
		flags: []string{"-spawner-max-workers", strconv.Itoa(limit), "-spawner-concurrency", "1"}})
	w.stays()
	b := w.second()
	stop := w.audit(limit)
	l, lb := newLedger(w), newLedger(b)
	rounds := max(1, min(runs(0), 5))
	for range rounds {
		// Work that goes through A is seen at B as it goes.
		id := l.mustSubmit("seen", 4, nil)
		b.follow(id)
		for i := range 3 {
			l.mustSubmit(fmt.Sprintf("two%d", i), 4, nil)
		}
		waitFor(t, "workers", func() bool { return len(w.workers()) > 1 })
		leader, other := w, b
		if following(w) {
			leader, other = b, w
		}
		leader.manager.signal(syscall.SIGSTOP)
		ofOther := map[*world]*ledger{w: l, b: lb}[other]
		for i := range 3 {
			ofOther.mustSubmit(fmt.Sprintf("two%d", i), 4, nil)
		}
		other.waitDrained()
		if runs(0) > 0 {
			pause(t.Context(), time.Minute)
		}
		leader.manager.signal(syscall.SIGCONT)
		for i := range 3 {
			l.mustSubmit(fmt.Sprintf("two%d", i), 4, nil)
		}
		l.balance("one of two Managers stopped", 1)
		lb.balance("one of two Managers stopped, the other", 1)
	}
	stop()
}

// second starts another Manager of the same store and engine, and returns a world that is seen through it.
func (w *world) second() *world {
	w.t.Helper()
	b := *w
	b.addr = freeAddr(w.t)
	var err error
	if b.client, err = api.NewClient("http://"+b.addr, api.Secret(w.key), nil); err != nil {
		w.t.Fatal(err)
	}
	p := b.start("manager-2", w.managerEnv(), b.managerFlags("-addr", b.addr, "-data-dir", filepath.Join(w.dir, "data-2"))...)
	b.manager = p
	b.waitReady()
	w.t.Cleanup(func() { p.terminate(w.t) }) // before the first is held to leaving nothing
	b.stays()
	return &b
}

// following reports whether a Manager says that another one leads.
func following(w *world) bool {
	return strings.Contains(w.health().Parts["reconciler"].Detail, "another")
}

// follow streams a job's progress until it ends, and fails unless places were seen to grow on the way.
func (w *world) follow(id job.ID) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), patience)
	defer cancel()
	var seen []int
	var last api.Progress
	for p, err := range w.client.Stream(ctx, id) {
		if err != nil {
			w.t.Fatalf("stream of job %s: %v", id, err)
		}
		last = p
		if n := p.Counts.Places; len(seen) == 0 || seen[len(seen)-1] != n {
			seen = append(seen, n)
		}
	}
	if len(seen) < 3 || !last.State.Terminal() {
		w.t.Errorf("the other Manager's stream showed %v places and ended %s: want them to grow, and the end", seen, last.State)
	}
}
