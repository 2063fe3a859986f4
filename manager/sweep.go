package manager

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"gmaps-scraper/store"
	"gmaps-scraper/wakeup"
)

// sweeper ends the leases whose time is over. It runs beside the reconciler, so that a backend that hangs holds up no lease.
type sweeper struct {
	store    store.Store
	bell     wakeup.Bell
	leader   Leader
	ttl      time.Duration
	interval time.Duration
	log      *slog.Logger
	now      func() time.Time
	last     time.Time // end of the last complete sweep
}

// Run sweeps at once and every interval until ctx ends.
func (s *sweeper) Run(ctx context.Context) error {
	// A sweep that comes less often than half a lease would take itself for one after an absence, always.
	every := time.NewTicker(min(s.interval, s.ttl/4))
	defer every.Stop()
	for healthy := true; ; {
		err := s.sweep(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil && healthy {
			s.log.ErrorContext(ctx, "leases not swept", "err", err)
		}
		healthy = err == nil
		select {
		case <-ctx.Done():
			return nil
		case <-every.C:
		}
	}
}

// sweep expires leases. If nobody could renew any for a while, because this Manager was stopped, starting or cut off from the
// store, all live ones first get their full time again: the absence is not the workers'.
func (s *sweeper) sweep(ctx context.Context) error {
	lead, err := s.leader.Lead(ctx)
	if err != nil {
		return fmt.Errorf("find out who leads: %w", err)
	}
	if !lead {
		return nil // as if away: the time of the last sweep stays
	}
	if s.away(s.now()) {
		if err := s.store.ExtendLeases(ctx, s.ttl); err != nil {
			return fmt.Errorf("extend leases: %w", err)
		}
	}
	n, err := s.store.Expire(ctx)
	if err != nil {
		return fmt.Errorf("expire leases: %w", err)
	}
	s.last = s.now()
	if n == 0 {
		return nil
	}
	s.log.InfoContext(ctx, "leases expired", "leases", n)
	if err := s.bell.Ring(ctx); err != nil {
		return fmt.Errorf("ring for expired leases: %w", err)
	}
	return nil
}

// away reports whether the last complete sweep is too long ago, by either clock: the monotonic one stands still while a laptop
// sleeps (Linux CLOCK_MONOTONIC, clock_gettime(2)), the other one may be set.
func (s *sweeper) away(now time.Time) bool {
	return s.last.IsZero() || now.Sub(s.last) > s.ttl/2 || now.Round(0).Sub(s.last.Round(0)) > s.ttl/2
}
