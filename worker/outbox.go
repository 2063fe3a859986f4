package worker

import (
	"context"
	"sync"
	"time"

	"gmaps-scraper/gmaps"
	"gmaps-scraper/job"
)

// page is what one step of a task brought: its places and where the task stands behind them.
type page struct {
	Places []job.Found  `json:"places,omitempty"`
	Step   job.TaskStep `json:"step"`
}

// over says that nothing of the task comes after this page.
func (p page) over() bool { return p.Step.Done || p.Step.Error != "" }

// size is a rough number of bytes: it need not be right, only in proportion.
func (p page) size() int64 {
	const perPage, perPlace, perPart = 512, 4 << 10, 700
	n := int64(perPage)
	for i := range p.Places {
		pl := &p.Places[i].Place
		n += perPlace + perPart*int64(len(pl.Reviews)+len(pl.ExtraReviews)+len(pl.Images)/4)
	}
	return n
}

// maxBatchSize ends a batch before its number of places does, when the places are large.
const maxBatchSize = 8 << 20

// outbox keeps the pages of one lease, in their order, until they are acknowledged: in memory, and beyond that on disk. From the first
// page on disk all later ones go there too, until the disk has been read empty.
type outbox struct {
	flushPlaces int
	flushAfter  time.Duration
	budget      *budget
	dir         string
	onFull      func(error) // the disk took no more

	mu      sync.Mutex
	memory  []page
	disk    *spool // nil: never needed
	waiting int    // places, on disk too
	urgent  bool   // a task is over
	oldest  time.Time
	closed  bool
	changed chan struct{}
}

func newOutbox(c Config, b *budget, onFull func(error)) *outbox {
	return &outbox{
		flushPlaces: c.FlushPlaces, flushAfter: c.FlushAfter, budget: b, dir: c.SpoolDir, onFull: onFull,
		changed: make(chan struct{}, 1),
	}
}

// put adds a page. It waits while memory and disk are full, until ctx ends; a page for which there is room is taken even then.
func (o *outbox) put(ctx context.Context, p page) error {
	for {
		room := o.budget.changes() // before the try, so that no change is missed
		if o.tryPut(p) {
			return nil
		}
		select {
		case <-room:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

func (o *outbox) tryPut(p page) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	switch {
	case o.disk.empty() && o.budget.reserveMemory(p.size()):
		o.memory = append(o.memory, p)
	case !o.spill(p):
		return false
	}
	if o.oldest.IsZero() {
		o.oldest = time.Now()
	}
	o.waiting += len(p.Places)
	o.urgent = o.urgent || p.over()
	o.signal()
	return true
}

// spill appends a page to the disk. A disk that fails is not used again by anybody: what it holds can still be read.
func (o *outbox) spill(p page) bool {
	if !o.budget.hasDisk() {
		return false
	}
	if o.disk == nil {
		s, err := openSpool(o.dir)
		if err != nil {
			o.budget.loseDisk()
			o.onFull(err)
			return false
		}
		o.disk = s
	}
	record, err := encodePage(p)
	if err == nil {
		if !o.budget.reserveDisk(int64(len(record))) {
			return false
		}
		if err = o.disk.append(record); err != nil {
			o.budget.freeDisk(int64(len(record)))
		}
	}
	if err != nil {
		o.budget.loseDisk()
		o.onFull(err)
		return false
	}
	return true
}

// close says that no page will follow. next returns what is there, then nothing.
func (o *outbox) close() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.closed = true
	o.signal()
}

// next waits until a batch is due and takes its pages, some places at least FlushPlaces or all there are. The memory they hold is
// freed by done. No pages and no error: the outbox is closed and empty. An error: the disk does not give back what it took.
func (o *outbox) next(ctx context.Context) ([]page, int64, error) {
	for {
		o.mu.Lock()
		wait, some := o.due()
		if some && wait <= 0 {
			pages, held, err := o.take()
			o.mu.Unlock()
			return pages, held, err
		}
		if o.closed {
			o.mu.Unlock()
			return nil, 0, nil
		}
		o.mu.Unlock()
		var timer <-chan time.Time
		if some {
			timer = time.After(wait)
		}
		select {
		case <-o.changed:
		case <-timer:
		case <-ctx.Done():
			return nil, 0, context.Cause(ctx)
		}
	}
}

// due says whether there are pages, and how long they may still wait for others.
func (o *outbox) due() (wait time.Duration, some bool) {
	if len(o.memory) == 0 && o.disk.empty() {
		return 0, false
	}
	if o.closed || o.urgent || o.waiting >= o.flushPlaces {
		return 0, true
	}
	return time.Until(o.oldest.Add(o.flushAfter)), true
}

func (o *outbox) take() (pages []page, held int64, err error) {
	places, size := 0, int64(0)
	for places < o.flushPlaces && size < maxBatchSize {
		var p page
		switch {
		case len(o.memory) > 0:
			p = o.memory[0]
			o.memory[0] = page{}
			o.memory = o.memory[1:]
			held += p.size()
		case !o.disk.empty():
			var freed int64
			if p, freed, err = o.disk.pop(); err != nil {
				return nil, held, err
			}
			o.budget.freeDisk(freed)
		default:
			o.urgent, o.oldest = false, time.Time{}
			return pages, held, nil
		}
		pages = append(pages, p)
		places += len(p.Places)
		size += p.size()
		o.waiting -= len(p.Places)
	}
	return pages, held, nil // what is left keeps the age of what was taken: it is due sooner than need be
}

// done frees the memory of pages that were acknowledged or dropped.
func (o *outbox) done(held int64) { o.budget.freeMemory(held) }

// drop forgets all that is left and gives its room to others.
func (o *outbox) drop() {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, p := range o.memory {
		o.budget.freeMemory(p.size())
	}
	o.memory = nil
	if o.disk != nil {
		o.budget.freeDisk(o.disk.close())
		o.disk = nil
	}
}

func (o *outbox) signal() {
	select {
	case o.changed <- struct{}{}:
	default:
	}
}

// compose merges pages into one batch: of each task the last step counts. Pages of tasks for which skip says so are left out.
func compose(pages []page, skip func(job.TaskID) bool) job.Batch {
	var b job.Batch
	at := map[job.TaskID]int{}
	for _, p := range pages {
		if skip(p.Step.TaskID) {
			continue
		}
		b.Places = append(b.Places, p.Places...)
		i, ok := at[p.Step.TaskID]
		if !ok {
			at[p.Step.TaskID] = len(b.Tasks)
			b.Tasks = append(b.Tasks, p.Step)
			continue
		}
		b.Tasks[i] = p.Step
	}
	return b
}

// found marks the places of a page with the task that found them.
func found(id job.TaskID, places []gmaps.Place, keep func(*gmaps.Place) bool) []job.Found {
	out := make([]job.Found, 0, len(places))
	for i := range places {
		if keep(&places[i]) {
			out = append(out, job.Found{TaskID: id, Place: places[i]})
		}
	}
	return out
}
