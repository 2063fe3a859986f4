// Package wakeup is a doorbell. Rings may be lost, doubled and reordered; nobody's correctness depends on one.
package wakeup

import (
	"context"
	"sync"
)

// Bell wakes who waits. It carries no work.
type Bell interface {
	// Ring wakes all that wait now. It returns within its own short deadline, whatever ctx says.
	Ring(ctx context.Context) error
	// Next returns a channel that the next ring closes. Take it before looking for work, so that no ring falls between.
	Next() <-chan struct{}
}

// Memory is a Bell within one process. The zero value is ready.
type Memory struct {
	mu   sync.Mutex
	next chan struct{} // nil: nobody waits
}

var _ Bell = (*Memory)(nil)

// Ring wakes all that wait now. It never fails.
func (m *Memory) Ring(context.Context) error {
	m.wake()
	return nil
}

func (m *Memory) wake() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.next != nil {
		close(m.next)
		m.next = nil
	}
}

// Next returns a channel that the next ring closes.
func (m *Memory) Next() <-chan struct{} {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.next == nil {
		m.next = make(chan struct{})
	}
	return m.next
}
