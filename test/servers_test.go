package test

import (
	"context"
	"io"
	"net"
	"net/url"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// servers are the addresses of PostgreSQL (DSN), RabbitMQ (amqp URL) and Redis (host:port). An empty one stands for the embedded part.
type servers struct {
	postgres, rabbitmq, redis string
}

func (s servers) flags() []string {
	var flags []string
	for _, f := range [][2]string{{"-dsn", s.postgres}, {"-rabbitmq-url", s.rabbitmq}, {"-redis-addr", s.redis}} {
		if f[1] != "" {
			flags = append(flags, f[0], f[1])
		}
	}
	return flags
}

// realServers are those that make test-e2e starts, with a database of this test's own. RabbitMQ and Redis are shared by all worlds: what is
// in them is hints, named after jobs.
func realServers(t *testing.T) servers {
	t.Helper()
	admin := fromEnv(t, "GMAPS_TEST_POSTGRES")
	return servers{postgres: freshDatabase(t, admin), rabbitmq: fromEnv(t, "GMAPS_TEST_RABBITMQ"), redis: fromEnv(t, "GMAPS_TEST_REDIS")}
}

func fromEnv(t *testing.T, name string) string {
	t.Helper()
	value := os.Getenv(name)
	if value == "" {
		t.Skipf("needs %s: make test-e2e runs this", name)
	}
	return value
}

// freshDatabase makes an empty database beside that of admin and returns its DSN. It is gone after the test.
func freshDatabase(t *testing.T, admin string) string {
	t.Helper()
	name := "gmaps_e2e_" + randomName()
	onDatabase(t, t.Context(), admin, "CREATE DATABASE "+name)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), patience)
		defer cancel()
		onDatabase(t, ctx, admin, "DROP DATABASE "+name+" WITH (FORCE)")
	})
	u, err := url.Parse(admin)
	if err != nil {
		t.Fatalf("GMAPS_TEST_POSTGRES is no URL: %v", err)
	}
	u.Path = "/" + name
	return u.String()
}

func onDatabase(t *testing.T, ctx context.Context, dsn, statement string) {
	t.Helper()
	conn, err := pgx.Connect(ctx, dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(ctx)
	if _, err := conn.Exec(ctx, statement); err != nil {
		t.Fatalf("%s: %v", statement, err)
	}
}

// forwarder lets workers in containers reach a server that listens on this machine's loopback only.
type forwarder struct {
	addr     string
	accepted atomic.Int64
}

// forward listens on addr until the test ends, and connects whoever comes to the server at to.
func forward(t *testing.T, addr, to string) *forwarder {
	t.Helper()
	l, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	f := &forwarder{addr: l.Addr().String()}
	ctx, end := context.WithCancel(context.WithoutCancel(t.Context()))
	var work sync.WaitGroup
	work.Go(func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			f.accepted.Add(1)
			work.Go(func() { join(ctx, in, to) })
		}
	})
	t.Cleanup(func() {
		l.Close()
		end()
		work.Wait()
	})
	return f
}

// join carries bytes both ways until either side has closed or ctx ends.
func join(ctx context.Context, in net.Conn, to string) {
	defer in.Close()
	out, err := (&net.Dialer{Timeout: 5 * time.Second}).DialContext(ctx, "tcp", to)
	if err != nil {
		return
	}
	defer context.AfterFunc(ctx, func() { in.Close(); out.Close() })()
	var back sync.WaitGroup
	back.Go(func() {
		_, _ = io.Copy(in, out)
		in.Close()
	})
	_, _ = io.Copy(out, in)
	out.Close()
	back.Wait()
}

// through returns a host:port or URL with its host and port replaced by addr; what is empty stays so.
func through(address, addr string) string {
	if !strings.Contains(address, "://") {
		return addr
	}
	u, err := url.Parse(address)
	if err != nil {
		return address
	}
	u.Host = addr
	return u.String()
}

// hostPort is where an address of either form leads.
func hostPort(address string) string {
	if u, err := url.Parse(address); err == nil && strings.Contains(address, "://") {
		return u.Host
	}
	return address
}
