//go:build linux || darwin

package spawner

import (
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// A log that has outgrown maxLog is cut to its last keptLog bytes: what matters of a worker's output is its end.
const (
	maxLog   = 4 << 20
	keptLog  = 1 << 20
	tailSize = 16 << 10
)

// specFile is the file spec. It holds no secrets.
type specFile struct {
	SpawnID   string    `json:"spawn_id"`
	JobID     string    `json:"job_id"`
	CreatedAt time.Time `json:"created_at"`
}

// standing is what a folder says of its worker.
type standing int

const (
	absent standing = iota // no folder, or never started
	runs
	over
)

type sight struct {
	standing  standing
	pid       int // of the session leader and its group; 0: not written yet
	code      int // if over; -1: nobody knows
	endedAt   time.Time
	leftovers bool // over, but a process that the worker started lives on
}

// look reads a worker's folder and reaps its leader if that is our child. An error says that nobody knows, for want of file
// descriptors perhaps: never that there is no worker. p.mu is held.
func (p *Process) look(dir string) (sight, error) {
	s := sight{code: -1}
	var err error
	if s.pid, err = readNumber(dir, "pid", 0); err != nil {
		return sight{}, err
	}
	c := p.children[filepath.Base(dir)]
	c.reap()
	held, err := locked(dir)
	if err != nil {
		return sight{}, err
	}
	exit, err := readNumber(dir, "exit", -1)
	if err != nil {
		return sight{}, err
	}
	switch {
	case exit >= 0:
		s.standing, s.code, s.endedAt, s.leftovers = over, exit, modified(dir, "exit"), held && s.pid != 0
	case held:
		s.standing = runs
	case s.pid == 0:
		s.standing = absent
	case c != nil && !c.ended:
		s.standing = runs // it has let go of the lock and is about to become a zombie
	default:
		s.standing, s.endedAt = over, modified(dir, "log") // when it was last known to do anything
		if c != nil {
			s.code = c.code()
			// Kept for the next Manager; if the disk is full it will have to do without.
			_ = writeFile(dir, "exit", []byte(strconv.Itoa(s.code)))
		}
	}
	return s, nil
}

// reap asks once, without waiting, whether the child has ended.
func (c *child) reap() {
	if c == nil || c.ended {
		return
	}
	pid, err := syscall.Wait4(c.pid, &c.how, syscall.WNOHANG, nil)
	c.ended = pid == c.pid || errors.Is(err, syscall.ECHILD)
}

// code is the leader's exit code, in the shell's form if it was killed.
func (c *child) code() int {
	if c.how.Signaled() {
		return 128 + int(c.how.Signal())
	}
	return c.how.ExitStatus()
}

// worker is what Create and List answer.
func (p *Process) worker(dir string, running bool) Worker {
	w := Worker{ID: ID(filepath.Base(dir)), Name: filepath.Base(dir), Running: running}
	b, err := os.ReadFile(filepath.Join(dir, "spec"))
	if err != nil {
		return w
	}
	var spec specFile
	if json.Unmarshal(b, &spec) != nil {
		return w // it was not us who wrote this: the name is identity enough
	}
	w.SpawnID, w.JobID, w.CreatedAt = spec.SpawnID, spec.JobID, spec.CreatedAt
	return w
}

// lockFolder takes dir's lock without waiting: syscall.EWOULDBLOCK if somebody holds it.
// fs.ErrNotExist: the folder was removed in between.
func lockFolder(dir string, how int) (*os.File, error) {
	path := filepath.Join(dir, "lock")
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), how|syscall.LOCK_NB); err != nil {
		f.Close()
		return nil, err
	}
	// A lock on a file that Remove has unlinked holds nobody off.
	here, err := f.Stat()
	if err != nil {
		f.Close()
		return nil, err
	}
	there, err := os.Stat(path)
	if err != nil || !os.SameFile(here, there) {
		f.Close()
		return nil, fs.ErrNotExist
	}
	return f, nil
}

// locked reports whether a process of the worker lives.
func locked(dir string) (bool, error) {
	f, err := os.Open(filepath.Join(dir, "lock"))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer f.Close()
	err = syscall.Flock(int(f.Fd()), syscall.LOCK_SH|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		return true, nil
	}
	return false, err
}

// readNumber reads a file that holds one number; none if there is no file, or no number in it yet.
func readNumber(dir, file string, none int) (int, error) {
	b, err := os.ReadFile(filepath.Join(dir, file))
	if errors.Is(err, fs.ErrNotExist) {
		return none, nil
	}
	if err != nil {
		return none, err
	}
	if n, err := strconv.Atoi(strings.TrimSpace(string(b))); err == nil {
		return n, nil
	}
	return none, nil // whoever writes it has only begun
}

func modified(dir, file string) time.Time {
	info, err := os.Stat(filepath.Join(dir, file))
	if err != nil {
		return time.Time{}
	}
	return info.ModTime().UTC()
}

// writeFile replaces a file whole or not at all.
func writeFile(dir, file string, b []byte) error {
	tmp, err := os.CreateTemp(dir, "."+file+"-")
	if err != nil {
		return err
	}
	_, err = tmp.Write(b)
	err = errors.Join(err, tmp.Close())
	if err == nil {
		err = os.Rename(tmp.Name(), filepath.Join(dir, file))
	}
	if err != nil {
		os.Remove(tmp.Name())
	}
	return err
}

// logTail returns the last tailSize bytes of the log, from the beginning of a line, as text that any database takes.
func logTail(dir string) (string, error) {
	f, err := os.Open(filepath.Join(dir, "log"))
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	defer f.Close()
	b, cut, err := tail(f, tailSize)
	if err != nil {
		return "", err
	}
	s := string(b)
	if _, rest, ok := strings.Cut(s, "\n"); cut && ok && rest != "" {
		s = rest
	}
	return strings.ReplaceAll(strings.ToValidUTF8(s, "\uFFFD"), "\x00", ""), nil
}

func tail(f *os.File, size int64) (b []byte, cut bool, err error) {
	info, err := f.Stat()
	if err != nil {
		return nil, false, err
	}
	from := max(0, info.Size()-size)
	b, err = io.ReadAll(io.NewSectionReader(f, from, size))
	return b, from > 0, err
}

// boundLog cuts a log that has outgrown its bound. The worker appends through its own descriptor, so it goes on at the new
// end. What it writes during the copy is copied too; only a line of the very moment of the cut may be lost.
func boundLog(dir string) error {
	path := filepath.Join(dir, "log")
	info, err := os.Stat(path)
	if err != nil || info.Size() <= maxLog {
		return err
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	buf := make([]byte, 128<<10)
	from, to := info.Size()-keptLog, int64(0)
	for {
		if to > maxLog {
			return nil // it writes as fast as we copy: nothing is cut, and nothing lost, until the next time
		}
		n, err := f.ReadAt(buf, from)
		if err != nil && err != io.EOF {
			return err
		}
		if n == 0 {
			break
		}
		if _, err := f.WriteAt(buf[:n], to); err != nil {
			return err
		}
		from, to = from+int64(n), to+int64(n)
	}
	return f.Truncate(to)
}
