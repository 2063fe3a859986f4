package simulator

import (
	"sync"
	"sync/atomic"
)

type requestKind int

const (
	kindSession requestKind = iota
	kindSearch
	kindDetail
	kindReviews
	kindPage
	kindShortLink
	kinds
)

func (k requestKind) String() string {
	return [kinds]string{"session", "search", "detail", "reviews", "page", "short-link"}[k]
}

// counters are what Stats reads.
type counters struct {
	requests [kinds]atomic.Int64
	places   atomic.Int64
	bytes    atomic.Int64

	mu     sync.Mutex
	faults map[Fault]int64
}

func (c *counters) fault(f Fault) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.faults == nil {
		c.faults = map[Fault]int64{}
	}
	c.faults[f]++
}

// Stats counts what a Simulator was asked since it was made.
type Stats struct {
	// Requests to Google endpoints by kind: session, search, detail, reviews, page, short-link. Kinds never asked are 0.
	Requests map[string]int64 `json:"requests"`
	// Faults by name; requests answered with one are in Requests too.
	Faults map[Fault]int64 `json:"faults"`
	// Places counts search entries and details sent, doubles too.
	Places int64 `json:"places"`
	// Bytes counts the bodies of answers as sent, compressed if they were.
	Bytes int64 `json:"bytes"`
}

// Stats returns the counts up to now.
func (s *Simulator) Stats() Stats {
	out := Stats{Requests: map[string]int64{}, Faults: map[Fault]int64{}, Places: s.counters.places.Load(), Bytes: s.counters.bytes.Load()}
	for k := range kinds {
		out.Requests[k.String()] = s.counters.requests[k].Load()
	}
	s.counters.mu.Lock()
	defer s.counters.mu.Unlock()
	for f, n := range s.counters.faults {
		out.Faults[f] = n
	}
	return out
}
