package test

import (
	"fmt"
	mathrand "math/rand/v2"
	"os"
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

// The grounds.
const (
	onProcess = "process"
	onDocker  = "docker"
	onSwarm   = "swarm"
	onLambda  = "lambda"
)

// ground is where a world's workers run, seen from outside the product: by the system's or the engine's own lists, never by our API.
type ground interface {
	// host is this machine's address as workers reach it.
	host() string
	// reach returns servers under addresses that do for Manager and workers alike.
	reach(servers) servers
	// flags and env are those of a Manager whose workers run here and scrape at maps.
	flags(maps string) []string
	env() []string
	// workers are those that run or are paused.
	workers() []worker
	// left lists whatever there is of workers, in words: ended ones, and what else was made for them.
	left() []string
	// raze removes all that is left after a test that failed, and what the ground itself is made of.
	raze()
}

// worker is one that lives.
type worker struct {
	id    string // of the process or container
	spawn job.SpawnID
	job   job.ID
	act   func(deed) error
}

// deed is what can be done to a worker from outside.
type deed string

// The deeds.
const (
	killed  deed = "kill" // SIGKILL
	frozen  deed = "pause"
	thawed  deed = "unpause"
	stopped deed = "stop" // as docker stop: SIGTERM, and after 10 s SIGKILL
)

// each does a deed to workers. One that is gone by then is no failure: it ended first.
func each(workers []worker, d deed) (done int) {
	for _, x := range workers {
		if x.act(d) == nil {
			done++
		}
	}
	return done
}

// eachGround tells a story on each of the grounds, as a parallel test of its own. It skips loudly where there is none.
func eachGround(t *testing.T, story func(t *testing.T, s setup), grounds ...string) {
	t.Helper()
	for _, g := range grounds {
		t.Run(g, func(t *testing.T) {
			t.Parallel()
			s := setup{ground: g}
			if g != onProcess { // the real servers where the real engine is: each story is told twice, and not four times
				s.servers = realServers(t)
			}
			story(t, s)
		})
	}
}

func newGround(w *world, name string) ground {
	w.t.Helper()
	switch name {
	case "", onProcess:
		return &processes{w: w, spawner: name}
	case onLambda:
		return newFunctions(w)
	default:
		return newEngine(w, name)
	}
}

// processes is the ground of -spawner process.
type processes struct {
	w         *world
	spawner   string
	mu        sync.Mutex // guards what follows
	looked    time.Time
	strangers map[int]stranger
}

// stranger is a process that is none of this ground's, and when it was found to be so.
type stranger struct{ first, last time.Time }

func (*processes) host() string            { return "127.0.0.1" }
func (*processes) reach(s servers) servers { return s }

func (p *processes) flags(maps string) []string {
	if p.spawner == "" {
		return []string{"-maps-url", maps}
	}
	return []string{"-maps-url", maps, "-spawner", p.spawner}
}

func (*processes) env() []string { return nil }

func (p *processes) workers() []worker {
	var list []worker
	for _, pid := range p.family() {
		exe, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", pid))
		if err != nil || filepath.Base(exe) != filepath.Base(p.w.bin) {
			continue
		}
		env := environ(pid)
		list = append(list, worker{
			id: strconv.Itoa(pid), spawn: job.SpawnID(env["GMAPS_SPAWN_ID"]), job: job.ID(env["JOB_ID"]),
			act: func(d deed) error { return syscall.Kill(pid, signals[d]) },
		})
	}
	return list
}

var signals = map[deed]syscall.Signal{killed: syscall.SIGKILL, frozen: syscall.SIGSTOP, thawed: syscall.SIGCONT, stopped: syscall.SIGTERM}

func (p *processes) left() []string {
	var left []string
	for _, pid := range p.family() {
		left = append(left, fmt.Sprintf("process %d", pid))
	}
	return left
}

func (p *processes) raze() {
	for _, pid := range p.family() {
		_ = syscall.Kill(pid, syscall.SIGKILL)
	}
}

// youth is how long a process may still be what it was forked from: until it executes a program, it shows its parent's environment.
const youth = 5 * time.Second

// family are the workers and whatever else was started for them. Whoever was a stranger throughout its youth is not looked at again, as long
// as looks follow each other so fast that its number cannot have become another's.
func (p *processes) family() []int {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	if now.Sub(p.looked) > youth {
		p.strangers = nil
	}
	var pids []int
	strangers := map[int]stranger{}
	entries, _ := os.ReadDir("/proc")
	for _, entry := range entries {
		pid, err := strconv.Atoi(entry.Name())
		if err != nil {
			continue
		}
		s, known := p.strangers[pid]
		if s.last.Sub(s.first) <= youth {
			if environ(pid)["GMAPS_MANAGER_URL"] == "http://"+p.w.addr {
				if !isZombie(pid) {
					pids = append(pids, pid)
				}
				continue
			}
			s.last = now
			if !known {
				s.first = now
			}
		}
		strangers[pid] = s
	}
	p.looked, p.strangers = now, strangers
	return pids
}

// environ is the environment that a process was started with.
func environ(pid int) map[string]string {
	b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/environ", pid))
	env := map[string]string{}
	for pair := range strings.SplitSeq(string(b), "\x00") {
		name, value, _ := strings.Cut(pair, "=")
		env[name] = value
	}
	return env
}

func isZombie(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return true
	}
	_, rest, _ := strings.Cut(string(stat), ") ")
	return strings.HasPrefix(rest, "Z") || strings.HasPrefix(rest, "X")
}

// workers are all live workers of this world.
func (w *world) workers() []worker { return w.ground.workers() }

// workersOf are the live workers of one job.
func (w *world) workersOf(id job.ID) []worker {
	return slices.DeleteFunc(w.workers(), func(x worker) bool { return x.job != id })
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
	others := func(x worker) bool { return x.spawn != chosen.ID }
	return each(slices.DeleteFunc(w.workers(), others), killed) > 0
}
