package test

import (
	"bufio"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	mathrand "math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"gmaps-scraper/api"
	"gmaps-scraper/job"
)

// patience is how long a test waits for what must come. It is no measurement: only a bound on a hang.
const patience = 3 * time.Minute

// leaseTTL is short here, so that a death is noticed soon.
const leaseTTL = 2 * time.Second

// world is a simulator and a Manager as real processes, and a client that outlives the Manager's deaths.
type world struct {
	t       *testing.T
	bin     string
	dir     string
	maps    string // URL of the simulator
	addr    string // of the Manager, the same over restarts
	flags   []string
	manager *process
	key     string
	client  *api.Client
}

// newWorld starts both. The simulator's named sets hold size places each.
func newWorld(t *testing.T, size int, latency time.Duration, managerFlags ...string) *world {
	t.Helper()
	bin := os.Getenv("GMAPS_BIN")
	if bin == "" {
		t.Skip("needs the built program in GMAPS_BIN: make test-e2e runs this")
	}
	w := &world{t: t, bin: bin, dir: t.TempDir(), addr: freeAddr(t), flags: managerFlags}
	simulator := freeAddr(t)
	w.maps = "http://" + simulator
	sim := w.start("simulator", nil, "-simulator", "-addr", simulator, "-synthetic", strconv.Itoa(size), "-latency", latency.String())
	t.Cleanup(sim.kill)
	waitFor(t, "simulator", func() bool { return answers(w.maps + "/healthz") })

	w.key = rand.Text()
	var err error
	if w.client, err = api.NewClient("http://"+w.addr, api.Secret(w.key), nil); err != nil {
		t.Fatal(err)
	}
	w.startManager()
	t.Cleanup(w.close)
	return w
}

func (w *world) startManager() {
	w.t.Helper()
	flags := append([]string{"-manager", "-addr", w.addr, "-data-dir", filepath.Join(w.dir, "data"), "-maps-url", w.maps, "-lease-ttl", leaseTTL.String()}, w.flags...)
	w.manager = w.start("manager", []string{"GMAPS_API_KEY=" + w.key}, flags...)
	w.waitReady()
}

func (w *world) waitReady() {
	w.t.Helper()
	waitFor(w.t, "manager ready", func() bool { return answers("http://" + w.addr + "/readyz") })
}

// close stops the Manager as an operator does, and holds it to leaving nothing behind.
func (w *world) close() {
	w.manager.terminate(w.t)
	if w.t.Failed() {
		b, _ := os.ReadFile(filepath.Join(w.dir, "manager.log"))
		w.t.Logf("manager's log ends:\n%s", b[max(0, len(b)-6000):])
		for _, pid := range w.family() {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
		return
	}
	waitFor(w.t, "no process left", func() bool { return len(w.family()) == 0 })
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

// kill is kill -9.
func (p *process) kill() {
	_ = p.cmd.Process.Kill()
	<-p.done
}

func (p *process) signal(s syscall.Signal) { _ = p.cmd.Process.Signal(s) }

// terminate is SIGTERM, with a bound on how long the process may take.
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

// workers are the process ids of this Manager's live workers, as the system lists them.
func (w *world) workers() []int {
	return slices.DeleteFunc(w.family(), func(pid int) bool {
		exe, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", pid))
		return err != nil || filepath.Base(exe) != filepath.Base(w.bin)
	})
}

// family are the workers and whatever else was started for them.
func (w *world) family() []int {
	var pids []int
	names, _ := filepath.Glob("/proc/[0-9]*/environ")
	for _, name := range names {
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(name)))
		if err == nil && strings.Contains(environ(pid), "GMAPS_MANAGER_URL=http://"+w.addr) && !isZombie(pid) {
			pids = append(pids, pid)
		}
	}
	return pids
}

func environ(pid int) string {
	b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/environ", pid))
	return string(b)
}

func isZombie(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return true
	}
	_, rest, _ := strings.Cut(string(stat), ") ")
	return strings.HasPrefix(rest, "Z") || strings.HasPrefix(rest, "X")
}

// killWorker kills one worker that has joined, some time within delay after it was chosen, and reports whether it lived until then.
// Workers that have not spoken yet are spared: to lose those again and again is a broken image, which opens the breaker.
func (w *world) killWorker(r *mathrand.Rand, delay time.Duration) bool {
	page, err := w.client.Spawns(w.t.Context(), api.SpawnQuery{Live: true})
	if err != nil {
		return false
	}
	page.Spawns = slices.DeleteFunc(page.Spawns, func(s job.Spawn) bool { return s.State != job.SpawnRunning })
	if len(page.Spawns) == 0 {
		return false
	}
	chosen := page.Spawns[r.IntN(len(page.Spawns))]
	pause(w.t.Context(), time.Duration(r.Int64N(int64(delay))))
	for _, pid := range w.workers() {
		if strings.Contains(environ(pid), "GMAPS_SPAWN_ID="+string(chosen.ID)) {
			return syscall.Kill(pid, syscall.SIGKILL) == nil
		}
	}
	return false
}

// ledger is the submitter's own record: what the Manager acknowledged, and what must come of it.
type ledger struct {
	w  *world
	mu sync.Mutex
	// expected maps each acknowledged job to the made-up set that it covers.
	expected map[job.ID]string
}

func newLedger(w *world) *ledger { return &ledger{w: w, expected: map[job.ID]string{}} }

// submit creates a job that covers a whole set with shards tasks, and repeats until the Manager acknowledges it, as a careful client does.
func (l *ledger) submit(ctx context.Context, set string, shards int, change func(*api.NewJob)) (job.ID, error) {
	var lines []string
	for i := range shards {
		lines = append(lines, fmt.Sprintf("synthetic:%s %d/%d", set, i+1, shards))
	}
	n := api.NewJob{Name: set, Lines: strings.Join(lines, "\n"), MaxAttempts: 100}
	if change != nil {
		change(&n)
	}
	key := rand.Text()
	for {
		j, err := l.w.client.Create(ctx, n, key)
		if err == nil {
			l.mu.Lock()
			l.expected[j.ID] = set
			l.mu.Unlock()
			return j.ID, nil
		}
		var problem *api.Problem
		if errors.As(err, &problem) && problem.Status < 500 {
			return "", err
		}
		select {
		case <-ctx.Done():
			return "", ctx.Err()
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func (l *ledger) mustSubmit(set string, shards int, change func(*api.NewJob)) job.ID {
	l.w.t.Helper()
	ctx, cancel := context.WithTimeout(l.w.t.Context(), patience)
	defer cancel()
	id, err := l.submit(ctx, set, shards, change)
	if err != nil {
		l.w.t.Fatal(err)
	}
	return id
}

// balance waits until every acknowledged job is terminal and compares its places with those of its set.
func (l *ledger) balance() (lost, doubled int) {
	t := l.w.t
	t.Helper()
	l.mu.Lock()
	expected := maps.Clone(l.expected)
	l.mu.Unlock()
	l.w.waitDrained()
	want := map[string][]string{}
	for id, set := range expected {
		j := l.w.waitTerminal(id)
		if j.State != job.Succeeded || j.Partial {
			t.Errorf("job %s (%s) ended %s, partial %v: %s", id, set, j.State, j.Partial, j.Reason)
		}
		if want[set] == nil {
			want[set] = l.w.truth(set)
		}
		got := l.w.places(id)
		if len(got) != j.Counts.Places {
			t.Errorf("job %s has %d rows but counts %d places", id, len(got), j.Counts.Places)
		}
		distinct := slices.Compact(slices.Sorted(slices.Values(got)))
		doubled += len(got) - len(distinct)
		for _, key := range want[set] {
			if _, found := slices.BinarySearch(distinct, key); !found {
				lost++
			}
		}
		if extra := len(distinct) - len(want[set]); extra > 0 {
			t.Errorf("job %s has %d places that are not in its set", id, extra)
		}
	}
	if lost+doubled > 0 {
		t.Errorf("%d places lost, %d doubled in %d jobs", lost, doubled, len(expected))
	}
	return lost, doubled
}

// waitDrained waits until no job has work left, however many there are, as long as something moves.
func (w *world) waitDrained() {
	w.t.Helper()
	var last api.Stats
	for moved := time.Now(); ; pause(w.t.Context(), 50*time.Millisecond) {
		now, err := w.client.Stats(w.t.Context())
		switch {
		case err == nil && now.Jobs[job.Pending]+now.Jobs[job.Running] == 0:
			return
		case err == nil && (now.Results != last.Results || !maps.Equal(now.Jobs, last.Jobs)):
			last, moved = now, time.Now()
		case time.Since(moved) > patience:
			w.t.Fatalf("nothing moved for %s: jobs %v, %d results", patience, last.Jobs, last.Results)
		}
	}
}

// waitTerminal returns the job once it has ended.
func (w *world) waitTerminal(id job.ID) job.Job {
	w.t.Helper()
	var last job.Job
	waitFor(w.t, "job "+string(id)+" to end", func() bool {
		j, err := w.client.Job(w.t.Context(), id)
		if err != nil {
			return false
		}
		last = j
		return j.State.Terminal()
	})
	return last
}

// places are the keys of a job's rows, as they are paged.
func (w *world) places(id job.ID) []string {
	w.t.Helper()
	var keys []string
	after := int64(0)
	for {
		page, err := w.client.Results(w.t.Context(), id, api.ResultQuery{After: after, Limit: 500})
		if err != nil {
			w.t.Fatal(err)
		}
		for _, r := range page.Results {
			keys = append(keys, r.Place.Key())
			after = r.Seq
		}
		if len(page.Results) == 0 {
			return keys
		}
	}
}

// truth asks the simulator for the data ids of a set.
func (w *world) truth(set string) []string {
	w.t.Helper()
	res, err := http.Get(w.maps + "/simulator/places?set=synthetic:" + set)
	if err != nil {
		w.t.Fatal(err)
	}
	defer res.Body.Close()
	var keys []string
	for s := bufio.NewScanner(res.Body); s.Scan(); {
		var line struct {
			DataID string `json:"data_id"`
		}
		if err := json.Unmarshal(s.Bytes(), &line); err != nil {
			w.t.Fatalf("%s: %v", s.Text(), err)
		}
		keys = append(keys, line.DataID)
	}
	if len(keys) == 0 {
		w.t.Fatalf("the simulator has no set %q: %s", set, res.Status)
	}
	return keys
}

// spawns lists all spawns of a job.
func (w *world) spawns(id job.ID) []job.Spawn {
	w.t.Helper()
	page, err := w.client.Spawns(w.t.Context(), api.SpawnQuery{JobID: id, Limit: 500})
	if err != nil {
		w.t.Fatal(err)
	}
	return page.Spawns
}

// tasks lists the first tasks of a job; none while the Manager is away.
func (w *world) tasks(id job.ID) []job.Task {
	page, err := w.client.Tasks(w.t.Context(), id, api.TaskQuery{Limit: 500})
	if err != nil {
		return nil
	}
	return page.Tasks
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
	deadline := time.Now().Add(patience)
	for !cond() {
		if time.Now().After(deadline) {
			t.Fatalf("waited %s in vain: %s", patience, what)
		}
		time.Sleep(20 * time.Millisecond)
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
