package worker

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"gmaps-scraper/api"
)

const (
	firstRetry = 250 * time.Millisecond
	longRetry  = 10 * time.Second
	// longestWish bounds what an answer may ask for: a proxy's page of maintenance must not put a worker to sleep for a day.
	longestWish = time.Minute
)

// opJoin is the call that is persisted in for Config.JoinWithin only.
const opJoin = "join"

// errGaveUp ends a spawned worker that has no Manager any more.
var errGaveUp = errors.New("the manager did not answer")

// persist makes a call until it is answered, with a yes or a no, or ctx ends: then the error is ctx's cause. This is the only place
// where calls are repeated. The pauses double up to longRetry, each at random between nothing and all of it, so that the workers of a
// Manager that comes back do not all come at once.
func (w *Worker) persist(ctx context.Context, op string, call func() error) error {
	for most := firstRetry; ; most = min(2*most, longRetry) {
		err := call()
		now := time.Now()
		if err != nil && ctx.Err() != nil {
			return context.Cause(ctx) // whatever the call says, it was we who ended it
		}
		if !api.Retryable(err) {
			if away := w.link.answered(now); away > 0 {
				w.log.Info("manager answered again", "away", away.Round(time.Millisecond))
			}
			return err
		}
		first, silent := w.link.failed(now)
		if first {
			w.log.Warn("manager did not answer, asked again until it does", "op", op, "err", err)
		}
		patience := w.config.GiveUp
		if op == opJoin {
			patience = w.config.JoinWithin
		}
		if !w.config.Standing && silent >= patience {
			return fmt.Errorf("%w for %s: %w", errGaveUp, silent.Round(time.Second), err)
		}
		pause := time.NewTimer(max(rand.N(most), min(api.RetryAfter(err), longestWish)))
		select {
		case <-pause.C:
		case <-ctx.Done():
			pause.Stop()
			return context.Cause(ctx)
		}
	}
}

// link remembers since when the Manager has not answered, over all calls.
type link struct {
	mu   sync.Mutex
	last time.Time // of an answer
	lost time.Time // first failure since; zero: none
}

// answered returns how long the Manager had been away; 0 if it was not.
func (l *link) answered(now time.Time) time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.last = now
	if l.lost.IsZero() {
		return 0
	}
	away := now.Sub(l.lost)
	l.lost = time.Time{}
	return away
}

// failed reports whether this is the first failure since the last answer, and how long ago that was.
func (l *link) failed(now time.Time) (first bool, silent time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	first = l.lost.IsZero()
	if first {
		l.lost = now
	}
	return first, now.Sub(l.last)
}
