// Package web finds places by the requests that Google's own Maps page makes, without a browser: search pages of 20, a place's own
// payload, reviews page by page. What Google answers instead when it refuses is recognised and asked again, as another session and
// from another exit; it is never taken for an empty result.
package web

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"gmaps-scraper/gmaps"
)

// Config is how an Engine behaves. The zero value asks Google politely from this machine's own address.
type Config struct {
	// BaseURL is scheme and host of Google or of a simulator. Default https://www.google.com. An engine with another base
	// never asks Google itself: redirects and short links are asked of the base too.
	BaseURL string
	// Proxies are the exits to take turns with: http, https, socks5 or socks5h URLs, with user:password if need be;
	// host:port is http. None: requests leave directly, through the environment's proxy if it names one.
	Proxies []string

	// RatePerSecond and InFlight bound the requests through one exit; HostRatePerSecond and HostInFlight those through all exits together.
	// 0 is the default: 6/s and 8 per exit, 60/s and 64 together, no bounds when BaseURL is loopback. Negative: no bound.
	RatePerSecond     float64
	InFlight          int
	HostRatePerSecond float64
	HostInFlight      int
	// Limiter shares RatePerSecond of an exit with other workers that use the same one; the bounds above hold besides. nil: not shared.
	Limiter Limiter
	// DirectName names the address that requests without a proxy come from, so that workers behind the same one share its limit.
	// Empty: it is this worker's own.
	DirectName string

	// Retries is how often a request is asked again, as another session and from another exit. Default 5; negative: never.
	Retries int
	// Backoff bounds the random wait before the first retry; it doubles with each, up to 30 s. Default 500 ms.
	Backoff time.Duration
	// MaxWait is how long a request may wait for a benched exit when all are; beyond it the search ends with the reason. Default 2 min.
	MaxWait time.Duration
	// Timeout is for one request with its answer's body. Default 30 s.
	Timeout time.Duration

	// Sessions is how many cookie sets are used in turn. Default 3.
	Sessions int
	// SessionAge is when a session is renewed. Default 30 min.
	SessionAge time.Duration
	// DetailConcurrency bounds the places of one page that are completed (payload, reviews) at the same time. Default 8.
	DetailConcurrency int
	// ChromeVersion is the major version that the requests' headers name. Default DefaultChromeVersion.
	ChromeVersion int

	// Logger gets one Debug line for each request that had to be repeated or given up. nil: none.
	Logger *slog.Logger
	// Drift counts the paths at which the decoder found something else than expected. nil: not counted.
	Drift *gmaps.Drift
	// Quarantine gets every payload that could not be decoded; it may be called from several goroutines. nil: dropped.
	Quarantine func(gmaps.DecodeError)
	// Now is the clock of sessions and benches. Default time.Now.
	Now func() time.Time
	// Transport carries every request in place of the engine's own transports; proxies are then not dialled. For tests.
	Transport http.RoundTripper
}

// Limiter waits until a request through an exit may begin, counted over all workers that name the exit alike.
type Limiter interface {
	// Wait returns ctx's cause if ctx ends first, and no other error: a limiter that cannot tell lets the request go.
	Wait(ctx context.Context, exit string, perSecond float64) error
}

// DefaultChromeVersion is a Chrome of autumn 2026. An outdated browser is one of the signs by which Google tells machines; raise it with releases.
const DefaultChromeVersion = 152

const defaultBaseURL = "https://www.google.com"

// withDefaults returns c with its zero fields filled in and its base parsed, or an error that names field and bound.
func (c Config) withDefaults() (Config, *url.URL, error) {
	if c.BaseURL == "" {
		c.BaseURL = defaultBaseURL
	}
	c.BaseURL = strings.TrimRight(c.BaseURL, "/")
	base, err := url.Parse(c.BaseURL)
	if err != nil || (base.Scheme != "http" && base.Scheme != "https") || base.Host == "" {
		return c, nil, fmt.Errorf("maps-url: not an http or https URL with a host")
	}
	if base.User != nil || base.Path != "" || base.RawQuery != "" || base.Fragment != "" {
		return c, nil, fmt.Errorf("maps-url: only scheme and host may be given")
	}

	var bad error
	atLeast := func(name string, value, bound int) {
		if value < bound && bad == nil {
			bad = fmt.Errorf("%s: %d is below %d", name, value, bound)
		}
	}
	positive := func(name string, value *time.Duration, standard time.Duration) {
		if *value < 0 && bad == nil {
			bad = fmt.Errorf("%s: %s is below 0", name, *value)
		}
		if *value == 0 {
			*value = standard
		}
	}
	orDefault := func(value *int, standard int) {
		if *value == 0 {
			*value = standard
		}
	}
	atLeast("sessions", c.Sessions, 0)
	atLeast("detail-concurrency", c.DetailConcurrency, 0)
	atLeast("chrome-version", c.ChromeVersion, 0)
	positive("backoff", &c.Backoff, 500*time.Millisecond)
	positive("max-wait", &c.MaxWait, 2*time.Minute)
	positive("timeout", &c.Timeout, 30*time.Second)
	positive("session-age", &c.SessionAge, 30*time.Minute)
	if bad != nil {
		return c, nil, bad
	}

	if !isLoopback(base.Hostname()) {
		if c.RatePerSecond == 0 {
			c.RatePerSecond = 6
		}
		if c.HostRatePerSecond == 0 {
			c.HostRatePerSecond = 60
		}
		orDefault(&c.InFlight, 8)
		orDefault(&c.HostInFlight, 64)
	}
	orDefault(&c.Retries, 5)
	c.Retries = max(c.Retries, 0)
	orDefault(&c.Sessions, 3)
	orDefault(&c.DetailConcurrency, 8)
	orDefault(&c.ChromeVersion, DefaultChromeVersion)
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Quarantine == nil {
		c.Quarantine = func(gmaps.DecodeError) {}
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	return c, base, nil
}

func isLoopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || (ip != nil && ip.IsLoopback())
}
