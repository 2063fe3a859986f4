package postgres_test

import (
	"context"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"go.uber.org/goleak"

	"gmaps-scraper/store/postgres"
	"gmaps-scraper/wakeup"
)

var _ wakeup.Bell = (*postgres.Bell)(nil)

const patience = 20 * time.Second // of a busy machine

// waitFor waits until a condition holds.
func waitFor(t *testing.T, what string, holds func() bool) {
	t.Helper()
	again := time.NewTicker(10 * time.Millisecond)
	defer again.Stop()
	for end := time.After(patience); !holds(); {
		select {
		case <-again.C:
		case <-end:
			t.Fatalf("%s did not come to be within %s", what, patience)
		}
	}
}

// heard rings until it is heard: the first rings may come before the other one listens.
func heard(t *testing.T, from, to *postgres.Bell) {
	t.Helper()
	next := to.Next()
	waitFor(t, "a ring heard", func() bool {
		if err := from.Ring(t.Context()); err != nil {
			t.Fatal(err)
		}
		select {
		case <-next:
			return true
		default:
			return false
		}
	})
}

func TestRingIsHeardByAllManagers(t *testing.T) {
	t.Parallel()
	m := managers(t, 3)
	bells := make([]*postgres.Bell, len(m))
	for i, s := range m {
		bells[i] = s.Bell(t.Context())
	}
	for _, from := range bells {
		for _, to := range bells {
			heard(t, from, to)
		}
	}
}

func TestRingIsHeardAtOnceInItsOwnManagerWithoutAServer(t *testing.T) {
	t.Parallel()
	p := newProxy(t)
	s := openStore(t, p.dsn(t, newSchema(t)), postgres.Config{})
	b := s.Bell(t.Context())
	p.cut()
	next := b.Next()
	if err := b.Ring(t.Context()); err != nil {
		t.Fatal(err)
	}
	select {
	case <-next:
	default:
		t.Error("not heard")
	}
}

func TestRingOfAnotherSchemaIsNotHeard(t *testing.T) {
	t.Parallel()
	dsn, there := newSchema(t), managers(t, 2)
	here := openStore(t, dsn, postgres.Config{}).Bell(t.Context())
	far, beside := there[0].Bell(t.Context()), there[1].Bell(t.Context())
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	conn, err := pgx.Connect(ctx, dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(ctx)
	var channel string
	if err := conn.QueryRow(ctx, `SELECT 'gmaps_bell_' || md5(current_schema())`).Scan(&channel); err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Exec(ctx, `LISTEN `+channel); err != nil {
		t.Fatal(err)
	}
	if err := here.Ring(ctx); err != nil {
		t.Fatal(err)
	}
	if _, err := conn.WaitForNotification(ctx); err != nil {
		t.Fatalf("a ring of this schema: %v", err)
	}
	heard(t, far, beside)
	if _, err := conn.Exec(ctx, `SELECT pg_notify($1, 'the end')`, channel); err != nil {
		t.Fatal(err)
	}
	if n, err := conn.WaitForNotification(ctx); err != nil || n.Payload != "the end" {
		t.Errorf("heard %+v, %v, before one's own", n, err)
	}
}

func TestBellWakesAllOnceItIsConnectedAgain(t *testing.T) {
	t.Parallel()
	p := newProxy(t)
	dsn := newSchema(t)
	s := openStore(t, p.dsn(t, dsn), postgres.Config{})
	far := openStore(t, dsn, postgres.Config{}).Bell(t.Context())
	b := s.Bell(t.Context())
	heard(t, far, b)
	p.cut()
	next := b.Next()
	p.mend()
	select {
	case <-next: // nobody rang
	case <-time.After(patience):
		t.Fatal("not woken after the connection was made again")
	}
	heard(t, far, b)
}

func TestClosingLeavesNothingBehind(t *testing.T) {
	dsn := newSchema(t)
	before := goleak.IgnoreCurrent()
	s, err := postgres.Open(t.Context(), dsn, postgres.Config{})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	one, _ := s.Bell(ctx), s.Bell(ctx)
	if _, err := s.Lead(ctx); err != nil {
		t.Fatal(err)
	}
	if err := one.Close(); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	goleak.VerifyNone(t, before)
}

func TestOneManagerLeadsAndAnotherTakesOverWhenItsTermIsOver(t *testing.T) {
	t.Parallel()
	dsn := newSchema(t)
	first, second := openStore(t, dsn, postgres.Config{}), openStore(t, dsn, postgres.Config{})
	lead := func(s *postgres.Store) bool {
		t.Helper()
		leads, err := s.Lead(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return leads
	}
	if !lead(first) || lead(second) || !lead(first) {
		t.Fatal("want the first to lead, and it alone")
	}
	setClock(t, dsn, 5*time.Second) // since its last word
	if lead(second) {
		t.Error("the second leads before the first's term is over")
	}
	if !lead(first) {
		t.Error("the first could not renew")
	}
	setClock(t, dsn, 20*time.Second) // the first is stopped meanwhile: its connection stays
	if !lead(second) || lead(first) {
		t.Error("want the second to lead after the first's term")
	}
	if err := second.Close(); err != nil {
		t.Fatal(err)
	}
	if !lead(first) {
		t.Error("the second did not give the lead away when it was closed")
	}
}
