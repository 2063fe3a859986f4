package web_test

import (
	"bytes"
	"encoding/base64"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"gmaps-scraper/gmaps"
	"gmaps-scraper/gmaps/web"
)

// httpProxy forwards plain requests and counts them; with a password it asks for user:password.
func httpProxy(t *testing.T, password string) (address string, passed *atomic.Int64) {
	t.Helper()
	passed = new(atomic.Int64)
	forward := &httputil.ReverseProxy{Rewrite: func(*httputil.ProxyRequest) {}}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		want := "Basic " + base64.StdEncoding.EncodeToString([]byte("user:"+password))
		if password != "" && r.Header.Get("Proxy-Authorization") != want {
			w.WriteHeader(http.StatusProxyAuthRequired)
			return
		}
		passed.Add(1)
		forward.ServeHTTP(w, r)
	}))
	t.Cleanup(server.Close)
	return server.Listener.Addr().String(), passed
}

// socksProxy is a SOCKS5 server (RFC 1928) that demands user:password (RFC 1929) and connects to IPv4 addresses and names.
func socksProxy(t *testing.T, password string) (address string, passed *atomic.Int64) {
	t.Helper()
	passed = new(atomic.Int64)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var running sync.WaitGroup
	t.Cleanup(running.Wait)
	t.Cleanup(func() { _ = listener.Close() })
	running.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			running.Go(func() {
				defer conn.Close()
				if target, err := socksHandshake(conn, password); err == nil {
					passed.Add(1)
					defer target.Close()
					go func() {
						_, _ = io.Copy(target, conn)
						_ = target.Close()
					}()
					_, _ = io.Copy(conn, target)
				}
			})
		}
	})
	return listener.Addr().String(), passed
}

var errSOCKS = errors.New("refused")

func socksHandshake(conn net.Conn, password string) (net.Conn, error) {
	read := func(n int) []byte {
		b := make([]byte, n)
		if _, err := io.ReadFull(conn, b); err != nil {
			return make([]byte, n)
		}
		return b
	}
	if methods := read(int(read(2)[1])); !bytes.Contains(methods, []byte{2}) {
		_, _ = conn.Write([]byte{5, 0xff})
		return nil, errSOCKS
	}
	_, _ = conn.Write([]byte{5, 2})
	user := read(int(read(2)[1]))
	if got := read(int(read(1)[0])); string(user) != "user" || string(got) != password {
		_, _ = conn.Write([]byte{1, 1})
		return nil, errSOCKS
	}
	_, _ = conn.Write([]byte{1, 0})
	var host string
	switch read(4)[3] {
	case 1:
		host = net.IP(read(4)).String()
	case 3:
		host = string(read(int(read(1)[0])))
	default:
		return nil, errSOCKS
	}
	port := read(2)
	target, err := net.Dial("tcp", (&net.TCPAddr{IP: net.ParseIP(host), Port: int(port[0])<<8 | int(port[1])}).String())
	if err != nil {
		return nil, err
	}
	_, err = conn.Write([]byte{5, 0, 0, 1, 0, 0, 0, 0, 0, 0})
	return target, err
}

func TestEveryKindOfProxyIsUsedWithItsPassword(t *testing.T) {
	t.Parallel()
	for name, start := range map[string]func(*testing.T, string) (string, *atomic.Int64){"http": httpProxy, "socks5": socksProxy, "socks5h": socksProxy} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			address, passed := start(t, "p@ss:word")
			g := &google{places: makePlaces(25, athens)}
			e := open(t, g, func(c *web.Config) {
				c.Proxies = []string{(&url.URL{Scheme: name, User: url.UserPassword("user", "p@ss:word"), Host: address}).String()}
			})
			if got := len(keys(collect(t, e, over("cafe"), ""))); got != 25 || passed.Load() == 0 {
				t.Errorf("got %d places, %d through the proxy, want 25 and some", got, passed.Load())
			}
		})
	}
}

func TestProxiesTakeTurns(t *testing.T) {
	t.Parallel()
	one, throughOne := httpProxy(t, "")
	two, throughTwo := httpProxy(t, "")
	g := &google{places: makePlaces(100, athens)}
	collect(t, open(t, g, func(c *web.Config) { c.Proxies = []string{one, "http://" + two} }), over("cafe"), "")
	if throughOne.Load() < 3 || throughTwo.Load() < 3 {
		t.Errorf("%d and %d requests: one proxy does the work", throughOne.Load(), throughTwo.Load())
	}
}

func TestFailingProxyIsBenchedAndTheOthersGoOn(t *testing.T) {
	t.Parallel()
	dead := httptest.NewServer(nil)
	dead.Close()
	locked, throughLocked := httpProxy(t, "other")
	good, _ := httpProxy(t, "")
	g := &google{places: makePlaces(200, athens)}
	e := open(t, g, func(c *web.Config) {
		c.Proxies = []string{dead.URL, "http://user:hunter2@" + locked, good}
	})
	if got := len(keys(collect(t, e, over("cafe"), ""))); got != 200 {
		t.Errorf("got %d places, want 200", got)
	}
	// 12 pages and 3 sessions: without a bench each bad proxy would be tried five times and more.
	if got := e.Stats().Retries; got > 6 || throughLocked.Load() > 0 {
		t.Errorf("%d retries, want the two bad proxies left alone after a few", got)
	}
}

func TestRefusedExitIsChangedForAnother(t *testing.T) {
	t.Parallel()
	bad := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Retry-After", "3600")
		w.WriteHeader(http.StatusTooManyRequests)
	}))
	t.Cleanup(bad.Close)
	good, _ := httpProxy(t, "")
	g := &google{places: makePlaces(45, athens)}
	e := open(t, g, func(c *web.Config) { c.Proxies = []string{bad.URL, good} })
	if got := len(keys(collect(t, e, over("cafe"), ""))); got != 45 || e.Stats().Blocked[gmaps.BlockedRate] != 1 {
		t.Errorf("got %d places, stats %+v, want 45 and one block", got, e.Stats())
	}
}

func TestCredentialsAreInNoErrorAndNoLog(t *testing.T) {
	t.Parallel()
	const secret = "hunter2"
	locked, _ := httpProxy(t, "other")
	socks, _ := socksProxy(t, "other")
	dead := httptest.NewServer(nil)
	dead.Close()
	var said strings.Builder
	for _, proxy := range []string{
		"http://user-token:" + secret + "@" + locked, "socks5://user-token:" + secret + "@" + socks, strings.Replace(dead.URL, "http://", "https://user-token:"+secret+"@", 1),
		"ftp://user-token:" + secret + "@host", "http://user-token:" + secret + "@host:port:%zz", "http://user-token:" + secret + "@",
	} {
		e, err := web.New(web.Config{
			BaseURL: serve(t, &google{}), Proxies: []string{proxy}, Retries: 1, Backoff: time.Millisecond, MaxWait: time.Nanosecond,
			Logger: slog.New(slog.NewTextHandler(&said, &slog.HandlerOptions{Level: slog.LevelDebug})),
		})
		if err == nil {
			_, err = collectErr(t.Context(), e, over("cafe"), "")
			e.Close()
		}
		if err == nil {
			t.Fatal("a bad proxy is no error")
		}
		said.WriteString(err.Error() + "\n")
	}
	if text := said.String(); strings.Contains(text, secret) || strings.Contains(text, "user-token") {
		t.Errorf("credentials in:\n%s", text)
	}
}

func TestConfigNamesFieldAndBound(t *testing.T) {
	t.Parallel()
	for want, c := range map[string]web.Config{
		"maps-url: not an http":          {BaseURL: "ftp://x"},
		"maps-url: only scheme and host": {BaseURL: "https://www.google.com/maps"},
		"sessions: -1 is below 0":        {Sessions: -1},
		"timeout: -1s is below 0":        {Timeout: -time.Second},
		"proxies: entry 2: scheme":       {Proxies: []string{"host:1", "ftp://host"}},
	} {
		if _, err := web.New(c); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
	if _, err := web.New(web.Config{}); err != nil {
		t.Errorf("the zero value: %v", err)
	}
}

func TestRatesAndInFlightBoundsHold(t *testing.T) {
	t.Parallel()
	var now, most atomic.Int64
	g := &google{places: makePlaces(40, athens)}
	slow := make(chan struct{})
	g.answer = func(_ http.ResponseWriter, r *http.Request) bool {
		if isDetail(r) {
			n := now.Add(1)
			defer now.Add(-1)
			for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
			}
			if n == 3 {
				close(slow)
			}
			<-slow // until as many as may be are here
		}
		return false
	}
	q := over("cafe")
	q.Detail = gmaps.DetailAlways
	e := open(t, g, func(c *web.Config) { c.InFlight = 3; c.DetailConcurrency = 20 })
	done := make(chan struct{})
	go func() {
		defer close(done)
		for range e.Search(t.Context(), q, "") {
			break
		}
	}()
	<-done
	if got := most.Load(); got != 3 {
		t.Errorf("%d requests at once, want 3", got)
	}
}
