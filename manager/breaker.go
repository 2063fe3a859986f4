package manager

import (
	"sync"
	"time"
)

// delays is how long no worker is started after that many failures in a row: the first may be chance and costs nothing; what
// fails again is not mended by haste, and a mend by hand (an image built, a disk cleared) is noticed after at most the last one.
var delays = [...]time.Duration{0, 5 * time.Second, 10 * time.Second, 20 * time.Second, 40 * time.Second, 80 * time.Second}

// breakerThreshold is how many failures in a row open the breaker. Below it there is backoff only; the difference is for people:
// an open breaker is told in the log and on /metrics.
const breakerThreshold = 3

// breakerState is where a breaker stands.
type breakerState int

// The states, as the metric shows them.
const (
	breakerClosed   breakerState = iota // workers are started
	breakerHalfOpen                     // one is, to try
	breakerOpen                         // none is
)

func (s breakerState) String() string {
	return [...]string{"closed", "half-open", "open"}[s]
}

// breaker holds back starts that would fail. A start has succeeded when its worker has asked for work, not before: an
// image that ends at once is created without an error, for ever. It knows no causes of its own; there is one for each backend.
type breaker struct {
	mu sync.Mutex
	// failures in a row. Those that were under way together when the first of them failed are one.
	failures int
	// generation grows with each failure that counts: what began in an earlier one tells nothing of today.
	generation int
	until      time.Time
	reason     string
}

// current is the generation of a start that begins now.
func (b *breaker) current() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.generation
}

// fail records that a start of that generation failed, and reports whether this opened the breaker.
func (b *breaker) fail(generation int, now time.Time, reason string) (opened bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.reason = reason
	if generation != b.generation {
		return false
	}
	b.generation++
	b.failures++
	b.until = now.Add(delays[min(b.failures, len(delays))-1])
	return b.failures == breakerThreshold
}

// succeed records that a worker of that generation has asked for work, and reports whether this closed an open breaker.
func (b *breaker) succeed(generation int) (closed bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if generation != b.generation || b.failures == 0 {
		return false
	}
	closed = b.failures >= breakerThreshold
	b.failures, b.until, b.reason = 0, time.Time{}, ""
	return closed
}

// forget closes the breaker: who led meanwhile knows better. Starts that are under way tell nothing any more.
func (b *breaker) forget() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.failures > 0 {
		b.generation++
		b.failures, b.until, b.reason = 0, time.Time{}, ""
	}
}

// allow says how many of want starts may begin. After a failure it is one at a time, and none while unproven ones are under way.
func (b *breaker) allow(now time.Time, want, unproven int) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case b.failures == 0:
		return want
	case now.Before(b.until) || unproven > 0:
		return 0
	}
	return min(want, 1)
}

// state returns where the breaker stands, until when no start is tried, and why; "" without failures.
func (b *breaker) state(now time.Time) (s breakerState, until time.Time, reason string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case b.failures < breakerThreshold:
		s = breakerClosed
	case now.Before(b.until):
		s = breakerOpen
	default:
		s = breakerHalfOpen
	}
	return s, b.until, b.reason
}
