package cache

import (
	"context"
	"sync"
	"time"
)

// maxMarks bounds the marks in memory, some 100 bytes each.
const maxMarks = 200_000

// Memory is Seen and Limiter within one process. The zero value is ready.
type Memory struct {
	mu     sync.Mutex
	scopes map[string]*marks
	count  int // of marks in all scopes
	turns  map[string]time.Time
}

var (
	_ Seen    = (*Memory)(nil)
	_ Limiter = (*Memory)(nil)
)

type marks struct {
	keys map[string]struct{}
	used time.Time
}

// Has says which keys were marked in scope.
func (m *Memory) Has(_ context.Context, scope string, keys []string) []bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := m.scopes[scope]
	if s == nil || time.Since(s.used) > SeenTTL {
		return nil
	}
	out := make([]bool, len(keys))
	for i, k := range keys {
		_, out[i] = s.keys[k]
	}
	return out
}

// Mark marks keys in scope. When memory is full the scope that was longest without a new mark is forgotten, at last this one itself.
func (m *Memory) Mark(_ context.Context, scope string, keys []string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.scopes == nil {
		m.scopes = map[string]*marks{}
	}
	s := m.scopes[scope]
	if s == nil || time.Since(s.used) > SeenTTL {
		m.forget(scope)
		s = &marks{keys: map[string]struct{}{}}
		m.scopes[scope] = s
	}
	s.used = time.Now()
	before := len(s.keys)
	for _, k := range keys {
		s.keys[k] = struct{}{}
	}
	m.count += len(s.keys) - before
	for m.count > maxMarks {
		m.forget(m.oldest())
	}
}

func (m *Memory) oldest() string {
	var name string
	var at time.Time
	for n, s := range m.scopes {
		if at.IsZero() || s.used.Before(at) {
			name, at = n, s.used
		}
	}
	return name
}

func (m *Memory) forget(scope string) {
	if s := m.scopes[scope]; s != nil {
		m.count -= len(s.keys)
		delete(m.scopes, scope)
	}
}

// Wait waits for a turn at exit among the searches of this process.
func (m *Memory) Wait(ctx context.Context, exit string, perSecond float64) error {
	if perSecond <= 0 {
		return nil
	}
	m.mu.Lock()
	if m.turns == nil {
		m.turns = map[string]time.Time{}
	}
	now := time.Now()
	turn := m.turns[exit]
	if turn.Before(now) {
		turn = now
	}
	m.turns[exit] = turn.Add(time.Duration(float64(time.Second) / perSecond))
	m.mu.Unlock()
	return sleep(ctx, turn.Sub(now))
}

// sleep waits for d or for ctx's end, whose cause it returns.
func sleep(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return context.Cause(ctx)
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
