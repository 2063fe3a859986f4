package lambda

import (
	"errors"
	"os"
	"sync"
	"syscall"
)

// hostNetwork is Docker's name of the network that a container shares with its machine.
const hostNetwork = "host"

// starter starts sandboxes of one kind.
type starter interface {
	kind() SandboxKind
	// runtimeHost is where the Runtime API must listen, and the host under which a sandbox finds it; empty: the same.
	runtimeHost() (listen, guest string)
	// start runs the bootstrap. The sandbox ends when the emulator does, however that ends. An *entrypointError says that AWS could not start it either.
	start(spec sandboxSpec) (sandbox, error)
	// close releases what the starter holds, after all its sandboxes have ended.
	close() error
}

// sandbox is one running bootstrap with all the processes that it has started.
type sandbox interface {
	// freeze stops every process; thaw lets them go on. Both do nothing once the sandbox has ended.
	freeze() error
	thaw() error
	// kill ends every process at once. It may be called at any time and again.
	kill()
	// exited is closed when no process is left and the output has been read to its end.
	exited() <-chan struct{}
	// reason is how the bootstrap ended: "exit status 1", "signal: killed". It is valid after exited.
	reason() string
	// memoryMiB is the highest use of memory seen until now.
	memoryMiB() int
	// pid is the bootstrap's on this machine; 0 if it has none here.
	pid() int
	// frozen says that every process is known to be stopped.
	frozen() bool
	// drain reads the output that has been written until now.
	drain()
}

// sandboxSpec is what a sandbox runs.
type sandboxSpec struct {
	id           string
	codeDir      string
	memoryMiB    int
	ephemeralMiB int
	env          map[string]string // but for what depends on the sandbox
	line         func(string)      // receives each line of output
}

// entrypointError is a bootstrap that could not be started. Its text is the kernel's.
type entrypointError struct{ err error }

func (e *entrypointError) Error() string {
	return "fork/exec " + taskRoot + "/bootstrap: " + e.err.Error()
}

// exitWords is how AWS names the end of a runtime.
func exitWords(state *os.ProcessState) string {
	if status, ok := state.Sys().(syscall.WaitStatus); ok && status.Signaled() {
		return "signal: " + status.Signal().String()
	}
	return state.String()
}

// output reads a pipe line by line. It is read by its own goroutine as it comes, and by drain up to what is there.
type output struct {
	r    *os.File
	line func(string)

	mu   sync.Mutex
	rest []byte
}

// maxLine bounds a line of output; a longer one is cut in two.
const maxLine = 64 << 10

// read reads until the pipe has no more writers.
func (o *output) read() {
	raw, err := o.r.SyscallConn()
	if err != nil {
		return
	}
	buf := make([]byte, 32<<10)
	_ = raw.Read(func(fd uintptr) bool { // the wait ends with the pipe
		for {
			n, err := o.take(fd, buf)
			switch {
			case errors.Is(err, syscall.EAGAIN):
				return false // wait until there is more
			case err != nil || n <= 0:
				return true
			}
		}
	})
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.rest) > 0 {
		o.line(string(o.rest))
		o.rest = nil
	}
}

// drain reads what is in the pipe, without waiting for more.
func (o *output) drain() {
	raw, err := o.r.SyscallConn()
	if err != nil {
		return
	}
	buf := make([]byte, 32<<10)
	_ = raw.Control(func(fd uintptr) { // fails only if the pipe is closed, and then all has been read
		for {
			if n, err := o.take(fd, buf); err != nil || n <= 0 {
				return
			}
		}
	})
}

// take reads once and hands on whole lines. One lock around both keeps them in order.
func (o *output) take(fd uintptr, buf []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	n, err := readFD(fd, buf)
	if n > 0 {
		o.rest = append(o.rest, buf[:n]...)
		o.split()
	}
	return n, err
}
