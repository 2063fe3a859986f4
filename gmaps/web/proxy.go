package web

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// gate bounds how many requests are under way and how many begin a second. Its zero value bounds nothing.
type gate struct {
	slots  chan struct{}
	rate   *rate.Limiter
	shared func(context.Context) error // waits for one's turn among other workers; nil: there are none
}

func newGate(perSecond float64, inFlight int) gate {
	var g gate
	if inFlight > 0 {
		g.slots = make(chan struct{}, inFlight)
	}
	if perSecond > 0 {
		// A burst of one: evenly spaced requests look less like a machine than bursts do.
		g.rate = rate.NewLimiter(rate.Limit(perSecond), 1)
	}
	return g
}

// enter waits for a place; whoever entered must leave.
func (g gate) enter(ctx context.Context) error {
	if g.slots != nil {
		select {
		case g.slots <- struct{}{}:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	if g.rate != nil {
		turn := g.rate.Reserve()
		if err := sleep(ctx, turn.Delay()); err != nil {
			turn.Cancel()
			g.leave()
			return err
		}
	}
	if g.shared != nil {
		if err := g.shared(ctx); err != nil {
			g.leave()
			return err
		}
	}
	return nil
}

// share makes g wait for its turn among all workers that use the exit of this name.
func (g gate) share(c Config, exit string) gate {
	if c.Limiter != nil && exit != "" && c.RatePerSecond > 0 {
		g.shared = func(ctx context.Context) error { return c.Limiter.Wait(ctx, exit, c.RatePerSecond) }
	}
	return g
}

// sharedName is a proxy's name among workers: a hash, because user names of proxies are half a secret. The password is left out, so that
// nobody who sees the name can try passwords on it. Sessions of a rotating proxy differ by user name, and are exits of their own.
func sharedName(proxy *url.URL) string {
	sum := sha256.Sum256([]byte(proxy.Scheme + "://" + proxy.User.Username() + "@" + proxy.Host))
	return hex.EncodeToString(sum[:16])
}

func (g gate) leave() {
	if g.slots != nil {
		<-g.slots
	}
}

// exit is one way out to Google: a proxy, or this machine itself. Its connections are its own and are kept.
type exit struct {
	name      string // for people: without credentials
	secrets   []string
	proxied   bool
	transport http.RoundTripper
	gate      gate

	// Guarded by the pool.
	failures int
	benched  time.Time
	reason   error
}

// exits takes turns with its exits and benches those that fail.
type exits struct {
	now     func() time.Time
	maxWait time.Duration

	mu   sync.Mutex
	all  []*exit
	next int
}

// A proxy that fails is left alone for benchFirst, then twice as long each time, up to benchLongest; one success clears it.
const (
	benchFirst   = 2 * time.Second
	benchLongest = 5 * time.Minute
)

func newExits(c Config) (*exits, error) {
	pool := &exits{now: c.Now, maxWait: c.MaxWait}
	for i, raw := range c.Proxies {
		proxy, err := parseProxy(raw)
		if err != nil {
			return nil, fmt.Errorf("proxies: entry %d: %w", i+1, err)
		}
		x := &exit{name: proxy.Scheme + "://" + proxy.Host, proxied: true, transport: c.Transport,
			gate: newGate(c.RatePerSecond, c.InFlight).share(c, sharedName(proxy))}
		if proxy.User != nil {
			password, _ := proxy.User.Password()
			for _, secret := range []string{proxy.User.String(), password, proxy.User.Username()} {
				if len(secret) > 2 { // a shorter one would blot out the whole text
					x.secrets = append(x.secrets, secret)
				}
			}
		}
		if x.transport == nil {
			x.transport = newTransport(c, http.ProxyURL(proxy))
		}
		pool.all = append(pool.all, x)
	}
	if len(pool.all) > 0 {
		return pool, nil
	}
	direct := &exit{name: "direct", transport: c.Transport, gate: newGate(c.RatePerSecond, c.InFlight).share(c, c.DirectName)}
	if direct.transport == nil {
		direct.transport = newTransport(c, http.ProxyFromEnvironment)
	}
	pool.all = []*exit{direct}
	return pool, nil
}

// parseProxy never repeats raw in an error: it may hold a password.
func parseProxy(raw string) (*url.URL, error) {
	raw = strings.TrimSpace(raw)
	if !strings.Contains(raw, "://") {
		raw = "http://" + raw
	}
	proxy, err := url.Parse(raw)
	if err != nil {
		return nil, errors.New("not a URL")
	}
	switch proxy.Scheme {
	case "http", "https", "socks5", "socks5h":
	default:
		return nil, fmt.Errorf("scheme %q is none of http, https, socks5, socks5h", proxy.Scheme)
	}
	if proxy.Hostname() == "" {
		return nil, errors.New("no host")
	}
	if strings.HasPrefix(proxy.Scheme, "socks5") && proxy.Port() == "" {
		proxy.Host = net.JoinHostPort(proxy.Hostname(), "1080")
	}
	return proxy, nil
}

// newTransport keeps up to 64 idle connections. It asks for gzip itself, because readers and buffers are then reused.
func newTransport(c Config, proxy func(*http.Request) (*url.URL, error)) *http.Transport {
	return &http.Transport{
		Proxy:                  proxy,
		DialContext:            (&net.Dialer{Timeout: 10 * time.Second, KeepAlive: 30 * time.Second}).DialContext,
		TLSHandshakeTimeout:    10 * time.Second,
		ResponseHeaderTimeout:  c.Timeout,
		IdleConnTimeout:        90 * time.Second,
		MaxIdleConns:           64,
		MaxIdleConnsPerHost:    64,
		MaxResponseHeaderBytes: 256 << 10,
		ForceAttemptHTTP2:      true,
		DisableCompression:     true,
	}
}

// pick returns the next exit that is not benched, another than avoid if there is one. When all are benched it waits for the first to
// come back, unless that takes longer than maxWait: the error then wraps why that exit was benched.
func (p *exits) pick(ctx context.Context, avoid *exit) (*exit, error) {
	for {
		if err := ctx.Err(); err != nil {
			return nil, context.Cause(ctx)
		}
		x, wait, reason := p.ready(avoid)
		if x != nil {
			return x, nil
		}
		if wait > p.maxWait {
			return nil, fmt.Errorf("all %d exits are benched, the first for %s: %w", len(p.all), wait.Round(time.Second), reason)
		}
		if err := sleep(ctx, wait); err != nil {
			return nil, err
		}
	}
}

func (p *exits) ready(avoid *exit) (x *exit, wait time.Duration, reason error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.now()
	var fallback, first *exit
	for i := range p.all {
		x := p.all[(p.next+i)%len(p.all)]
		switch {
		case x.benched.After(now):
			if first == nil || x.benched.Before(first.benched) {
				first = x
			}
		case x == avoid:
			fallback = x
		default:
			p.next = (p.next + i + 1) % len(p.all)
			return x, 0, nil
		}
	}
	if fallback != nil {
		return fallback, 0, nil
	}
	return nil, first.benched.Sub(now), first.reason
}

// fail benches x: for as long as was asked, and a proxy for at least its own growing time. This machine itself is benched only if
// asked: there is nothing to turn to, and the wait before a retry is long enough.
func (p *exits) fail(x *exit, asked time.Duration, reason error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	bench := asked
	if x.proxied {
		grown := min(benchFirst<<min(x.failures, 10), benchLongest)
		bench = max(bench, grown/2+rand.N(grown/2+1))
	}
	x.failures++
	x.reason = reason
	if until := p.now().Add(bench); until.After(x.benched) {
		x.benched = until
	}
}

func (p *exits) succeed(x *exit) {
	p.mu.Lock()
	defer p.mu.Unlock()
	x.failures = 0
}

func (p *exits) close() {
	for _, x := range p.all {
		if t, ok := x.transport.(interface{ CloseIdleConnections() }); ok {
			t.CloseIdleConnections()
		}
	}
}

// redacted is err without the exit's credentials; it keeps the chain unless the text had to be changed.
func (x *exit) redacted(err error) error {
	text := err.Error()
	clean := text
	for _, secret := range x.secrets {
		clean = strings.ReplaceAll(clean, secret, "[redacted]")
	}
	if clean == text {
		return err
	}
	return errors.New(clean)
}

// sleep waits for d or for ctx's end, whose cause it returns.
func sleep(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return nil
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
