package cache

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/Shopify/toxiproxy/v2"
	"github.com/alicebob/miniredis/v2"
	"github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"
	"github.com/rs/zerolog"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patient is a timeout that a busy machine keeps.
const patient = 10 * time.Second

func open(t *testing.T, c RedisConfig) *Redis {
	t.Helper()
	if c.Timeout == 0 {
		c.Timeout = patient
	}
	c.Prefix = "gmaps-test:" + t.Name() + time.Now().Format("150405.000000000") + ":"
	r, err := OpenRedis(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.Close)
	return r
}

func realRedis(t *testing.T) string {
	t.Helper()
	addr := os.Getenv("GMAPS_TEST_REDIS")
	if addr == "" {
		t.Skip("needs a Redis in GMAPS_TEST_REDIS: make test-services runs this")
	}
	return addr
}

// each runs a claim on everything that keeps it.
func each(t *testing.T, claim func(*testing.T, interface {
	Seen
	Limiter
})) {
	t.Helper()
	t.Run("memory", func(t *testing.T) { claim(t, &Memory{}) })
	t.Run("miniredis", func(t *testing.T) { claim(t, open(t, RedisConfig{Addr: miniredis.RunT(t).Addr()})) })
	t.Run("redis", func(t *testing.T) { claim(t, open(t, RedisConfig{Addr: realRedis(t)})) })
}

func TestOnlyWhatIsMarkedIsSeenAndOnlyInItsScope(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, c interface {
		Seen
		Limiter
	}) {
		ctx := t.Context()
		c.Mark(ctx, "job-1", []string{"a", "b"})
		c.Mark(ctx, "job-1", []string{"b", "c"})
		if diff := cmp.Diff([]bool{true, false, true}, c.Has(ctx, "job-1", []string{"a", "x", "c"})); diff != "" {
			t.Error(diff)
		}
		for _, seen := range c.Has(ctx, "job-2", []string{"a", "b"}) {
			if seen {
				t.Error("another job's place is seen")
			}
		}
		c.Mark(ctx, "job-1", nil)
		if len(c.Has(ctx, "job-1", nil)) != 0 {
			t.Error("no keys, but an answer")
		}
	})
}

func TestTurnsAreSpacedAcrossAllWhoShare(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, c interface {
		Seen
		Limiter
	}) {
		const turns, perSecond = 12, 40
		start := time.Now()
		var all sync.WaitGroup
		for range turns {
			all.Go(func() {
				if err := c.Wait(t.Context(), "exit", perSecond); err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
		// Never sooner; later is the machine's affair. A millisecond is what Redis' clock and ours may differ in rounding.
		if took, least := time.Since(start), (turns-1)*time.Second/perSecond-time.Millisecond; took < least {
			t.Errorf("%d turns at %d a second took %s, want %s or more", turns, perSecond, took, least)
		}
		if err := c.Wait(t.Context(), "exit", 0); err != nil {
			t.Errorf("no rate: %v", err)
		}
		ctx, cancel := context.WithCancelCause(t.Context())
		why := fmt.Errorf("why")
		_ = c.Wait(ctx, "slow", 0.001)
		cancel(why)
		if err := c.Wait(ctx, "slow", 0.001); err != why { //nolint:errorlint // the cause itself
			t.Errorf("err is %v, want ctx's cause", err)
		}
	})
}

func TestMemoryIsBounded(t *testing.T) {
	t.Parallel()
	var m Memory
	keys := make([]string, 1000)
	for job := range maxMarks/len(keys) + 10 {
		for i := range keys {
			keys[i] = fmt.Sprintf("%d/%d", job, i)
		}
		m.Mark(t.Context(), fmt.Sprint(job), keys)
	}
	if m.count > maxMarks {
		t.Errorf("%d marks", m.count)
	}
	if got := m.Has(t.Context(), "0", []string{"0/0"}); got != nil {
		t.Error("the oldest job is not forgotten")
	}
	if got := m.Has(t.Context(), fmt.Sprint(maxMarks/len(keys)+9), keys[:1]); !got[0] {
		t.Error("the latest job is forgotten")
	}
}

func TestRedisKeysExpireAndHoldNoSecret(t *testing.T) {
	t.Parallel()
	mini := miniredis.RunT(t)
	r := open(t, RedisConfig{Addr: mini.Addr()})
	r.Mark(t.Context(), "job", []string{"a"})
	if err := r.Wait(t.Context(), "exit", 1); err != nil {
		t.Fatal(err)
	}
	for _, key := range mini.Keys() {
		if ttl := mini.TTL(key); ttl <= 0 || ttl > SeenTTL {
			t.Errorf("%s lives for %s", key, ttl)
		}
	}
	mini.FastForward(SeenTTL + time.Second)
	if len(mini.Keys()) != 0 {
		t.Errorf("left: %v", mini.Keys())
	}
}

func TestAFlushedRedisOnlyForgets(t *testing.T) {
	t.Parallel()
	addr := miniredis.RunT(t)
	r := open(t, RedisConfig{Addr: addr.Addr()})
	r.Mark(t.Context(), "job", []string{"a"})
	if err := r.Wait(t.Context(), "exit", 0.001); err != nil {
		t.Fatal(err)
	}
	addr.FlushAll() // scripts too: the next turn loads its script again
	if got := r.Has(t.Context(), "job", []string{"a"}); len(got) != 1 || got[0] {
		t.Errorf("after the flush: %v", got)
	}
	if err := r.Wait(t.Context(), "exit", 0.001); err != nil { // the turn before was forgotten
		t.Error(err)
	}
	r.Mark(t.Context(), "job", []string{"a"})
	if got := r.Has(t.Context(), "job", []string{"a"}); len(got) != 1 || !got[0] {
		t.Errorf("marked again: %v", got)
	}
}

func TestARealRedisThatGoesAndComesIsNeverAnError(t *testing.T) {
	t.Parallel()
	server := toxiproxy.NewServer(toxiproxy.NewMetricsContainer(nil), zerolog.Nop())
	proxy := toxiproxy.NewProxy(server, t.Name(), "127.0.0.1:0", realRedis(t))
	if err := proxy.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(proxy.Stop)
	r := open(t, RedisConfig{Addr: proxy.Listen})
	bell := r.Bell(t.Context())
	t.Cleanup(bell.Close)
	r.Mark(t.Context(), "job", []string{"a"})

	proxy.Stop()
	if got := r.Has(t.Context(), "job", []string{"a"}); got != nil {
		t.Errorf("without Redis: %v", got)
	}
	if ok, detail := r.Health(); ok || !strings.HasPrefix(detail, "does not answer since ") || strings.Contains(detail, "127.0.0.1") {
		t.Errorf("health is %v %q", ok, detail)
	}
	for range 1000 { // were each to wait for Redis, this would not end within the test
		r.Mark(t.Context(), "job", []string{"b"})
		if err := r.Wait(t.Context(), "exit", 0.001); err != nil {
			t.Fatal(err)
		}
	}
	next := bell.Next()
	if err := proxy.Start(); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "it answers again", func() bool { ok, _ := r.Health(); return ok })
	if got := r.Has(t.Context(), "job", []string{"a"}); len(got) != 1 || !got[0] {
		t.Errorf("after it came back: %v", got)
	}
	select {
	case <-next:
	case <-time.After(time.Minute):
		t.Error("who waits was not woken by the reconnection")
	}
}

func TestASilentRedisCostsOneTimeoutNotOneEach(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0") // accepts, and says nothing
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	client := redis.NewClient(&redis.Options{Addr: l.Addr().String(), MaxRetries: -1, ContextTimeoutEnabled: true})
	r := &Redis{client: client, timeout: 200 * time.Millisecond, log: slog.New(slog.DiscardHandler)}
	t.Cleanup(r.Close)
	asked := 0
	for range 100 {
		_ = r.do(t.Context(), func(ctx context.Context) error {
			asked++
			return client.Ping(ctx).Err()
		})
	}
	if asked > 5 {
		t.Errorf("asked %d times", asked)
	}
	if ok, _ := r.Health(); ok {
		t.Error("health is good")
	}
}

func TestCallsThatFailTogetherAreOneOutage(t *testing.T) {
	t.Parallel()
	r := &Redis{client: redis.NewClient(&redis.Options{Addr: "127.0.0.1:0"}), timeout: patient, log: slog.New(slog.DiscardHandler)}
	t.Cleanup(r.Close)
	const calls = 8
	var inFlight, all sync.WaitGroup
	inFlight.Add(calls)
	for range calls {
		all.Go(func() {
			_ = r.do(t.Context(), func(context.Context) error {
				inFlight.Done()
				inFlight.Wait()
				return net.ErrClosed
			})
		})
	}
	all.Wait()
	if left := time.Until(r.until); r.failures != 1 || left > firstBreak {
		t.Errorf("%d failures counted, left alone for %s more: want 1 and up to %s", r.failures, left, firstBreak)
	}
	// Whoever tries it after the break finds another one.
	r.until = time.Time{}
	_ = r.do(t.Context(), func(context.Context) error { return net.ErrClosed })
	if r.failures != 2 {
		t.Errorf("%d failures counted after another, want 2", r.failures)
	}
}

func TestABellRingsAtEveryManager(t *testing.T) {
	t.Parallel()
	mini := miniredis.RunT(t)
	r := open(t, RedisConfig{Addr: mini.Addr()})
	a, b := r.Bell(t.Context()), r.Bell(t.Context())
	t.Cleanup(a.Close)
	t.Cleanup(b.Close)
	waitFor(t, "both subscribed", func() bool { return mini.PubSubNumSub(a.topic)[a.topic] == 2 })
	atA, atB := a.Next(), b.Next()
	if err := a.Ring(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, next := range []<-chan struct{}{atA, atB} {
		select {
		case <-next:
		case <-time.After(time.Minute):
			t.Fatal("not rung")
		}
	}
}

func TestStartErrorsNameTheMendAndNoSecret(t *testing.T) {
	t.Parallel()
	locked := miniredis.RunT(t)
	locked.RequireAuth("right")
	free := miniredis.RunT(t)
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = closed.Close()
	web, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := web.Accept()
			if err != nil {
				return
			}
			_, _ = c.Read(make([]byte, 1024))
			_, _ = c.Write([]byte("HTTP/1.1 400 Bad Request\r\n\r\n"))
			_ = c.Close()
		}
	}()
	t.Cleanup(func() { _ = web.Close(); <-done })
	for name, c := range map[string]struct {
		config RedisConfig
		want   string
	}{
		"unreachable":    {RedisConfig{Addr: closed.Addr().String(), Password: "hunter22"}, "cannot be reached; is it running"},
		"no password":    {RedisConfig{Addr: locked.Addr()}, "wants a password: -redis-password"},
		"wrong password": {RedisConfig{Addr: "redis://:hunter22@" + locked.Addr()}, "refused the login"},
		"web page":       {RedisConfig{Addr: web.Addr().String(), Password: "hunter22"}, "does not speak as Redis; is that its port (6379)"},
		"TLS where none": {RedisConfig{Addr: free.Addr(), TLS: true, Password: "hunter22"}, "TLS"},
		"no port":        {RedisConfig{Addr: "localhost"}, "not host:port"},
		"user in it":     {RedisConfig{Addr: "u:hunter22@localhost:6379"}, "not host:port"},
		"not a URL":      {RedisConfig{Addr: "redis://u:hunter22/x@localhost:6379"}, "not a URL"},
		"other scheme":   {RedisConfig{Addr: "http://u:hunter22@localhost:6379"}, "scheme is neither redis nor rediss"},
		"bad database":   {RedisConfig{Addr: "redis://u:hunter22@localhost:6379/hunter22"}, "path or parameters"},
	} {
		r, err := OpenRedis(t.Context(), c.config)
		if err == nil {
			r.Close()
			t.Errorf("%s: connected", name)
			continue
		}
		if !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error is %q, want %q in it", name, err, c.want)
		}
		if strings.Contains(err.Error(), "hunter22") {
			t.Errorf("%s: error holds the password: %q", name, err)
		}
	}
	right := open(t, RedisConfig{Addr: "redis://:hunter22@" + locked.Addr() + "/1", Password: "right"})
	if ok, detail := right.Health(); !ok {
		t.Errorf("health is %q", detail)
	}
}

// waitFor fails the test when the condition does not come true; how long that takes is no matter.
func waitFor(t *testing.T, what string, cond func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !cond(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not within a minute: %s", what)
		}
	}
}
