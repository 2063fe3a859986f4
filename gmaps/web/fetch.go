package web

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strings"
	"time"

	"gmaps-scraper/gmaps"
)

const (
	maxHops      = 6 // redirects and a consent page on the way to one answer
	longestPause = 30 * time.Second
)

var (
	errForeign = errors.New("redirected away from Google")
	errLost    = errors.New("redirected in circles")
)

// ask requests target until read accepts the payload, each time as another session and from another exit. read may return a
// *gmaps.BlockedError for a payload that is not what was asked; any other error of it says that the payload cannot be decoded:
// that is asked once more. The payload is read's only until it returns. The error is the last attempt's.
func (e *Engine) ask(ctx context.Context, lang, target string, read func(payload []byte) error) error {
	undecodable := 0
	return e.retry(ctx, lang, func(ctx context.Context, x *exit, s *session) (bool, error) {
		err := e.visit(ctx, x, s, lang, target, func(k kind, a *answer) error {
			err := errPage
			if k == kindJSON {
				err = read(a.body)
			}
			if _, refused := errors.AsType[*gmaps.BlockedError](err); err == nil || refused {
				return err
			}
			decode := &gmaps.DecodeError{URL: target, Payload: bytes.Clone(a.body), Err: err}
			e.count.undecodable.Add(1)
			e.config.Quarantine(*decode)
			return decode
		})
		if _, ok := errors.AsType[*gmaps.DecodeError](err); ok {
			undecodable++
		}
		return undecodable < 2, err
	})
}

// retry calls try until it succeeds, says that it is no use (again is false), or Config.Retries are used up. It judges exit and session by the outcome.
func (e *Engine) retry(ctx context.Context, lang string, try func(ctx context.Context, x *exit, s *session) (again bool, err error)) error {
	var x *exit
	var s *session
	var last error
	for attempt := range e.config.Retries + 1 {
		if attempt > 0 {
			e.count.retries.Add(1)
			level := slog.LevelDebug
			if !e.repeated.Swap(true) {
				level = slog.LevelWarn // once: when nothing comes, this says why
			}
			e.config.Logger.LogAttrs(ctx, level, "request repeated", slog.Any("err", last), slog.String("exit", x.name))
			if err := sleep(ctx, pause(e.config.Backoff, attempt)); err != nil {
				return err
			}
		}
		var err error
		if x, err = e.exits.pick(ctx, x); err != nil {
			return err
		}
		s, err = e.sessions.get(ctx, s, func(ctx context.Context) (*session, error) { return e.openSession(ctx, x, lang) })
		again := true
		if err == nil {
			again, err = try(ctx, x, s)
		}
		// What a proxy answers may be its own doing, so that another is worth a try.
		again = again && (x.proxied || !permanent(err))
		if err == nil {
			e.exits.succeed(x)
			return nil
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		e.judge(x, s, err)
		if last = err; !again {
			break
		}
	}
	return last
}

// judge retires a session that was refused and benches an exit that was refused or failed.
func (e *Engine) judge(x *exit, s *session, err error) {
	if blocked, ok := errors.AsType[*gmaps.BlockedError](err); ok {
		e.count.blocked(blocked.Kind).Add(1)
		if s != nil {
			e.sessions.retire(s)
		}
		if blocked.Kind != gmaps.BlockedLimited && blocked.Kind != gmaps.BlockedConsent {
			e.exits.fail(x, blocked.RetryAfter, err)
		}
		return
	}
	status, answered := errors.AsType[*statusError](err)
	_, decoded := errors.AsType[*gmaps.DecodeError](err)
	if !decoded && (!answered || status.status == http.StatusProxyAuthRequired || status.status >= 500) {
		e.exits.fail(x, 0, err)
	}
}

// pause is a random wait below a bound that doubles with each attempt: "full jitter" spreads the repeats of many workers best.
func pause(first time.Duration, attempt int) time.Duration {
	bound := min(first<<min(attempt-1, 16), longestPause)
	return rand.N(bound + 1)
}

// visit follows redirects and answers one consent page on the way to an answer of target, which accept reads.
func (e *Engine) visit(ctx context.Context, x *exit, s *session, lang, target string, accept func(kind, *answer) error) error {
	at, consented := target, false
	for range maxHops {
		a, err := e.exchange(ctx, x, s, lang, at, nil)
		if err != nil {
			return err
		}
		k, err := classify(a, e.config.Now())
		switch {
		case err != nil:
		case k == kindConsent && consented:
			err = &gmaps.BlockedError{Kind: gmaps.BlockedConsent, URL: brief(target)}
		case k == kindConsent:
			consented = true
			at, err = target, e.answerConsent(ctx, x, s, lang, a)
		case k == kindRedirect:
			if !e.trusted(a.location) {
				err = fmt.Errorf("ask %s: %w: to %s", brief(target), errForeign, a.location.Hostname())
			}
			at = a.location.String()
		default:
			err = accept(k, a)
			a.free()
			return err
		}
		a.free()
		if err != nil {
			return err
		}
	}
	return fmt.Errorf("ask %s: %w", brief(target), errLost)
}

// answerConsent sends the form that rejects all cookies. A page without one leaves it at the consent cookie that every session carries.
func (e *Engine) answerConsent(ctx context.Context, x *exit, s *session, lang string, a *answer) error {
	page := a
	if a.location != nil {
		if !e.trusted(a.location) {
			return fmt.Errorf("ask %s: %w: to %s", brief(a.url.String()), errForeign, a.location.Hostname())
		}
		var err error
		if page, err = e.exchange(ctx, x, s, lang, a.location.String(), nil); err != nil {
			return err
		}
		defer page.free()
	}
	f, ok := rejectForm(page.body)
	if !ok {
		return nil
	}
	action, err := page.url.Parse(f.action)
	if err != nil || !e.trusted(action) {
		return nil
	}
	reply, err := e.exchange(ctx, x, s, lang, action.String(), f.fields)
	if err != nil {
		return err
	}
	reply.free()
	return nil
}

// brief is a URL as errors show it: a pb has up to 2,000 characters, and what differs stands at its front.
func brief(target string) string {
	const most = 240
	if len(target) <= most {
		return target
	}
	return target[:most] + "…"
}

// trusted says whether a request with our cookies may go to u: Google's own hosts, and with another base only that one, to which exchange sends all.
func (e *Engine) trusted(u *url.URL) bool {
	host := strings.ToLower(u.Hostname())
	return u.Host == e.base.Host || gmaps.IsGoogleHost(host) || gmaps.IsGoogleHost(strings.TrimPrefix(host, "consent."))
}

// openSession asks for the page that sets Google's cookies. A host that sets none gives a session all the same.
func (e *Engine) openSession(ctx context.Context, x *exit, lang string) (*session, error) {
	s := newSession(e.config.Now())
	err := e.visit(ctx, x, s, lang, gmaps.SessionURL(e.config.BaseURL, lang), func(kind, *answer) error { return nil })
	if err != nil {
		return nil, fmt.Errorf("open session: %w", err)
	}
	return s, nil
}

// exchange sends one request, a POST if there are fields, and reads the whole answer, which the caller frees.
func (e *Engine) exchange(ctx context.Context, x *exit, s *session, lang, target string, fields url.Values) (*answer, error) {
	if err := e.host.enter(ctx); err != nil {
		return nil, err
	}
	defer e.host.leave()
	if err := x.gate.enter(ctx); err != nil {
		return nil, err
	}
	defer x.gate.leave()

	ctx, cancel := context.WithTimeout(ctx, e.config.Timeout)
	defer cancel()
	req, err := e.newRequest(ctx, s, lang, target, fields)
	if err != nil {
		return nil, err
	}
	e.count.requests.Add(1)
	resp, err := x.transport.RoundTrip(req)
	if err != nil {
		return nil, fmt.Errorf("ask %s through %s: %w", brief(target), x.name, x.redacted(err))
	}
	defer resp.Body.Close()
	s.absorb(resp.Header)

	a := &answer{status: resp.StatusCode, url: req.URL, header: resp.Header}
	if location := resp.Header.Get("Location"); location != "" {
		a.location, _ = req.URL.Parse(location)
	}
	body, received, err := e.bodies.read(resp)
	e.count.bytes.Add(received)
	if err != nil {
		return nil, fmt.Errorf("read answer of %s through %s: %w", brief(target), x.name, x.redacted(err))
	}
	a.body = body.Bytes()
	a.free = func() { e.bodies.put(body) }
	return a, nil
}

func (e *Engine) newRequest(ctx context.Context, s *session, lang, target string, fields url.Values) (*http.Request, error) {
	method, body := http.MethodGet, io.Reader(nil)
	if fields != nil {
		method, body = http.MethodPost, strings.NewReader(fields.Encode())
	}
	req, err := http.NewRequestWithContext(ctx, method, target, body)
	if err != nil {
		return nil, fmt.Errorf("ask %s: %w", brief(target), err)
	}
	if !e.google && req.URL.Host != e.base.Host {
		req.URL.Scheme, req.URL.Host, req.Host = e.base.Scheme, e.base.Host, e.base.Host
	}
	page := strings.HasPrefix(req.URL.Path, "/maps") && !strings.HasPrefix(req.URL.Path, "/maps/preview") || fields != nil
	e.browser.dress(req.Header, lang, page)
	req.Header["Cookie"] = []string{s.cookieHeader()}
	if fields != nil {
		req.Header["Content-Type"] = []string{"application/x-www-form-urlencoded"}
	}
	return req, nil
}
