package postgres_test

import (
	"context"
	"errors"
	"net"
	"net/url"
	"strings"
	"testing"
	"time"

	"gmaps-scraper/job"
	"gmaps-scraper/store"
	"gmaps-scraper/store/postgres"
)

const secret = "s3cr3t-p4ss"

// refused opens a store that cannot be, and returns why.
func refused(t *testing.T, dsn string) error {
	t.Helper()
	s, err := postgres.Open(t.Context(), dsn, postgres.Config{})
	if err == nil {
		s.Close()
		t.Fatal("opened")
	}
	if strings.Contains(err.Error(), secret) || strings.Contains(err.Error(), "p4ss") {
		t.Errorf("the password is told: %v", err)
	}
	return err
}

func TestUnreadableDSNIsRefusedWithoutItsPassword(t *testing.T) {
	t.Parallel()
	for _, dsn := range []string{
		"postgres://user:" + secret + "@host:port/db",
		"postgres://user:" + secret + "@host.invalid/db?sslmode=perhaps",
		"postgres://user:" + secret + "/x@host.invalid/db?sslmode=disable",
		"postgres://user:" + secret + "#1@host.invalid:5432/db",
		"postgres://user:" + secret + "?@host.invalid:5432/db",
		"postgres://user:%zz" + secret + "@host.invalid/db",
		"postgres://user:a@" + secret + "@host:x/db",
		"postgres://host.invalid/db?password=" + secret + "&sslmode=perhaps",
		"postgres://host.invalid/db?password=" + secret + "&connect_timeout=soon",
		"host=h.invalid user=u password=" + secret + " sslmode=perhaps",
		"host=h.invalid user=u password='" + secret + " sslmode=disable",
		"user:" + secret + "@host.invalid/db",
		"mysql://user:" + secret + "@host.invalid/db",
		"host=h.invalid password=" + secret + " port=x",
		"host=h.invalid password=" + secret + " pool_max_conns=many",
		"host=h.invalid password=" + secret + " sslrootcert=/nowhere sslmode=verify-full",
		"postgres://user:ssl" + secret + "/x@host.invalid/db?sslmode=disable",
		"postgres://user:ssl" + secret + "#1@host.invalid:5432/db",
		"postgres://user:ssl" + secret + "@host:port/db",
		"postgres://user:sslmode/" + secret + "@host.invalid/db",
		"host=h.invalid password=x port=ssl" + secret,
		"host=h.invalid password=x connect_timeout=ssl" + secret,
		"host=h.invalid password=x sslmode=ssl" + secret,
		"host=h.invalid password=x sslrootcert=ssl" + secret + " sslmode=verify-full",
		`postgres://user:s3cr3t\` + secret + "/x@host.invalid/db",
		`host=h.invalid password=x port=s3cr3t\-p4ss`,
		`host=h.invalid password=x connect_timeout='s3cr3t\-p4s\s'`,
		`host=h.invalid password=x sslrootcert='s3cr3t\-p4\ss' sslmode=verify-full`,
	} {
		err := refused(t, dsn)
		// libpq's grammar reads some of them as another host's: that one is named then.
		read := strings.Contains(err.Error(), "open PostgreSQL")
		if !read && !strings.Contains(err.Error(), "want postgres://user:password@host") {
			t.Errorf("no mend in %v", err)
		}
	}
	if err := refused(t, "host=h.invalid password="+secret+" sslmode=perhaps"); !strings.Contains(err.Error(), "sslmode") {
		t.Errorf("what is wrong is not named: %v", err)
	}
}

func TestNegativeConfigIsRefused(t *testing.T) {
	t.Parallel()
	if _, err := postgres.Open(t.Context(), "postgres://h/db", postgres.Config{MaxConns: -1}); err == nil || !strings.Contains(err.Error(), "MaxConns") {
		t.Errorf("got %v", err)
	}
}

// service listens as something that is no PostgreSQL: says greets each connection with a text, after it has heard something.
func service(t *testing.T, says string) (address string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			t.Cleanup(func() { conn.Close() })
			if says == "" {
				continue
			}
			_, _ = conn.Read(make([]byte, 1024))
			_, _ = conn.Write([]byte(says))
			conn.Close()
		}
	}()
	return l.Addr().String()
}

func TestServersThatCannotServeAreNamedWithTheMend(t *testing.T) {
	t.Parallel()
	gone, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	nobody := gone.Addr().String()
	gone.Close()
	for _, c := range []struct {
		name, host, query, want string
	}{
		{"nobody", nobody, "sslmode=disable", "nobody answers"},
		{"no host", "no-such-host.invalid:5432", "sslmode=disable", "no such host"},
		{"silent service", service(t, ""), "sslmode=disable&connect_timeout=1", "does not speak as PostgreSQL"},
		{"RabbitMQ", service(t, "AMQP\x00\x00\x09\x01"), "sslmode=disable", "does not speak as PostgreSQL"},
		{"Redis", service(t, "-ERR unknown command\r\n"), "sslmode=disable", "does not speak as PostgreSQL"},
		{"no TLS", service(t, "N"), "sslmode=require", "sslmode=disable"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			err := refused(t, "postgres://user:"+secret+"@"+c.host+"/db?"+c.query)
			if !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), c.host) || !errors.Is(err, store.ErrUnavailable) {
				t.Errorf("got %v, want ErrUnavailable with %q and the host", err, c.want)
			}
		})
	}
}

func TestCallerMayGiveUpOpening(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err := postgres.Open(ctx, "postgres://user:"+secret+"@"+service(t, "")+"/db?sslmode=disable", postgres.Config{})
	if !errors.Is(err, context.DeadlineExceeded) || strings.Contains(err.Error(), secret) {
		t.Errorf("got %v", err)
	}
}

// late is a context whose deadline has passed and whose own timer has not fired yet, as on a busy machine.
type late struct{ context.Context }

func (late) Deadline() (time.Time, bool) { return time.Now().Add(-time.Millisecond), true }

func TestDeadlineSeenByTheConnectionFirstIsTheCallers(t *testing.T) {
	t.Parallel()
	_, err := postgres.Open(late{t.Context()}, "postgres://user:"+secret+"@"+service(t, "")+"/db?sslmode=disable", postgres.Config{})
	if !errors.Is(err, context.DeadlineExceeded) || errors.Is(err, store.ErrUnavailable) {
		t.Errorf("got %v", err)
	}
}

func TestWhatTheServerRefusesIsNamedWithTheMend(t *testing.T) {
	t.Parallel()
	change := func(do func(u *url.URL, q url.Values)) string {
		u, err := url.Parse(serverDSN(t))
		if err != nil {
			t.Fatal(err)
		}
		q := u.Query()
		do(u, q)
		u.RawQuery = q.Encode()
		return u.String()
	}
	for _, c := range []struct {
		name, dsn, want string
	}{
		{"database", change(func(u *url.URL, _ url.Values) { u.Path = "/no_such_database" }), "createdb no_such_database"},
		{"login", change(func(u *url.URL, _ url.Values) { u.User = url.UserPassword("nobody_here", secret) }), "refuses the login"},
		{"schema", change(func(_ *url.URL, q url.Values) { q.Set("search_path", "no_such_schema") }), "CREATE SCHEMA"},
	} {
		if err := refused(t, c.dsn); !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want %q", c.name, err, c.want)
		}
	}
}

func TestSchemaOfANewerProgramIsRefused(t *testing.T) {
	t.Parallel()
	dsn := virginSchema(t)
	openStore(t, dsn, postgres.Config{})
	run(t, dsn, `INSERT INTO goose_db_version (version_id, is_applied) VALUES (9000, true)`)
	if err := refused(t, dsn); !strings.Contains(err.Error(), "newer gmaps-scraper") || !strings.Contains(err.Error(), "9000") {
		t.Errorf("got %v", err)
	}
}

func TestReopenedStoreHasEverything(t *testing.T) {
	t.Parallel()
	dsn := newSchema(t)
	s, err := postgres.Open(t.Context(), dsn, postgres.Config{})
	if err != nil {
		t.Fatal(err)
	}
	made, _, err := s.CreateJob(t.Context(), store.NewJob{Tasks: make([]job.Task, 2)})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	got, err := openStore(t, dsn, postgres.Config{}).Job(t.Context(), made.ID)
	if err != nil || got.Counts.Open != 2 {
		t.Errorf("got %+v, %v", got, err)
	}
}
