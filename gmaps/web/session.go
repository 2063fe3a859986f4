package web

import (
	"context"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// session is one visitor in Google's eyes: its cookies. With NID Google sends whole payloads; without, it trims them at random.
// It is not bound to an address (measured by others, 2026).
type session struct {
	born    time.Time
	retired atomic.Bool

	mu      sync.Mutex
	cookies []*http.Cookie
	header  string
}

// consentCookie says that consent was asked and answered, so that European exits are not sent to the consent page first.
// It is the shortest value that public downloaders use (read, 2026).
const consentCookie = "CAI"

// maxCookies keeps a strange server from growing our requests.
const maxCookies = 32

func newSession(born time.Time) *session {
	s := &session{born: born}
	s.set(&http.Cookie{Name: "SOCS", Value: consentCookie})
	return s
}

func (s *session) cookieHeader() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.header
}

// absorb takes over the cookies that an answer sets.
func (s *session) absorb(h http.Header) {
	lines := h["Set-Cookie"]
	if len(lines) == 0 {
		return
	}
	for _, line := range lines {
		if c, err := http.ParseSetCookie(line); err == nil {
			s.set(c)
		}
	}
}

func (s *session) set(c *http.Cookie) {
	s.mu.Lock()
	defer s.mu.Unlock()
	at := len(s.cookies)
	for i, old := range s.cookies {
		if old.Name == c.Name {
			at = i
		}
	}
	switch {
	case at == len(s.cookies) && at < maxCookies:
		s.cookies = append(s.cookies, c)
	case at < len(s.cookies):
		s.cookies[at] = c
	}
	var b strings.Builder
	for _, c := range s.cookies {
		if c.MaxAge < 0 || c.Value == "" {
			continue
		}
		if b.Len() > 0 {
			b.WriteString("; ")
		}
		b.WriteString(c.Name + "=" + c.Value)
	}
	s.header = b.String()
}

// sessions keeps a few sessions, renews them by age and is shared by all searches of an engine.
type sessions struct {
	now   func() time.Time
	age   time.Duration
	slots []sessionSlot
	next  atomic.Uint64
}

type sessionSlot struct {
	opening chan struct{} // holds one token while a session is opened for the slot
	current atomic.Pointer[session]
}

func newSessions(c Config) *sessions {
	p := &sessions{now: c.Now, age: c.SessionAge, slots: make([]sessionSlot, c.Sessions)}
	for i := range p.slots {
		p.slots[i].opening = make(chan struct{}, 1)
	}
	return p
}

// get returns a session, another than avoid if there is one, opening one where a slot is empty or its session old.
// Only a caller that finds no session at all waits for one that another caller opens.
func (p *sessions) get(ctx context.Context, avoid *session, open func(context.Context) (*session, error)) (*session, error) {
	turn := p.next.Add(1)
	slot := &p.slots[turn%uint64(len(p.slots))]
	if s := slot.current.Load(); p.usable(s) && s != avoid {
		return s, nil
	}
	if s := slot.current.Load(); !p.usable(s) {
		select {
		case slot.opening <- struct{}{}:
			s, err := p.fill(ctx, slot, open)
			if err == nil {
				return s, nil
			}
			if s := p.other(avoid); s != nil && ctx.Err() == nil {
				return s, nil
			}
			return nil, err
		default:
		}
	}
	if s := p.other(avoid); s != nil {
		return s, nil
	}
	if p.usable(avoid) {
		return avoid, nil
	}
	select {
	case slot.opening <- struct{}{}:
		return p.fill(ctx, slot, open)
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// fill opens a session for a slot whose opening token the caller holds, and gives the token back.
func (p *sessions) fill(ctx context.Context, slot *sessionSlot, open func(context.Context) (*session, error)) (*session, error) {
	defer func() { <-slot.opening }()
	if s := slot.current.Load(); p.usable(s) {
		return s, nil
	}
	s, err := open(ctx)
	if err != nil {
		return nil, err
	}
	slot.current.Store(s)
	return s, nil
}

func (p *sessions) other(avoid *session) *session {
	for i := range p.slots {
		if s := p.slots[i].current.Load(); p.usable(s) && s != avoid {
			return s
		}
	}
	return nil
}

// usable says that s is there and not too old; retired sessions are in no slot, but may still be someone's avoid.
func (p *sessions) usable(s *session) bool {
	return s != nil && !s.retired.Load() && p.now().Sub(s.born) < p.age
}

// retire takes a session that Google turned against out of use.
func (p *sessions) retire(s *session) {
	s.retired.Store(true)
	for i := range p.slots {
		p.slots[i].current.CompareAndSwap(s, nil)
	}
}
