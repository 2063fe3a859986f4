package manager

import (
	"context"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"gmaps-scraper/api"
	"gmaps-scraper/job"
)

const (
	cookieName = "gmaps_session"
	// Somebody who guesses keys gets guessBurst tries, then one in guessEvery.
	guessBurst = 10
	guessEvery = 3 * time.Second
	// maxGuessers bounds what is remembered of who guesses.
	maxGuessers = 10_000
	maxFormSize = 64 << 10
)

// caller is who makes a request.
type caller struct {
	kind callerKind
	// spawn of a worker's session.
	spawn job.SpawnID
	// token of a worker that joins: the join's body says which spawn it must fit.
	token string
}

type callerKind int

const (
	nobody  callerKind = iota
	user               // an API key, a login, or anybody where authentication is off
	joiner             // a spawn token, not yet checked
	session            // a worker that has joined
)

type callerKey struct{}

func callerOf(ctx context.Context) caller {
	c, _ := ctx.Value(callerKey{}).(caller)
	return c
}

// authenticator decides who may call what.
type authenticator struct {
	sign        signer
	keys        []keyHash // the internal key is not among them: no login is made with it
	internal    api.Secret
	open        bool
	openMetrics bool
	host        string // of ManagerURL; an open Manager on loopback answers to it too
	origin      *http.CrossOriginProtection
	guesses     *guesses
	now         func() time.Time
}

func newAuthenticator(sign signer, keys []keyHash, cfg Config) *authenticator {
	host := ""
	if u, err := url.Parse(cfg.ManagerURL); err == nil {
		host = strings.ToLower(u.Hostname())
	}
	return &authenticator{
		sign: sign, keys: keys, internal: api.Secret(keyPrefix + randomText(32)), open: cfg.Open, openMetrics: cfg.OpenMetrics, host: host,
		origin: http.NewCrossOriginProtection(), guesses: newGuesses(), now: time.Now,
	}
}

// check lets a request pass with its caller in the context, or answers it.
func (a *authenticator) check(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		bearer := bearerOf(r)
		if a.open && atLoopback(r) && !a.isOwnHost(r.Host) {
			writeProblem(w, newFault(http.StatusMisdirectedRequest, "",
				"a Manager without authentication answers to localhost and to addresses only; for another name set -spawner-manager-url, or use an API key"))
			return
		}
		// A browser sends cookies, and to an open Manager anything, from any site's page.
		if bearer == "" {
			if err := a.origin.Check(r); err != nil {
				writeProblem(w, newFault(http.StatusForbidden, "", "the request comes from another site's page"))
				return
			}
		}
		c, f := a.caller(r, bearer)
		if f == nil {
			f = a.allow(c, r)
		}
		switch {
		case f == nil:
			next.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), callerKey{}, c)))
		case f.Status == http.StatusUnauthorized && wantsPage(r):
			http.Redirect(w, r, "/login?next="+url.QueryEscape(r.URL.RequestURI()), http.StatusSeeOther)
		default:
			writeProblem(w, f)
		}
	})
}

// caller finds out who makes the request. A key that is wrong is a fault; none at all is nobody.
func (a *authenticator) caller(r *http.Request, bearer string) (caller, *fault) {
	switch {
	case strings.HasPrefix(bearer, sessionPrefix):
		if id, ok := a.sign.spawnOf(bearer); ok {
			return caller{kind: session, spawn: id}, nil
		}
		return caller{}, unauthorized("the worker session is not valid")
	case strings.HasPrefix(bearer, tokenPrefix):
		return caller{kind: joiner, token: bearer}, nil
	case bearer != "" && sameText(bearer, a.internal.Reveal()), a.open:
		return caller{kind: user}, nil
	case bearer != "":
		if _, f := a.login(r, bearer); f != nil {
			return caller{}, f
		}
		return caller{kind: user}, nil
	}
	if c, err := r.Cookie(cookieName); err == nil && a.sign.isCookie(c.Value, a.keys, a.now()) {
		return caller{kind: user}, nil
	}
	return caller{}, nil
}

// login matches a key, unless its sender has guessed too often. A key of our own making is let in even then: nobody guesses one, and
// who guesses may share an address with who has it. Of one that a person chose, an answer during the penalty would be a try for free.
func (a *authenticator) login(r *http.Request, key string) (keyHash, *fault) {
	if k, ok := matchKey(a.keys, key); ok && isMadeKey(key) {
		return k, nil
	}
	from := clientAddr(r)
	if !a.guesses.may(from) {
		f := newFault(http.StatusTooManyRequests, "", "too many wrong keys from this address: wait")
		f.headers = http.Header{"Retry-After": {"3"}}
		return keyHash{}, f
	}
	k, ok := matchKey(a.keys, key)
	if !ok {
		a.guesses.wrong(from)
		return keyHash{}, unauthorized("the API key is not valid")
	}
	return k, nil
}

// allow holds who may call what. All that is not named here is for users.
func (a *authenticator) allow(c caller, r *http.Request) *fault {
	path := r.URL.Path
	switch {
	case path == "/healthz", path == "/readyz", path == "/login", path == "/logout", path == "/favicon.ico",
		strings.HasPrefix(path, "/static/"), a.openMetrics && r.URL.EscapedPath() == "/metrics": // not /%6detrics, which no proxy's rule finds
		return nil
	case c.kind == nobody:
		return unauthorized("an API key is needed: Authorization: Bearer …")
	case path == api.PathWorkerJoin:
		if c.kind == session {
			return newFault(http.StatusForbidden, "", "this worker has joined already")
		}
		return nil
	case strings.HasPrefix(path, api.Prefix+"/worker/"):
		if c.kind != session {
			return newFault(http.StatusForbidden, "", "a worker session is needed: join first")
		}
		return nil
	case c.kind != user:
		return newFault(http.StatusForbidden, "", "workers may not call this")
	}
	return nil
}

func unauthorized(detail string) *fault {
	f := newFault(http.StatusUnauthorized, "", detail)
	f.headers = http.Header{"Www-Authenticate": {`Bearer realm="gmaps-scraper"`}}
	return f
}

// logIn answers the dashboard's form with a cookie.
func (a *authenticator) logIn(w http.ResponseWriter, r *http.Request) {
	r.Body = http.MaxBytesReader(w, r.Body, maxFormSize)
	if err := r.ParseForm(); err != nil {
		writeProblem(w, newFault(http.StatusBadRequest, "", "the form cannot be read"))
		return
	}
	next := localPath(r.PostForm.Get("next"))
	if !a.open {
		key, f := a.login(r, r.PostForm.Get("key"))
		if f != nil && f.Status == http.StatusTooManyRequests {
			writeProblem(w, f)
			return
		}
		if f != nil {
			http.Redirect(w, r, "/login?error=1&next="+url.QueryEscape(next), http.StatusSeeOther)
			return
		}
		expires := a.now().Add(cookieLife)
		setCookie(w, r, a.sign.cookie(key, expires), expires)
	}
	http.Redirect(w, r, next, http.StatusSeeOther)
}

func (a *authenticator) logOut(w http.ResponseWriter, r *http.Request) {
	setCookie(w, r, "", time.Unix(1, 0))
	http.Redirect(w, r, "/login", http.StatusSeeOther)
}

func setCookie(w http.ResponseWriter, r *http.Request, value string, expires time.Time) {
	http.SetCookie(w, &http.Cookie{
		Name: cookieName, Value: value, Path: "/", Expires: expires, HttpOnly: true, SameSite: http.SameSiteStrictMode,
		Secure: r.TLS != nil || r.Header.Get("X-Forwarded-Proto") == "https",
	})
}

// localPath is next if it leads nowhere but to this server.
func localPath(next string) string {
	u, err := url.Parse(next)
	if err != nil || u.Scheme != "" || u.Host != "" || !strings.HasPrefix(next, "/") || strings.HasPrefix(next, "//") || strings.ContainsAny(next, "\\\r\n") {
		return "/"
	}
	return next
}

// atLoopback says that the request came to an address that only this machine reaches.
func atLoopback(r *http.Request) bool {
	local, ok := r.Context().Value(http.LocalAddrContextKey).(net.Addr)
	if !ok {
		return false // called in memory
	}
	at, err := netip.ParseAddrPort(local.String())
	return err == nil && at.Addr().Unmap().IsLoopback()
}

// isOwnHost reports whether a request's Host may be meant for an open Manager on loopback. A page on the Web cannot call such a Manager
// from another origin, but its own name may come to lead to 127.0.0.1 (DNS rebinding), and then it is of the same origin. So names count
// that nobody on the Web can own: addresses, those without a dot, localhost and what is below it (RFC 6761, section 6.3), and our own.
func (a *authenticator) isOwnHost(hostPort string) bool {
	host := hostPort
	if h, _, err := net.SplitHostPort(hostPort); err == nil {
		host = h
	}
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	if _, err := netip.ParseAddr(strings.Trim(host, "[]")); err == nil {
		return true
	}
	return !strings.Contains(host, ".") || strings.HasSuffix(host, ".localhost") || host == a.host
}

func bearerOf(r *http.Request) string {
	scheme, token, ok := strings.Cut(r.Header.Get("Authorization"), " ")
	if !ok || !strings.EqualFold(scheme, "bearer") {
		return ""
	}
	return strings.TrimSpace(token)
}

// wantsPage tells a person's browser, who is better served by a login than by a problem.
func wantsPage(r *http.Request) bool {
	return (r.Method == http.MethodGet || r.Method == http.MethodHead) &&
		!strings.HasPrefix(r.URL.Path, "/api/") && strings.Contains(r.Header.Get("Accept"), "text/html")
}

// clientAddr is who is counted for wrong keys: an IPv4 address, or the /64 that one subscriber holds of IPv6.
// Headers of proxies are not believed: anybody can write them.
func clientAddr(r *http.Request) netip.Prefix {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		host = r.RemoteAddr
	}
	addr, err := netip.ParseAddr(host)
	if err != nil {
		return netip.Prefix{}
	}
	addr = addr.Unmap().WithZone("")
	bits := addr.BitLen()
	if addr.Is6() {
		bits = 64
	}
	p, _ := addr.Prefix(bits)
	return p
}

// guesses counts wrong keys by address.
type guesses struct {
	mu     sync.Mutex
	byAddr map[netip.Prefix]*rate.Limiter
}

func newGuesses() *guesses { return &guesses{byAddr: make(map[netip.Prefix]*rate.Limiter)} }

// may reports whether the address has tries left.
func (g *guesses) may(from netip.Prefix) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	l := g.byAddr[from]
	return l == nil || l.Tokens() >= 1
}

// wrong takes a try from the address.
func (g *guesses) wrong(from netip.Prefix) {
	g.mu.Lock()
	defer g.mu.Unlock()
	l := g.byAddr[from]
	if l == nil {
		if len(g.byAddr) >= maxGuessers {
			g.forget()
		}
		l = rate.NewLimiter(rate.Every(guessEvery), guessBurst)
		g.byAddr[from] = l
	}
	l.Allow()
}

// forget drops who has been quiet, and somebody in any case.
func (g *guesses) forget() {
	for addr, l := range g.byAddr {
		if l.Tokens() >= guessBurst {
			delete(g.byAddr, addr)
		}
	}
	for addr := range g.byAddr {
		if len(g.byAddr) < maxGuessers {
			return
		}
		delete(g.byAddr, addr)
	}
}
