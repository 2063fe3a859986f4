//go:build linux || darwin

package spawner_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"gmaps-scraper/spawner"
	"gmaps-scraper/spawner/spawnertest"
)

// envManager makes the test binary a Manager that starts one worker in the folder named and waits to be killed.
const envManager = "GMAPS_TEST_MANAGER"

func TestMain(m *testing.M) {
	spawnertest.Main()
	if dir, ok := os.LookupEnv(envManager); ok {
		manager(dir)
	}
	if err := os.Setenv(spawnertest.ManagerOnly, "secret"); err != nil {
		panic(err)
	}
	goleak.VerifyTestMain(m)
}

func manager(dir string) {
	p, err := spawner.NewProcess(spawner.ProcessConfig{Dir: dir})
	if err == nil {
		_, err = p.Create(context.Background(), waiting("a"))
	}
	fmt.Println("created", err)
	_, _ = io.Copy(io.Discard, os.Stdin) // until killed
	os.Exit(1)
}

func TestProcess(t *testing.T) {
	t.Parallel()
	spawnertest.Run(t, func(t *testing.T) spawnertest.Backend {
		dir := t.TempDir()
		return spawnertest.Backend{
			Open:  func(t *testing.T) spawner.Spawner { return open(t, spawner.ProcessConfig{Dir: dir}) },
			Other: func(t *testing.T) spawner.Spawner { return open(t, spawner.ProcessConfig{Dir: dir, Instance: "other"}) },
			Broken: func(t *testing.T) spawner.Spawner {
				return open(t, spawner.ProcessConfig{Dir: dir, Binary: dir + "/none"})
			},
			Kill: func(t *testing.T, w spawner.Worker) {
				if err := syscall.Kill(workerPID(t, filepath.Join(dir, "default", w.Name)), syscall.SIGKILL); err != nil {
					t.Fatal(err)
				}
			},
			Log: func(w spawner.Worker) (string, error) {
				b, err := os.ReadFile(filepath.Join(dir, "default", w.Name, "log"))
				return string(b), err
			},
		}
	})
}

// The whole group dies: nobody is left to write the exit code, except who knows it.
func TestProcessGroupKilledWhileManagerLives(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	p := open(t, spawner.ProcessConfig{Dir: dir})
	w := create(t, p, waiting("a"))
	killGroup(t, dir, w)
	waitFor(t, "worker ended", func() bool { return !list(t, p)[0].Running })
	if exit := collect(t, p, w); exit.Code != 137 {
		t.Errorf("exit code: got %d (%s), want 137", exit.Code, exit.Detail)
	}
	next := open(t, spawner.ProcessConfig{Dir: dir})
	if exit := collect(t, next, w); exit.Code != 137 {
		t.Errorf("exit code by the next manager: got %d (%s), want 137", exit.Code, exit.Detail)
	}
}

func TestProcessGroupKilledWhileNoManagerLives(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	killManager(t, dir)
	p := open(t, spawner.ProcessConfig{Dir: dir})
	w := list(t, p)[0]
	killGroup(t, dir, w)
	waitFor(t, "worker ended", func() bool { return !list(t, p)[0].Running })
	if exit := collect(t, p, w); exit.Code != -1 || exit.Detail == "" {
		t.Errorf("got code %d, detail %q; want -1 and words", exit.Code, exit.Detail)
	}
}

func TestProcessSurvivesTheKillOfItsManager(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	killManager(t, dir)
	p := open(t, spawner.ProcessConfig{Dir: dir})
	workers := list(t, p)
	if len(workers) != 1 || !workers[0].Running || workers[0].SpawnID != "a" {
		t.Fatalf("after the manager's death: %+v, want worker a running", workers)
	}
	again := create(t, p, waiting("a"))
	if again != workers[0] {
		t.Errorf("create: got %+v, want the adopted %+v", again, workers[0])
	}
	waitForLog(t, dir, again)
	if err := p.Stop(t.Context(), again.ID, 10*time.Second); err != nil {
		t.Fatal(err)
	}
	exit := collect(t, p, again)
	if exit.Code != 0 || strings.Count(exit.LogTail, "worker started") != 1 {
		t.Errorf("got code %d, log %q; want 0, started once", exit.Code, exit.LogTail)
	}
}

// A Manager that died between the folder and the start leaves a folder that holds nobody off.
func TestProcessFolderWithoutStartIsStarted(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, "default", "gmaps-worker-a"), 0o700); err != nil {
		t.Fatal(err)
	}
	p := open(t, spawner.ProcessConfig{Dir: dir})
	if got := list(t, p); len(got) != 0 {
		t.Errorf("list: %+v, want nothing: it was never started", got)
	}
	if w := create(t, p, waiting("a")); !w.Running {
		t.Errorf("create: %+v, want it running", w)
	}
}

// The supervisor dies alone: the worker lives on, so its name stays taken.
func TestProcessWithoutSupervisorStillRuns(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	p := open(t, spawner.ProcessConfig{Dir: dir})
	w := create(t, p, waiting("a"))
	waitForLog(t, dir, w)
	leader := readPID(t, filepath.Join(dir, "default", w.Name))
	if err := syscall.Kill(leader, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "supervisor reaped", func() bool {
		list(t, p)
		return errors.Is(syscall.Kill(leader, 0), syscall.ESRCH)
	})
	if got := create(t, p, waiting("a")); !got.Running {
		t.Errorf("create: %+v, want the running one", got)
	}
	if err := p.Stop(t.Context(), w.ID, 10*time.Second); err != nil {
		t.Fatal(err)
	}
	if got := collect(t, p, w).LogTail; strings.Count(got, "worker started") != 1 || !strings.Contains(got, "asked to stop") {
		t.Errorf("log %q: want one worker that was asked to stop", got)
	}
}

func TestProcessCutsTheLogOfARunningWorker(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	p := open(t, spawner.ProcessConfig{Dir: dir})
	w := create(t, p, waiting("a"))
	waitForLog(t, dir, w)
	log := filepath.Join(dir, "default", w.Name, "log")
	f, err := os.OpenFile(log, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.Write(bytes.Repeat([]byte("0123456789abcde\n"), 6<<20/16)); err != nil {
		t.Fatal(err)
	}
	list(t, p)
	info, err := os.Stat(log)
	if err != nil || info.Size() > 2<<20 {
		t.Errorf("log after list: %d bytes, %v; want at most 2 MiB", info.Size(), err)
	}
	if err := p.Stop(t.Context(), w.ID, 10*time.Second); err != nil {
		t.Fatal(err)
	}
	if got := collect(t, p, w).LogTail; !strings.HasSuffix(got, "abcde\nasked to stop\n") {
		t.Errorf("log ends %q, want what was written last", got[max(0, len(got)-40):])
	}
}

// A browser that outlives its worker holds the lock still; the worker has ended all the same.
func TestProcessRemovesWhatAWorkerLeftRunning(t *testing.T) {
	t.Parallel()
	p := open(t, spawner.ProcessConfig{Dir: t.TempDir()})
	s := waiting("a")
	s.Env[spawnertest.EnvDo] = "litter"
	w := create(t, p, s)
	waitFor(t, "worker ended", func() bool { return !list(t, p)[0].Running })
	exit := collect(t, p, w)
	_, said, _ := strings.Cut(exit.LogTail, "left ")
	pid, err := strconv.Atoi(strings.Fields(said + " ?")[0])
	if err != nil || exit.Code != 0 || syscall.Kill(pid, 0) != nil {
		t.Fatalf("got code %d, log %q: want 0 and a process left", exit.Code, exit.LogTail)
	}
	if err := p.Remove(t.Context(), w.ID); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "leftover ended", func() bool {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid)) // an orphan may stay a zombie where nobody reaps
		return err != nil && syscall.Kill(pid, 0) != nil || strings.Contains(string(b), ") Z ")
	})
}

func TestProcessLeavesNoZombies(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	p := open(t, spawner.ProcessConfig{Dir: dir})
	s := waiting("a")
	s.Env[spawnertest.EnvDo] = "exit 0"
	w := create(t, p, s)
	waitFor(t, "worker ended", func() bool { return !list(t, p)[0].Running })
	leader := readPID(t, filepath.Join(dir, "default", w.Name))
	waitFor(t, "supervisor reaped", func() bool {
		list(t, p)
		return errors.Is(syscall.Kill(leader, 0), syscall.ESRCH)
	})
}

func TestProcessRefusesNamesThatAreNoFolders(t *testing.T) {
	t.Parallel()
	p := open(t, spawner.ProcessConfig{Dir: t.TempDir()})
	for _, name := range []string{"", "..", "../a", "a/b", ".hidden", "a\x00b", strings.Repeat("a", 200)} {
		_, err := p.Create(t.Context(), spawner.Spec{Name: name})
		var refused *spawner.Error
		if !errors.As(err, &refused) || refused.Cause != "name" {
			t.Errorf("create %q: got %v, want a refusal for its name", name, err)
		}
		if err := p.Remove(t.Context(), spawner.ID(name)); err == nil {
			t.Errorf("remove %q: no error", name)
		}
	}
}

// killManager starts a Manager, lets it create worker a, and kills it.
func killManager(t *testing.T, dir string) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), envManager+"="+dir)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	said := make([]byte, len("created <nil>\n"))
	_, err = io.ReadFull(out, said)
	if err := errors.Join(err, cmd.Process.Kill()); err != nil || string(said) != "created <nil>\n" {
		t.Fatalf("manager says %q, %v", said, err)
	}
	if err := cmd.Wait(); err == nil {
		t.Fatal("manager was not killed")
	}
}

func open(t *testing.T, cfg spawner.ProcessConfig) *spawner.Process {
	t.Helper()
	cfg.Logger = nil
	p, err := spawner.NewProcess(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		workers, err := p.List(ctx)
		for _, w := range workers {
			err = errors.Join(err, p.Stop(ctx, w.ID, 0))
		}
		if err != nil {
			t.Errorf("clean up: %v", err)
		}
	})
	return p
}

func waiting(id string) spawner.Spec {
	return spawner.Spec{Name: "gmaps-worker-" + id, SpawnID: id, JobID: "job", Env: map[string]string{spawnertest.EnvDo: "wait"}}
}

func create(t *testing.T, p *spawner.Process, s spawner.Spec) spawner.Worker {
	t.Helper()
	w, err := p.Create(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func list(t *testing.T, p *spawner.Process) []spawner.Worker {
	t.Helper()
	workers, err := p.List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return workers
}

func collect(t *testing.T, p *spawner.Process, w spawner.Worker) spawner.Exit {
	t.Helper()
	exit, err := p.Collect(t.Context(), w.ID)
	if err != nil {
		t.Fatal(err)
	}
	return exit
}

func killGroup(t *testing.T, dir string, w spawner.Worker) {
	t.Helper()
	waitForLog(t, dir, w)
	if err := syscall.Kill(-readPID(t, filepath.Join(dir, "default", w.Name)), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
}

func waitForLog(t *testing.T, dir string, w spawner.Worker) {
	t.Helper()
	waitFor(t, w.Name+" started", func() bool {
		b, err := os.ReadFile(filepath.Join(dir, "default", w.Name, "log"))
		return err == nil && strings.Contains(string(b), "worker started")
	})
}

// readPID returns the pid of the session leader, once it has written it.
func readPID(t *testing.T, dir string) (pid int) {
	t.Helper()
	waitFor(t, "pid written", func() bool {
		b, err := os.ReadFile(filepath.Join(dir, "pid"))
		if err != nil {
			return false
		}
		pid, err = strconv.Atoi(strings.TrimSpace(string(b)))
		return err == nil
	})
	return pid
}

// workerPID returns the pid of the worker itself, once it is there: the leader's only child.
func workerPID(t *testing.T, dir string) (pid int) {
	t.Helper()
	leader := strconv.Itoa(readPID(t, dir))
	waitFor(t, "leader "+leader+" has a child", func() bool {
		out, err := exec.Command("ps", "-A", "-o", "pid=,ppid=").Output()
		if err != nil {
			t.Fatalf("ps: %v", err)
		}
		for line := range strings.Lines(string(out)) {
			if f := strings.Fields(line); len(f) == 2 && f[1] == leader {
				pid, err = strconv.Atoi(f[0])
				return err == nil
			}
		}
		return false
	})
	return pid
}

func waitFor(t *testing.T, what string, done func() bool) {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	timeout := time.After(20 * time.Second)
	for !done() {
		select {
		case <-timeout:
			t.Fatalf("waited in vain: %s", what)
		case <-tick.C:
		}
	}
}

// A system that lacks file descriptors must not make a worker that runs look like one that is gone: another would be started beside it.
func TestWorkerThatCannotBeLookedAtIsNotGone(t *testing.T) {
	t.Parallel()
	for _, file := range []string{"lock", "pid", "exit"} {
		t.Run(file, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			p := open(t, spawner.ProcessConfig{Dir: dir})
			w := create(t, p, waiting("a"))
			folder := filepath.Join(dir, "default", w.Name)
			workerPID(t, folder)
			path, aside := filepath.Join(folder, file), filepath.Join(folder, "aside")
			there := os.Rename(path, aside) == nil
			if err := os.Symlink(path, path); err != nil { // opening it fails, although it is there
				t.Fatal(err)
			}
			if workers, err := p.List(t.Context()); err == nil {
				t.Errorf("list: got %+v, want an error", workers)
			}
			if err := p.Stop(t.Context(), w.ID, 10*time.Second); err == nil {
				t.Error("stop: says that the worker has ended")
			}
			if err := p.Remove(t.Context(), w.ID); err == nil {
				t.Error("remove: removes a worker that may run")
			}
			if exit, err := p.Collect(t.Context(), w.ID); err == nil {
				t.Errorf("collect: got %+v, want an error", exit)
			}
			if err := os.Remove(path); err != nil {
				t.Fatal(err)
			}
			if there {
				if err := os.Rename(aside, path); err != nil {
					t.Fatal(err)
				}
			}
			if workers := list(t, p); len(workers) != 1 || !workers[0].Running {
				t.Errorf("afterwards: got %+v, want the worker running", workers)
			}
		})
	}
}
