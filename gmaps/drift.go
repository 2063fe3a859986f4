package gmaps

import (
	"maps"
	"strconv"
	"sync"
)

// Drift counts what stood in a payload but not in the shape that the decoder knows, by field and path ("place.rating[4,7]").
// What is merely missing is not counted. A rising count says that Google moved a field.
// The zero value is ready, a nil *Drift counts nothing, and both may be used by several goroutines.
type Drift struct {
	mu     sync.Mutex
	counts map[string]int64
}

// Counts returns the counts so far, never nil. There are at most as many names as the decoder knows paths.
func (d *Drift) Counts() map[string]int64 {
	if d == nil {
		return map[string]int64{}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	counts := make(map[string]int64, len(d.counts))
	maps.Copy(counts, d.counts)
	return counts
}

// add adds what was counted in one payload.
func (d *Drift) add(t *tally) {
	if d == nil || t.counts == nil {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.counts == nil {
		d.counts = make(map[string]int64)
	}
	for name, n := range t.counts {
		d.counts[name] += n
	}
}

// tally counts the drift of one payload. It has no lock, because what a lock is in escapes to the heap,
// and with it would everything that stands beside it in a fields: each array that is read.
type tally struct {
	counts map[string]int64
}

func (t *tally) count(array, field string, path ...int) {
	name := []byte(array + "." + field)
	for i, n := range path {
		name = append(name, "[,"[min(i, 1)])
		name = strconv.AppendInt(name, int64(n), 10)
	}
	if len(path) > 0 {
		name = append(name, ']')
	}
	if t.counts == nil {
		t.counts = make(map[string]int64)
	}
	t.counts[string(name)]++
}
