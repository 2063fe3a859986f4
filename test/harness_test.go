package test

import (
	"cmp"
	"context"
	"crypto/rand"
	"fmt"
	mathrand "math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"gmaps-scraper/api"
)

// patience is how long a test waits for what must come. It is no measurement: only a bound on a hang.
const patience = 3 * time.Minute

// leaseTTL is short here, so that a death is noticed soon, and not so short that a machine that is busy for a moment costs a live worker
// its lease.
const leaseTTL = 4 * time.Second

// setup is what a world is made of. Its zero value is a Manager on the host with its embedded parts, which starts no workers.
type setup struct {
	// ground is where the Manager starts its workers: onProcess, onDocker, onSwarm or onLambda. Empty: it starts none.
	ground string
	// servers replace the embedded parts. See realServers.
	servers servers
	// size is the number of places in each named set of the simulator, latency the delay of its answers.
	size    int
	latency time.Duration
	// flags are the Manager's, after those that follow from the above: the last of a name holds.
	flags []string
	// env is added to the Manager's environment, and bin runs it instead of GMAPS_BIN.
	env []string
	bin string
	// function is how a ground of functions is.
	function function
	// network is what the world's own network on an engine is called. Empty: any name.
	network string
	// contained runs the Manager as a container on the workers' network, with the engine's socket, instead of as a process on the host.
	contained bool
}

// world is a simulator and a Manager as they run at a user's, and a client that outlives the Manager's deaths.
type world struct {
	t       *testing.T
	bin     string
	dir     string
	maps    string // URL of the simulator, as workers and tests reach it
	addr    string // of the Manager as the tests reach it, the same over restarts
	setup   setup
	ground  ground
	servers servers // as the Manager reaches them
	manager machine
	key     string
	client  *api.Client
}

// newWorld starts both, and holds the Manager at the end of the test to leaving nothing behind.
func newWorld(t *testing.T, s setup) *world {
	t.Helper()
	w := &world{t: t, bin: cmp.Or(s.bin, binary(t)), dir: t.TempDir(), addr: freeAddr(t), setup: s, servers: s.servers}
	w.ground = newGround(w, s.ground)
	t.Cleanup(w.ground.raze)
	w.servers = w.ground.reach(s.servers)

	_, port, _ := net.SplitHostPort(freeAddr(t))
	simulator := net.JoinHostPort(w.ground.host(), port)
	w.maps = "http://" + simulator
	sim := w.start("simulator", nil, "-simulator", "-addr", simulator, "-synthetic", strconv.Itoa(s.size), "-latency", s.latency.String())
	t.Cleanup(sim.kill)
	waitFor(t, "simulator", func() bool { return answers(w.maps + "/healthz") })

	w.key = rand.Text()
	var err error
	if w.client, err = api.NewClient("http://"+w.addr, api.Secret(w.key), nil); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.close)
	w.startManager()
	return w
}

// binary is the program under test.
func binary(t *testing.T) string {
	t.Helper()
	bin := os.Getenv("GMAPS_BIN")
	if bin == "" {
		t.Skip("needs the built program in GMAPS_BIN: make test-e2e runs this")
	}
	return bin
}

func (w *world) startManager() {
	w.t.Helper()
	if w.setup.contained {
		w.manager = w.startContained()
	} else {
		w.manager = w.start("manager", w.managerEnv(), w.managerFlags("-addr", w.addr, "-data-dir", filepath.Join(w.dir, "data"))...)
	}
	w.waitReady()
}

// managerEnv is what the Manager has in its environment beyond that of the tests.
func (w *world) managerEnv() []string {
	return append(append([]string{"GMAPS_API_KEY=" + w.key}, w.ground.env()...), w.setup.env...)
}

// managerFlags is the Manager's command line after the flags given.
func (w *world) managerFlags(first ...string) []string {
	flags := append([]string{"-manager", "-lease-ttl", leaseTTL.String()}, first...)
	flags = append(flags, w.servers.flags()...)
	flags = append(flags, w.ground.flags(w.maps)...)
	return append(flags, w.setup.flags...)
}

func (w *world) waitReady() {
	w.t.Helper()
	waitFor(w.t, "manager ready", func() bool { return answers("http://" + w.addr + "/readyz") })
}

// goneWithin is how long anything of the workers may be seen after the last job has ended: a heartbeat, a look of the Manager's, and the
// engine's own time. A swarm's secret whose service was removed from outside goes last: it must be a minute old, and is looked for each minute.
const goneWithin = 3 * time.Minute

// close holds the Manager to leaving nothing behind, and then stops it as an operator does. Jobs must have ended by now.
func (w *world) close() {
	defer func() {
		if w.t.Failed() {
			b, _ := os.ReadFile(filepath.Join(w.dir, "manager.log"))
			w.t.Logf("manager's log ends:\n%s", b[max(0, len(b)-6000):])
		}
	}()
	if w.manager == nil {
		return
	}
	if w.t.Failed() {
		w.explain()
	}
	w.wantGone(goneWithin)
	w.manager.terminate(w.t)
	w.wantGone(0)
}

// wantGone fails the test, unless it has failed already, if something is left of the workers.
func (w *world) wantGone(d time.Duration) {
	w.t.Helper()
	left := w.ground.left()
	for deadline := time.Now().Add(d); len(left) > 0 && !w.t.Failed() && time.Now().Before(deadline); left = w.ground.left() {
		pause(context.Background(), 200*time.Millisecond)
	}
	if len(left) > 0 && !w.t.Failed() {
		w.t.Errorf("left after %s: %s", d, strings.Join(left, ", "))
	}
}

// machine is a running Manager, wherever it runs.
type machine interface {
	kill() // kill -9, and gone
	signal(syscall.Signal)
	terminate(*testing.T) // SIGTERM, with a bound on how long it may take
}

// process is a program under test. Its output is appended to a file named after it.
type process struct {
	cmd  *exec.Cmd
	done chan struct{}
}

func (w *world) start(name string, env []string, args ...string) *process {
	w.t.Helper()
	log, err := os.OpenFile(filepath.Join(w.dir, name+".log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		w.t.Fatal(err)
	}
	defer log.Close()
	cmd := exec.Command(w.bin, args...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.Env = append(os.Environ(), env...)
	if err := cmd.Start(); err != nil {
		w.t.Fatal(err)
	}
	p := &process{cmd: cmd, done: make(chan struct{})}
	go func() {
		_ = cmd.Wait()
		close(p.done)
	}()
	return p
}

func (p *process) kill() {
	_ = p.cmd.Process.Kill()
	<-p.done
}

func (p *process) signal(s syscall.Signal) { _ = p.cmd.Process.Signal(s) }

func (p *process) terminate(t *testing.T) {
	t.Helper()
	p.signal(syscall.SIGCONT)
	p.signal(syscall.SIGTERM)
	select {
	case <-p.done:
	case <-time.After(patience):
		p.kill()
		t.Errorf("%v did not stop within %s of SIGTERM", p.cmd.Args[1], patience)
	}
}

// freeAddr is an address below the ports that the system gives to outgoing connections: while a Manager is dead, a worker that tries to
// reach it would else sooner or later be given the Manager's own port to call from, and keep it.
func freeAddr(t *testing.T) string {
	t.Helper()
	for range 100 {
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", 20_000+mathrand.IntN(12_000)))
		if err != nil {
			continue
		}
		defer l.Close()
		return l.Addr().String()
	}
	t.Fatal("no free port")
	return ""
}

func answers(url string) bool {
	res, err := http.Get(url)
	if err != nil {
		return false
	}
	res.Body.Close()
	return res.StatusCode == http.StatusOK
}

// waitFor polls until cond holds.
func waitFor(t *testing.T, what string, cond func() bool) {
	t.Helper()
	within(t, patience, what, cond)
}

// within is waitFor with a bound that is part of a promise. It looks the more seldom the longer it takes, since each look takes time from
// what is awaited.
func within(t *testing.T, d time.Duration, what string, cond func() bool) {
	t.Helper()
	for began := time.Now(); !cond(); {
		waited := time.Since(began)
		if waited > d {
			t.Fatalf("waited %s in vain: %s", d, what)
		}
		time.Sleep(min(max(waited/20, 20*time.Millisecond), 200*time.Millisecond))
	}
}

// pause waits as a nemesis does between its deeds: at random, not for a condition.
func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// runs is how often a fault is done: short in CI, GMAPS_TORTURE under make torture.
func runs(short int) int {
	if n, err := strconv.Atoi(os.Getenv("GMAPS_TORTURE")); err == nil && n > 0 {
		return n
	}
	return short
}

// seeded is a random source whose seed is logged, so that a failure can be run again with GMAPS_SEED.
func seeded(t *testing.T) *mathrand.Rand {
	t.Helper()
	seed := uint64(time.Now().UnixNano())
	if s, err := strconv.ParseUint(os.Getenv("GMAPS_SEED"), 10, 64); err == nil {
		seed = s
	}
	t.Logf("GMAPS_SEED=%d", seed)
	return mathrand.New(mathrand.NewPCG(seed, 0))
}
