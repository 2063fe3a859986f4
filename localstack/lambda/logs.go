package lambda

import (
	"bytes"
	"fmt"
	"io"
	"sync"
	"time"
)

// keptLogBytes bounds what is kept of a function's log.
const keptLogBytes = 1 << 20

// tailBytes is how much of an invocation's log X-Amz-Log-Result carries.
const tailBytes = 4 << 10

// functionLog is the newest part of a function's log.
type functionLog struct {
	mu sync.Mutex
	b  []byte
}

func (l *functionLog) add(line string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.b = append(append(l.b, line...), '\n')
	if over := len(l.b) - keptLogBytes; over > keptLogBytes/2 { // cut seldom, at a line's end
		l.b = append([]byte(nil), l.b[over+bytes.IndexByte(l.b[over:], '\n')+1:]...)
	}
}

func (l *functionLog) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return string(l.b)
}

// logWriter hands the lines of all functions on, one at a time.
type logWriter struct {
	mu sync.Mutex
	w  io.Writer
}

func (l *logWriter) add(function, line string) {
	if l.w == nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	fmt.Fprintf(l.w, "%s %s\n", function, line) // whose reader is gone is no concern of a function
}

// logTail is the end of an invocation's log.
type logTail struct {
	mu sync.Mutex
	b  []byte
}

func (t *logTail) add(line string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.b = append(append(t.b, line...), '\n')
	if over := len(t.b) - tailBytes; over > 0 {
		t.b = append([]byte(nil), t.b[over:]...)
	}
}

// take returns the tail and begins another.
func (t *logTail) take() []byte {
	t.mu.Lock()
	defer t.mu.Unlock()
	b := t.b
	t.b = nil
	return b
}

// split hands on the whole lines that have been read.
func (o *output) split() {
	for {
		i := bytes.IndexByte(o.rest, '\n')
		if i < 0 && len(o.rest) < maxLine {
			return
		}
		if i < 0 {
			i = maxLine - 1
		}
		o.line(string(bytes.TrimSuffix(o.rest[:i], []byte("\r"))))
		o.rest = o.rest[i+1:]
	}
}

// report is the REPORT line of an invocation, as AWS writes it (Developer Guide, logging, 2026). Since August 2025 the initialisation is billed too.
func report(id string, took, init time.Duration, memoryMiB, usedMiB int, status, errorType string) string {
	millis := func(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
	s := fmt.Sprintf("REPORT RequestId: %s\tDuration: %.2f ms\tBilled Duration: %d ms\tMemory Size: %d MB\tMax Memory Used: %d MB\t",
		id, millis(took), (took+init+time.Millisecond-1)/time.Millisecond, memoryMiB, usedMiB)
	if init > 0 {
		s += fmt.Sprintf("Init Duration: %.2f ms\t", millis(init))
	}
	if status != "" {
		s += "Status: " + status + "\t"
	}
	if errorType != "" {
		s += "Error Type: " + errorType + "\t"
	}
	return s
}
