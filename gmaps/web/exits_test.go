package web

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

func twoExits(t *testing.T) *exits {
	t.Helper()
	c, _, err := Config{Proxies: []string{"one:1", "two:2"}}.withDefaults()
	if err != nil {
		t.Fatal(err)
	}
	pool, err := newExits(c)
	if err != nil {
		t.Fatal(err)
	}
	return pool
}

func TestBenchGrowsAndOneSuccessClearsIt(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		pool := twoExits(t)
		x := pool.all[0]
		for n := range 12 {
			pool.fail(x, 0, errors.New("down"))
			bound := min(benchFirst<<n, benchLongest)
			if got := time.Until(x.benched); got < bound/2 || got > bound {
				t.Errorf("failure %d: benched for %s, want %s to %s", n+1, got, bound/2, bound)
			}
			time.Sleep(time.Until(x.benched))
		}
		pool.succeed(x)
		pool.fail(x, 0, errors.New("down"))
		if got := time.Until(x.benched); got > benchFirst {
			t.Errorf("after a success: benched for %s, want at most %s", got, benchFirst)
		}
	})
}

func TestPickWaitsForTheFirstToComeBack(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		pool := twoExits(t)
		pool.fail(pool.all[0], time.Minute, errors.New("late"))
		pool.fail(pool.all[1], 20*time.Second, errors.New("soon"))
		begin := time.Now()
		x, err := pool.pick(t.Context(), nil)
		if err != nil || x != pool.all[1] || time.Since(begin) != 20*time.Second {
			t.Errorf("got %v, %v after %s, want the second after 20s", x, err, time.Since(begin))
		}
	})
}

func TestPickGivesUpBeyondMaxWaitWithTheReason(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		pool := twoExits(t)
		reason := errors.New("refused")
		for _, x := range pool.all {
			pool.fail(x, time.Hour, reason)
		}
		if _, err := pool.pick(t.Context(), nil); !errors.Is(err, reason) {
			t.Errorf("got %v, want %v", err, reason)
		}
	})
}

func TestPickHonoursCancel(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		pool := twoExits(t)
		for _, x := range pool.all {
			pool.fail(x, time.Minute, errors.New("down"))
		}
		cause := errors.New("drained")
		ctx, cancel := context.WithTimeoutCause(t.Context(), time.Second, cause)
		defer cancel()
		if _, err := pool.pick(ctx, nil); !errors.Is(err, cause) {
			t.Errorf("got %v, want %v", err, cause)
		}
	})
}

func TestGateSpacesRequests(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := newGate(2, 0)
		begin := time.Now()
		for range 5 {
			if err := g.enter(t.Context()); err != nil {
				t.Fatal(err)
			}
			g.leave()
		}
		if got := time.Since(begin); got != 2*time.Second {
			t.Errorf("5 requests at 2/s took %s, want 2s", got)
		}
	})
}

func TestPauseGrowsUpToItsBound(t *testing.T) {
	t.Parallel()
	for attempt := 1; attempt < 40; attempt++ {
		if got, bound := pause(time.Second, attempt), min(time.Second<<min(attempt-1, 16), longestPause); got < 0 || got > bound {
			t.Errorf("attempt %d: %s, want at most %s", attempt, got, bound)
		}
	}
}
