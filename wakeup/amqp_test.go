package wakeup

import (
	"context"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

func dial(t *testing.T, rawURL string, c AMQPConfig) *AMQP {
	t.Helper()
	b, err := DialAMQP(t.Context(), rawURL, c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	return b
}

func ring(t *testing.T, b Bell) {
	t.Helper()
	if err := b.Ring(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func TestARingIsPublished(t *testing.T) {
	t.Parallel()
	broker := startFakeBroker(t)
	b := dial(t, "amqp://"+broker.address, AMQPConfig{})
	ring(t, b)
	waitFor(t, "published", func() bool { n, _ := broker.count(); return n == 1 })
	if ok, detail := b.Health(); !ok || detail != "connected" {
		t.Errorf("health is %v %q", ok, detail)
	}
}

func TestManyRingsBecomeFew(t *testing.T) {
	t.Parallel()
	broker := startFakeBroker(t)
	broker.set(func() { broker.alarm = true })
	b := dial(t, "amqp://"+broker.address, AMQPConfig{})
	ring(t, b)
	waitFor(t, "published", func() bool { n, _ := broker.count(); return n == 1 })
	for range 10_000 {
		ring(t, b) // each returns at once, although the broker takes nothing
	}
	broker.relieve()
	waitFor(t, "the ring that waited is published", func() bool { n, _ := broker.count(); return n >= 2 })
	ring(t, b)
	waitFor(t, "the ring after it is published", func() bool { n, _ := broker.count(); return n >= 3 })
	if n, _ := broker.count(); n > 4 {
		t.Errorf("10,000 rings made %d messages", n)
	}
}

func TestABlockedBrokerIsWaitedForOnTheSameConnection(t *testing.T) {
	t.Parallel()
	broker := startFakeBroker(t)
	broker.set(func() { broker.alarm = true })
	b := dial(t, "amqp://"+broker.address, AMQPConfig{Timeout: time.Second})
	ring(t, b)
	waitFor(t, "health says so", func() bool {
		ok, detail := b.Health()
		return !ok && strings.HasPrefix(detail, "blocked by the broker for ") && strings.HasSuffix(detail, ": low on memory")
	})
	ring(t, b)
	// Longer than Timeout: an alarm is no reason for a new connection, which would be blocked as well.
	waitFor(t, "blocked for a while", func() bool { _, detail := b.Health(); return strings.Contains(detail, " for 2s") })
	if published, conns := broker.count(); published != 1 || conns != 1 {
		t.Errorf("during the alarm: %d messages, %d connections, want 1 and 1", published, conns)
	}
	broker.relieve()
	waitFor(t, "rings that waited are published", func() bool { n, _ := broker.count(); return n == 2 })
	waitFor(t, "health is good again", func() bool { ok, _ := b.Health(); return ok })
}

func TestASilentBrokerGetsANewConnection(t *testing.T) {
	t.Parallel()
	broker := startFakeBroker(t)
	broker.set(func() { broker.silent = true })
	b := dial(t, "amqp://"+broker.address, AMQPConfig{Timeout: time.Second})
	ring(t, b)
	waitFor(t, "a second connection", func() bool { _, conns := broker.count(); return conns > 1 })
	broker.set(func() { broker.silent = false })
	waitFor(t, "the ring is published at last", func() bool {
		n, _ := broker.count()
		ok, _ := b.Health()
		return n >= 2 && ok && len(b.wanted) == 0
	})
}

func TestABrokenConnectionIsMendedAndWakesAllOnce(t *testing.T) {
	t.Parallel()
	broker := startFakeBroker(t)
	b := dial(t, "amqp://"+broker.address, AMQPConfig{})
	next := b.Next()
	broker.cut()
	waitRung(t, "after the reconnection", next)
	ring(t, b)
	waitFor(t, "published on the new connection", func() bool { n, _ := broker.count(); return n == 1 })
}

func TestCloseEndsABellWhoseBrokerIsGone(t *testing.T) {
	t.Parallel()
	for name, hurt := range map[string]func(*fakeBroker){
		"silent":  func(b *fakeBroker) { b.set(func() { b.silent = true }) },
		"blocked": func(b *fakeBroker) { b.set(func() { b.alarm = true }) },
		"cut":     func(b *fakeBroker) { b.cut() },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			broker := startFakeBroker(t)
			b, err := DialAMQP(t.Context(), "amqp://"+broker.address, AMQPConfig{})
			if err != nil {
				t.Fatal(err)
			}
			hurt(broker)
			ring(t, b)
			b.Close()
			if err := b.Ring(t.Context()); err == nil {
				t.Error("a closed bell rings")
			}
			if ok, detail := b.Health(); ok || detail != "closed" {
				t.Errorf("health is %v %q", ok, detail)
			}
		})
	}
}

func TestStartErrorsNameTheMendAndNoSecret(t *testing.T) {
	t.Parallel()
	listen := func(serve func(net.Conn)) string {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		done := make(chan struct{})
		go func() {
			defer close(done)
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				serve(c)
			}
		}()
		t.Cleanup(func() { _ = l.Close(); <-done })
		return l.Addr().String()
	}
	unused := listen(func(c net.Conn) { _ = c.Close() })
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = closed.Close()
	silent := listen(func(c net.Conn) { t.Cleanup(func() { _ = c.Close() }) })
	web := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(web.Close)
	secure := httptest.NewUnstartedServer(http.NotFoundHandler())
	secure.Config.ErrorLog = log.New(io.Discard, "", 0)
	secure.StartTLS()
	t.Cleanup(secure.Close)
	redis := listen(func(c net.Conn) {
		_, _ = c.Read(make([]byte, 64))
		_, _ = io.WriteString(c, "-ERR unknown command 'AMQP'\r\n")
		_ = c.Close()
	})

	host := func(u string) string { _, h, _ := strings.Cut(u, "://"); return h }
	for name, c := range map[string]struct{ url, want string }{
		"unreachable":      {"amqp://u:hunter22@" + closed.Addr().String(), "cannot be reached; is it running"},
		"silent":           {"amqp://u:hunter22@" + silent, "nothing at " + silent + " answered as RabbitMQ within 1s"},
		"silent with TLS":  {"amqps://u:hunter22@" + silent, "nothing at " + silent + " answered as RabbitMQ within 1s"},
		"hangs up":         {"amqp://u:hunter22@" + unused, "does not speak AMQP 0-9-1"},
		"web page":         {"amqp://u:hunter22@" + host(web.URL), "within 1s; is that its AMQP port (5672, with TLS 5671, not the 15672"},
		"redis":            {"amqp://u:hunter22@" + redis, "does not speak AMQP 0-9-1"},
		"TLS where none":   {"amqps://u:hunter22@" + host(web.URL), "does not speak TLS there: use amqp://"},
		"none where TLS":   {"amqp://u:hunter22@" + host(secure.URL), "does not speak AMQP 0-9-1"},
		"unknown root":     {"amqps://u:hunter22@" + host(secure.URL), "is not trusted: name its authority by ?cacertfile=FILE"},
		"other scheme":     {"http://u:hunter22@h", "scheme is neither amqp nor amqps"},
		"slash, password":  {"amqp://u:hunter22/x@h:5672/", "not a URL"},
		"hash, password":   {"amqp://u:hunter22#x@h:5672/", "not a URL"},
		"escape, password": {"amqp://u:hunter22%zz@h:5672/", "not a URL"},
		"bad heartbeat":    {"amqp://u:hunter22@h/?heartbeat=hunter22", "heartbeat"},
		"empty":            {"", "scheme is neither"},
	} {
		t.Run(name, func(t *testing.T) {
			b, err := DialAMQP(t.Context(), c.url, AMQPConfig{Timeout: time.Second})
			if err == nil {
				b.Close()
				t.Fatal("connected")
			}
			if !strings.Contains(err.Error(), c.want) {
				t.Errorf("error is %q, want %q in it", err, c.want)
			}
			if strings.Contains(err.Error(), "hunter22") {
				t.Errorf("error holds the password: %q", err)
			}
		})
	}
}

func TestDialEndsWithItsContext(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0") // accepts, and says nothing
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(50*time.Millisecond, cancel)
	if _, err := DialAMQP(ctx, "amqp://"+l.Addr().String(), AMQPConfig{Timeout: time.Hour}); err == nil || ctx.Err() == nil {
		t.Errorf("err is %v, ctx's %v", err, ctx.Err())
	}
}
