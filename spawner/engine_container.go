package spawner

import (
	"bytes"
	"fmt"
	"strings"
)

// What a worker's container is held to, whether the engine or a swarm runs it.
const (
	workerUser = "65532:65532" // for an image that names no user, or root
	workerUID  = "65532"

	workerTmp = 256 << 20 // bytes of /tmp, in memory
	workerShm = 256 << 20 // bytes of /dev/shm: a browser fills the engine's own 64 MiB; taken only when written

	tailBytes = 16 << 10 // of a log, kept as evidence

	outOfMemory = "out of memory"
)

// lastBytes keeps the last tailBytes of what is written.
type lastBytes struct {
	b   []byte
	cut bool
}

func (l *lastBytes) Write(p []byte) (int, error) {
	l.b = append(l.b, p...)
	if n := len(l.b) - tailBytes; n > 0 {
		l.b, l.cut = append(l.b[:0], l.b[n:]...), true
	}
	return len(p), nil
}

// String begins with a whole line, as text that any database takes.
func (l *lastBytes) String() string {
	b := l.b
	if i := bytes.IndexByte(b, '\n'); l.cut && i >= 0 && i < len(b)-1 {
		b = b[i+1:]
	}
	return strings.ReplaceAll(strings.ToValidUTF8(string(b), "\uFFFD"), "\x00", "")
}

// codeDetail puts words to an exit code that is the kernel's or the engine's, not the worker's.
func codeDetail(code int) string {
	switch {
	case code == 126 || code == 127:
		return "the image's program could not be run"
	case code > 128 && code < 128+65:
		return fmt.Sprintf("killed by signal %d", code-128)
	}
	return ""
}
