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

func (d *Drift) count(array, field string, path ...int) {
	if d == nil {
		return
	}
	name := []byte(array + "." + field)
	for i, n := range path {
		name = append(name, "[,"[min(i, 1)])
		name = strconv.AppendInt(name, int64(n), 10)
	}
	if len(path) > 0 {
		name = append(name, ']')
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.counts == nil {
		d.counts = make(map[string]int64)
	}
	d.counts[string(name)]++
}
