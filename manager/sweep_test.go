package manager

import (
	"context"
	"strings"
	"testing"
	"time"

	"gmaps-scraper/store"
)

func TestSweepExtendsLeasesAfterAnAbsence(t *testing.T) {
	t.Parallel()
	const always, never = "extend expire", "expire"
	for _, test := range []struct {
		name string
		pass time.Duration // since the last sweep
		want string
	}{
		{"in time", 2 * time.Second, never},
		{"late, but within half a lease", 15 * time.Second, never},
		{"stopped for longer", 16 * time.Second, always},
		{"away for minutes", 5 * time.Minute, always},
		{"clock set back", -time.Hour, never},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			c := newTrial(t, nil)
			sweep := func() string {
				c.rows().set(func(s *rowStore) { s.sweeps = nil })
				if err := c.r.sweeper.sweep(t.Context()); err != nil {
					t.Fatal(err)
				}
				return strings.Join(c.rows().sweeps, " ")
			}
			if got := sweep(); got != always {
				t.Errorf("first sweep: got %q, want %q", got, always)
			}
			c.pass(test.pass)
			if got := sweep(); got != test.want {
				t.Errorf("second sweep: got %q, want %q", got, test.want)
			}
			if got := sweep(); got != never {
				t.Errorf("third sweep: got %q, want %q", got, never)
			}
		})
	}
}

func TestSweepAfterFailuresCountsAsAbsence(t *testing.T) {
	t.Parallel()
	c := newTrial(t, nil)
	if err := c.r.sweeper.sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	c.rows().set(func(s *rowStore) { s.fail = store.ErrUnavailable })
	for range 10 {
		c.pass(2 * time.Second)
		if err := c.r.sweeper.sweep(t.Context()); err == nil {
			t.Fatal("sweep of a store that is away: no error")
		}
	}
	c.rows().set(func(s *rowStore) { s.fail, s.sweeps = nil, nil })
	if err := c.r.sweeper.sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(c.rows().sweeps, " "); got != "extend expire" {
		t.Errorf("got %q, want the leases extended first", got)
	}
}

func TestSweepRingsForExpiredLeases(t *testing.T) {
	t.Parallel()
	c := newTrial(t, nil)
	for n, want := range []bool{false, true} {
		c.rows().set(func(s *rowStore) { s.expired = n })
		rung := c.cfg.Bell.Next()
		if err := c.r.sweeper.sweep(t.Context()); err != nil {
			t.Fatal(err)
		}
		select {
		case <-rung:
			if !want {
				t.Error("rang for nothing")
			}
		default:
			if want {
				t.Error("did not ring for an expired lease")
			}
		}
	}
}

func planFor(c *trial) store.Plan { return store.Plan{Backend: c.b.name, Concurrency: 4} }

func withCancel(t *testing.T) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(cancel)
	return ctx, cancel
}
