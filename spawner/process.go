//go:build linux || darwin

package spawner

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Process runs workers as child processes in sessions of their own, so that they outlive a killed Manager and are found again by
// the next. All it knows of a worker is in the worker's folder, Dir/Instance/<name>:
//
//	lock   locked (flock) by every process of the worker through an inherited descriptor: locked = it runs, whoever started it
//	spec   spawn and job id, written before the start
//	pid    of the session leader, written by itself as its first act; absent: the worker was never started
//	log    its output
//	exit   its exit code
//
// The session leader is a shell that waits for the worker and writes exit: so a crash is recorded even while no Manager lives.
// As long as lock is held a member of the process group lives, hence the kernel cannot have given the pid to anybody else.
type Process struct {
	binary string
	dir    string // of this instance
	log    *slog.Logger

	// mu keeps probes of a lock, which take it for a moment, apart from Create.
	mu       sync.Mutex
	children map[string]*child // by name: only those that this process must reap
}

// child is a session leader whose parent is this process.
type child struct {
	pid   int
	ended bool
	how   syscall.WaitStatus
}

var _ Spawner = (*Process)(nil)

// supervise is the session leader. $1 is the worker's folder, the rest its command line. A trapped signal interrupts no
// foreground command and is back at its default in the worker: SIGTERM to the group ends the worker, then this records how.
const supervise = `dir=$1; shift
echo $$ >"$dir/pid" || exit 125
trap : HUP INT TERM
"$@"
echo $? >"$dir/exit"`

const (
	shell     = "/bin/sh" // POSIX; on every Linux with a shell at all, and on macOS
	lockFD    = 3
	binaryFix = "build it: make build"
	removed   = ".removed-" // prefix of a folder on its way out
)

// folderName is what a worker or an instance may be called.
var folderName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.-]{0,127}$`)

// NewProcess returns the backend "process". It creates nothing before the first worker.
func NewProcess(cfg ProcessConfig) (*Process, error) {
	if cfg.Dir == "" {
		return nil, errors.New("process spawner: Dir is empty")
	}
	if cfg.Instance == "" {
		cfg.Instance = "default"
	}
	if !folderName.MatchString(cfg.Instance) {
		return nil, fmt.Errorf("process spawner: instance %q: want letters, digits, _ . - only", cfg.Instance)
	}
	if cfg.Binary == "" {
		self, err := os.Executable()
		if err != nil {
			return nil, fmt.Errorf("process spawner: find own binary: %w", err)
		}
		cfg.Binary = self
	}
	dir, err := filepath.Abs(filepath.Join(cfg.Dir, cfg.Instance))
	if err != nil {
		return nil, fmt.Errorf("process spawner: folder of workers: %w", err)
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	return &Process{binary: cfg.Binary, dir: dir, log: cfg.Logger, children: make(map[string]*child)}, nil
}

// Backend is "process".
func (p *Process) Backend() string { return "process" }

// Limits are those of this machine: four workers a core, since they wait for the network most of their time.
func (p *Process) Limits() Limits {
	return Limits{MaxWorkers: max(4, 4*runtime.NumCPU()), Creates: 4, JoinDeadline: 30 * time.Second}
}

// Check finds out whether the binary can be run and the folder written.
func (p *Process) Check(context.Context) error {
	if err := p.checkBinary("check"); err != nil {
		return err
	}
	if _, err := exec.LookPath(shell); err != nil {
		return &Error{Op: "check", Reason: "workers need " + shell + " as their supervisor", Mend: "install a POSIX shell, or use -spawner docker", Cause: "image", Err: err}
	}
	if err := os.MkdirAll(p.dir, 0o700); err != nil {
		return p.refused("check", err)
	}
	f, err := os.CreateTemp(p.dir, ".check-")
	if err != nil {
		return p.refused("check", err)
	}
	f.Close()
	if err := os.Remove(f.Name()); err != nil {
		return p.refused("check", err)
	}
	return nil
}

// Create starts a worker unless one of that name was ever started and not removed. The lock decides, so that it holds
// against other goroutines, another Manager, and a Manager that died half-way.
func (p *Process) Create(ctx context.Context, spec Spec) (Worker, error) {
	if !folderName.MatchString(spec.Name) {
		return Worker{}, &Error{Op: "create", Reason: fmt.Sprintf("worker name %q cannot be a folder's", spec.Name), Cause: "name"}
	}
	if err := p.checkBinary("create"); err != nil {
		return Worker{}, err
	}
	// Another Manager may probe the lock or be between lock and start: ask again until the answer is certain.
	for try := time.NewTicker(20 * time.Millisecond); ; {
		w, certain, err := p.create(spec)
		if err != nil {
			try.Stop()
			return Worker{}, p.refused("create", err)
		}
		if certain {
			try.Stop()
			return w, nil
		}
		select {
		case <-ctx.Done():
			try.Stop()
			return Worker{}, fmt.Errorf("create worker %s: %w", spec.Name, context.Cause(ctx))
		case <-try.C:
		}
	}
}

func (p *Process) create(spec Spec) (_ Worker, certain bool, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	dir := filepath.Join(p.dir, spec.Name)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return Worker{}, false, err
	}
	lock, err := lockFolder(dir, syscall.LOCK_EX)
	if errors.Is(err, syscall.EWOULDBLOCK) || errors.Is(err, fs.ErrNotExist) {
		return p.existing(dir)
	}
	if err != nil {
		return Worker{}, false, err
	}
	defer lock.Close() // the worker's copies keep it locked
	switch pid, err := readNumber(dir, "pid", 0); {
	case err != nil:
		return Worker{}, false, err
	case pid != 0:
		lock.Close()
		return p.existing(dir)
	}
	if err := p.start(dir, spec, lock); err != nil {
		return Worker{}, false, errors.Join(err, os.RemoveAll(dir))
	}
	return p.worker(dir, true), true, nil
}

// existing returns the worker of dir if it is certain that there is one: running or ended, not about to be.
func (p *Process) existing(dir string) (Worker, bool, error) {
	s, err := p.look(dir)
	if err != nil || s.standing == absent {
		return Worker{}, false, err
	}
	return p.worker(dir, s.standing == runs), true, nil
}

// start forks the worker. The session leader itself writes pid, so that there is no moment between fork and record to die in.
func (p *Process) start(dir string, spec Spec, lock *os.File) error {
	b, err := json.Marshal(specFile{SpawnID: spec.SpawnID, JobID: spec.JobID, CreatedAt: time.Now().UTC()})
	if err != nil {
		return err
	}
	if err := writeFile(dir, "spec", b); err != nil {
		return err
	}
	null, err := os.Open(os.DevNull)
	if err != nil {
		return err
	}
	defer null.Close()
	out, err := os.OpenFile(filepath.Join(dir, "log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	defer out.Close()

	args := append([]string{shell, "-c", supervise, spec.Name, dir, p.binary}, spec.Args...)
	proc, err := os.StartProcess(shell, args, &os.ProcAttr{
		Env:   environ(spec.Env, spec.Secrets),
		Files: []*os.File{null, out, out, lockFD: lock},
		Sys:   &syscall.SysProcAttr{Setsid: true},
	})
	if err != nil {
		return err
	}
	p.children[spec.Name] = &child{pid: proc.Pid}
	return proc.Release() // reaped by number: a zombie's cannot be given away
}

// environ is what the worker sees: env and secrets, and of ours only what any program needs to run and to trust certificates.
func environ(env, secrets map[string]string) []string {
	var list []string
	for _, k := range []string{"PATH", "HOME", "TMPDIR", "SSL_CERT_FILE", "SSL_CERT_DIR"} {
		if v, ok := os.LookupEnv(k); ok {
			list = append(list, k+"="+v)
		}
	}
	for _, vars := range []map[string]string{env, secrets} { // the last of a name wins
		for k, v := range vars {
			list = append(list, k+"="+v)
		}
	}
	return list
}

// List returns the workers of this instance, oldest first.
func (p *Process) List(context.Context) ([]Worker, error) {
	entries, err := os.ReadDir(p.dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, p.refused("list", err)
	}
	var workers []Worker
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), removed) {
			if err := os.RemoveAll(filepath.Join(p.dir, e.Name())); err != nil {
				return nil, p.refused("list", err)
			}
			continue
		}
		if !e.IsDir() || !folderName.MatchString(e.Name()) {
			continue
		}
		dir := filepath.Join(p.dir, e.Name())
		p.mu.Lock()
		s, err := p.look(dir)
		p.mu.Unlock()
		if err != nil {
			return nil, p.refused("list", err)
		}
		switch s.standing {
		case runs:
			workers = append(workers, p.worker(dir, true))
			if err := boundLog(dir); err != nil {
				p.log.Warn("worker log not cut", "worker", e.Name(), "err", err)
			}
		case over:
			workers = append(workers, p.worker(dir, false))
		case absent:
		}
	}
	slices.SortFunc(workers, func(a, b Worker) int { return a.CreatedAt.Compare(b.CreatedAt) })
	return workers, nil
}

// Stop ends the whole process group of a worker, its browser included.
func (p *Process) Stop(ctx context.Context, id ID, grace time.Duration) error {
	dir, err := p.folder("stop", id)
	if err != nil {
		return err
	}
	for _, step := range []struct {
		signal syscall.Signal
		wait   time.Duration
	}{{syscall.SIGTERM, grace}, {syscall.SIGKILL, 5 * time.Second}} {
		ended, err := p.signal(ctx, dir, step.signal, step.wait)
		if err != nil {
			return fmt.Errorf("stop worker %s: %w", id, err)
		}
		if ended {
			return nil
		}
	}
	return &Error{Op: "stop", Reason: fmt.Sprintf("worker %s still runs after SIGKILL", id), Retry: true, Cause: "other"}
}

// signal sends sig to the worker's group as soon as its pid is known, and reports whether it has ended after at most wait.
func (p *Process) signal(ctx context.Context, dir string, sig syscall.Signal, wait time.Duration) (ended bool, err error) {
	deadline := time.NewTimer(wait)
	defer deadline.Stop()
	poll := time.NewTicker(10 * time.Millisecond)
	defer poll.Stop()
	for sent := false; ; {
		p.mu.Lock()
		s, err := p.look(dir)
		if err != nil {
			p.mu.Unlock()
			return false, p.refused("stop", err)
		}
		if s.standing == runs && s.pid != 0 && !sent {
			if err := syscall.Kill(-s.pid, sig); err != nil && !errors.Is(err, syscall.ESRCH) {
				p.mu.Unlock()
				return false, err
			}
			sent = true
		}
		if s.standing == over && sent && sig == syscall.SIGKILL && s.code < 0 {
			// The leader died with its worker and could not record what we know.
			err = writeFile(dir, "exit", []byte(strconv.Itoa(128+int(sig))))
		}
		p.mu.Unlock()
		if s.standing != runs {
			return true, err
		}
		select {
		case <-ctx.Done():
			return false, context.Cause(ctx)
		case <-deadline.C:
			return false, nil
		case <-poll.C:
		}
	}
}

// Collect returns the exit code and the last 16 KiB of output of an ended worker.
func (p *Process) Collect(_ context.Context, id ID) (Exit, error) {
	dir, err := p.folder("collect", id)
	if err != nil {
		return Exit{}, err
	}
	p.mu.Lock()
	s, err := p.look(dir)
	p.mu.Unlock()
	if err != nil {
		return Exit{}, p.refused("collect", err)
	}
	if s.standing == runs {
		return Exit{}, &Error{Op: "collect", Reason: fmt.Sprintf("worker %s runs", id), Retry: true, Cause: "other"}
	}
	if s.standing == absent {
		return Exit{}, &Error{Op: "collect", Reason: fmt.Sprintf("worker %s is not known", id), Cause: "name", Err: fs.ErrNotExist}
	}
	tail, err := logTail(dir)
	if err != nil {
		return Exit{}, p.refused("collect", err)
	}
	return Exit{Code: s.code, LogTail: tail, Detail: exitDetail(s.code), EndedAt: s.endedAt}, nil
}

// exitDetail puts words to a code that is the shell's or the kernel's, not the worker's.
func exitDetail(code int) string {
	switch {
	case code < 0:
		return "ended without leaving an exit code: killed together with its supervisor, or the machine restarted"
	case code == 126 || code == 127:
		return "the worker binary could not be run"
	case code == 128+int(syscall.SIGKILL):
		return "killed by signal 9: by hand, or by the kernel for lack of memory"
	case code > 128 && code < 128+65:
		return fmt.Sprintf("killed by signal %d", code-128)
	}
	return ""
}

// Remove deletes an ended worker's folder.
func (p *Process) Remove(_ context.Context, id ID) error {
	dir, err := p.folder("remove", id)
	if err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	s, err := p.look(dir)
	if err != nil {
		return p.refused("remove", err)
	}
	if s.standing == runs {
		return &Error{Op: "remove", Reason: fmt.Sprintf("worker %s runs", id), Mend: "stop it first", Cause: "other"}
	}
	if s.leftovers {
		if err := syscall.Kill(-s.pid, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
			return p.refused("remove", err)
		}
	}
	// Renamed first: a folder that is half gone would look to another Manager like one that waits for its start.
	gone := filepath.Join(p.dir, removed+string(id))
	if err := errors.Join(os.RemoveAll(gone), os.Rename(dir, gone), os.RemoveAll(gone)); err != nil {
		return p.refused("remove", err)
	}
	if c := p.children[string(id)]; c == nil || c.ended {
		delete(p.children, string(id))
	}
	return nil
}

func (p *Process) folder(op string, id ID) (string, error) {
	if !folderName.MatchString(string(id)) {
		return "", &Error{Op: op, Reason: fmt.Sprintf("%q names no worker", id), Cause: "name"}
	}
	return filepath.Join(p.dir, string(id)), nil
}

func (p *Process) checkBinary(op string) error {
	info, err := os.Stat(p.binary)
	if err != nil {
		return &Error{Op: op, Reason: fmt.Sprintf("worker binary %s not found", p.binary), Mend: binaryFix, Cause: "image", Err: err}
	}
	if info.IsDir() || info.Mode()&0o111 == 0 {
		return &Error{Op: op, Reason: fmt.Sprintf("worker binary %s is not executable", p.binary), Mend: "chmod +x it, or " + binaryFix, Cause: "image"}
	}
	return nil
}

// refused classes what the operating system answers.
func (p *Process) refused(op string, err error) error {
	var known *Error
	if errors.As(err, &known) {
		return err
	}
	e := &Error{Op: op, Reason: strings.TrimSpace(err.Error()), Cause: "other", Err: err}
	switch {
	case errors.Is(err, syscall.EAGAIN), errors.Is(err, syscall.ENOMEM), errors.Is(err, syscall.EMFILE), errors.Is(err, syscall.ENFILE):
		e.Retry, e.Cause, e.Mend = true, "resources", "lower -spawner-max-workers, or raise the limits of processes, memory and open files (ulimit -a)"
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		e.Retry, e.Cause, e.Mend = true, "resources", "free space under "+p.dir
	case errors.Is(err, fs.ErrPermission), errors.Is(err, syscall.EROFS):
		e.Mend = "make " + p.dir + " writable for this user"
	}
	return e
}
