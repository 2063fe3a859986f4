//go:build unix

package lambda

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"
)

// AWS runs functions as sbx_user1051, 993:990. Any user without rights will do.
const (
	sandboxUID = 993
	sandboxGID = 990
)

// outputGrace bounds the wait for the end of the output of a group that has ended.
const outputGrace = time.Second

// processes starts bootstraps as child processes, each the leader of a process group.
//
// Two things end a group whose emulator was killed. The kernel ends the leader when the thread that forked it ends, which is why one
// locked thread forks them all: Go ends threads as it likes. And a shell, one a group, waits for the end of a pipe that the emulator
// holds open, and then kills the whole group, frozen or not.
type processes struct {
	dir   string
	asked chan func() // what the locked thread is to do
	done  chan struct{}
}

func newProcesses(dir string) (*processes, error) {
	if _, err := exec.LookPath("/bin/sh"); err != nil {
		return nil, fmt.Errorf("lambda: process sandboxes need /bin/sh to end with the emulator: %w", err)
	}
	if os.Geteuid() == 0 {
		for at := dir; at != filepath.Dir(at); at = filepath.Dir(at) {
			info, err := os.Stat(at)
			if err != nil {
				return nil, fmt.Errorf("lambda: folder of functions: %w", err)
			}
			if info.Mode().Perm()&0o001 == 0 {
				return nil, fmt.Errorf("lambda: functions run as user %d, which cannot enter %s; set StateDir to a folder whose parents all can, as below /tmp", sandboxUID, at)
			}
		}
	}
	p := &processes{dir: dir, asked: make(chan func()), done: make(chan struct{})}
	go func() {
		defer close(p.done)
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		for f := range p.asked {
			f()
		}
	}()
	return p, nil
}

func (p *processes) kind() SandboxKind { return SandboxProcess }

func (p *processes) runtimeHost() (listen, guest string) { return "127.0.0.1", "" }

func (p *processes) close() error {
	close(p.asked)
	<-p.done
	return nil
}

// process is a bootstrap and its group.
type process struct {
	leader *os.Process
	out    *output
	tmp    string
	guard  *watchdog
	ended  chan struct{}
	how    string

	mu     sync.Mutex
	reaped bool // the group's number may be somebody else's
	still  bool
	peak   int
}

func (p *processes) start(spec sandboxSpec) (_ sandbox, err error) {
	tmp := filepath.Join(p.dir, "tmp-"+spec.id)
	if err := os.Mkdir(tmp, 0o700); err != nil {
		return nil, fmt.Errorf("make /tmp of an environment: %w", err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.RemoveAll(tmp))
		}
	}()
	attr := &os.ProcAttr{Dir: spec.codeDir, Sys: &syscall.SysProcAttr{Setpgid: true}}
	dieWithThread(attr.Sys)
	if os.Geteuid() == 0 {
		attr.Sys.Credential = &syscall.Credential{Uid: sandboxUID, Gid: sandboxGID, NoSetGroups: false}
		if err := os.Chown(tmp, sandboxUID, sandboxGID); err != nil {
			return nil, fmt.Errorf("hand /tmp to the function's user: %w", err)
		}
	}
	for k, v := range spec.env {
		attr.Env = append(attr.Env, k+"="+v)
	}
	attr.Env = append(attr.Env, "TMPDIR="+tmp, "LAMBDA_TASK_ROOT="+spec.codeDir, "PATH="+os.Getenv("PATH"))

	null, err := os.Open(os.DevNull)
	if err != nil {
		return nil, err
	}
	defer null.Close()
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer w.Close()
	attr.Files = []*os.File{null, w, w}

	var leader *os.Process
	started := make(chan error, 1)
	p.asked <- func() {
		var err error
		leader, err = os.StartProcess(filepath.Join(spec.codeDir, bootstrap), []string{bootstrap}, attr)
		started <- err
	}
	if err := <-started; err != nil {
		r.Close()
		if refused := (*fs.PathError)(nil); errors.As(err, &refused) {
			return nil, &entrypointError{refused.Err}
		}
		return nil, err
	}
	s := &process{leader: leader, tmp: tmp, ended: make(chan struct{}), out: &output{r: r, line: spec.line}}
	if s.guard, err = watch(leader.Pid); err != nil {
		err = fmt.Errorf("start the watchdog of an environment: %w", err)
		s.kill()
		_, waitErr := leader.Wait()
		return nil, errors.Join(err, waitErr, r.Close())
	}
	go s.wait()
	return s, nil
}

// wait reads the output, reaps the leader and ends what it leaves behind.
func (s *process) wait() {
	defer close(s.ended)
	read := make(chan struct{})
	go func() {
		defer close(read)
		s.out.read()
	}()
	var state *os.ProcessState
	var err error
	zombie := awaitExit(s.leader.Pid) // so that the group's number is still ours
	if !zombie {
		state, err = s.leader.Wait()
	}
	s.mu.Lock()
	_ = s.signal(syscall.SIGKILL) // as in kill
	if zombie {
		state, err = s.leader.Wait()
	}
	s.reaped = true
	s.mu.Unlock()
	if s.how = "no exit status"; err == nil {
		s.how = exitWords(state)
	}
	_ = s.out.r.SetReadDeadline(time.Now().Add(outputGrace)) // all writers are gone, but for one that left the group
	<-read
	s.out.r.Close()
	s.guard.release()
	_ = os.RemoveAll(s.tmp) // Close removes the folder around it
}

// signal reaches the whole group. mu is held.
func (s *process) signal(sig syscall.Signal) error {
	if s.reaped {
		return nil
	}
	if err := syscall.Kill(-s.leader.Pid, sig); err != nil && !errors.Is(err, syscall.ESRCH) && !errors.Is(err, syscall.EPERM) { // EPERM: nothing but zombies, on macOS
		return err
	}
	return nil
}

func (s *process) freeze() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.still = true
	return s.signal(syscall.SIGSTOP)
}

func (s *process) thaw() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.still = false
	return s.signal(syscall.SIGCONT)
}

func (s *process) kill() {
	s.mu.Lock()
	defer s.mu.Unlock()
	_ = s.signal(syscall.SIGKILL) // a group of ours cannot refuse it
}

func (s *process) exited() <-chan struct{} { return s.ended }
func (s *process) reason() string          { return s.how }
func (s *process) pid() int                { return s.leader.Pid }
func (s *process) drain()                  { s.out.drain() }

func (s *process) frozen() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.still && !s.reaped && stopped(s.leader.Pid)
}

func (s *process) memoryMiB() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.reaped {
		s.peak = max(s.peak, peakMiB(s.leader.Pid))
	}
	return s.peak
}

// watchdog is a shell that does something when this process ends without having released it.
type watchdog struct {
	shell *os.Process
	pipe  *os.File
}

// watch kills process group pgid when this process ends. Without "--" before the group: dash takes none.
func watch(pgid int) (*watchdog, error) {
	return watchThen(`kill -KILL "-$1"`, fmt.Sprint(pgid))
}

// watchThen runs a line of shell when this process ends, with arg as its $1.
func watchThen(line, arg string) (*watchdog, error) {
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer r.Close()
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return nil, errors.Join(err, w.Close())
	}
	defer null.Close()
	// A session of its own: what ends the emulator's group must not end this. read fails at the end of the pipe only.
	shell, err := os.StartProcess("/bin/sh", []string{"sh", "-c", `read -r released || ` + line, "lambda-watchdog", arg},
		&os.ProcAttr{Files: []*os.File{r, null, null}, Env: watchdogEnv(), Sys: &syscall.SysProcAttr{Setsid: true}})
	if err != nil {
		return nil, errors.Join(err, w.Close())
	}
	return &watchdog{shell: shell, pipe: w}, nil
}

func watchdogEnv() []string {
	var env []string
	for _, kv := range os.Environ() {
		if strings.HasPrefix(kv, "PATH=") || strings.HasPrefix(kv, "DOCKER_") || strings.HasPrefix(kv, "HOME=") {
			env = append(env, kv)
		}
	}
	return env
}

// release ends the watchdog without consequences.
func (w *watchdog) release() {
	_, _ = w.pipe.WriteString("released\n") // if it is gone, nothing is to be released
	w.pipe.Close()
	_, _ = w.shell.Wait()
}

func newStarter(c Config, dir string) (starter, error) {
	switch c.Sandbox {
	case SandboxContainer:
		return newContainers(c, dir)
	case SandboxAuto:
		if s, err := newContainers(c, dir); err == nil {
			return s, nil
		}
	case SandboxProcess:
	}
	return newProcesses(dir)
}

func readFD(fd uintptr, buf []byte) (int, error) {
	for {
		n, err := syscall.Read(int(fd), buf)
		if !errors.Is(err, syscall.EINTR) {
			return n, err
		}
	}
}
