package wakeup

import (
	"context"
	"errors"
	"sync"
)

// Joint is several bells as one.
type Joint struct {
	bells  []Bell
	memory Memory
	closed chan struct{}
	work   sync.WaitGroup
}

var _ Bell = (*Joint)(nil)

// Join makes one Bell of several. A ring wakes who waits on it at once, whatever becomes of it elsewhere, and rings all bells: no Memory
// is needed among them. A ring of any bell wakes who waits on it. Close it before the bells, which stay their owners'.
func Join(bells ...Bell) *Joint {
	j := &Joint{bells: bells, closed: make(chan struct{})}
	for _, b := range bells {
		next := b.Next() // before Join returns, so that no ring after it is missed
		j.work.Go(func() { j.bridge(b, next) })
	}
	return j
}

// bridge passes on the rings of b: one goroutine a bell, however many wait and however often.
func (j *Joint) bridge(b Bell, next <-chan struct{}) {
	for {
		select {
		case <-next:
		case <-j.closed:
			return
		}
		next = b.Next() // before the ring is passed on: what falls between is covered by this one
		j.memory.wake()
	}
}

// Ring wakes who waits here and rings all bells. The error joins theirs; each has its own short deadline.
func (j *Joint) Ring(ctx context.Context) error {
	j.memory.wake()
	var err error
	for _, b := range j.bells {
		err = errors.Join(err, b.Ring(ctx))
	}
	return err
}

// Next returns a channel that the next ring of any bell closes.
func (j *Joint) Next() <-chan struct{} { return j.memory.Next() }

// Close ends the bridges. Rings of the bells are no longer heard here.
func (j *Joint) Close() {
	close(j.closed)
	j.work.Wait()
}
