package worker

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"strings"
	"time"

	"gmaps-scraper/gmaps"
	"gmaps-scraper/job"
)

const (
	blockedRetry  = 30 * time.Second // when Google named no time
	failedRetry   = 2 * time.Second  // doubled with each attempt
	longestRetry  = 2 * time.Minute
	maxErrorBytes = 1000
)

// fetch runs the search of one task from its cursor. It ends with the task's last page, with an error as its last step, or with ctx:
// then the task is left as it stands.
func (l *lease) fetch(ctx context.Context, t job.Task) {
	cursor, err := l.search(ctx, t)
	if err == nil || ctx.Err() != nil {
		return
	}
	l.log.Warn("task failed", "task", t.ID, "attempt", t.Attempts, "err", err)
	step := job.TaskStep{TaskID: t.ID, Cursor: cursor, Error: errorText(err), RetryAfter: job.Duration(retryAfter(err, t.Attempts))}
	_ = l.box.put(ctx, page{Step: step}) // its only error is ctx's
}

// search returns the cursor behind the last page that it put into the outbox.
func (l *lease) search(ctx context.Context, t job.Task) (at gmaps.Cursor, err error) {
	at = t.Cursor
	defer func() {
		if v := recover(); v != nil {
			l.w.sums.add(func(s *Summary) { s.Panics++ })
			l.log.Error("engine panicked", "task", t.ID, "panic", v, "stack", string(debug.Stack()))
			err = fmt.Errorf("engine panicked: %v", v)
		}
	}()
	q := t.Query
	if l.w.config.Seen != nil {
		q.Known = stored{l}
	}
	for p, err := range l.w.config.Engine.Search(ctx, q, t.Cursor) {
		if err != nil {
			return at, err
		}
		last := p.Cursor == ""
		step := job.TaskStep{TaskID: t.ID, Cursor: p.Cursor, Done: last, Saturated: last && p.Saturated}
		if err := l.box.put(ctx, page{Places: found(t.ID, p.Places, l.wanted), Step: step}); err != nil || last {
			return at, err
		}
		at = p.Cursor
	}
	return at, errors.New("engine ended the search before its last page")
}

// stored is what the job of a lease has already.
type stored struct{ *lease }

// Known says which places of the keys are stored.
func (s stored) Known(ctx context.Context, keys []string) []bool {
	return s.w.config.Seen.Has(ctx, string(s.lease.lease.JobID), keys)
}

// wanted says whether a place belongs to the job. One without a position is not known to lie outside.
func (l *lease) wanted(p *gmaps.Place) bool {
	a := l.lease.Spec.Area
	if !a.Strict || p.Location == nil || a.Contains(*p.Location) {
		return true
	}
	l.w.sums.add(func(s *Summary) { s.Outside++ })
	return false
}

// retryAfter is when the next attempt makes sense.
func retryAfter(err error, attempts int) time.Duration {
	if blocked, ok := errors.AsType[*gmaps.BlockedError](err); ok {
		if blocked.RetryAfter > 0 {
			return blocked.RetryAfter
		}
		return blockedRetry
	}
	return min(failedRetry<<min(max(attempts-1, 0), 10), longestRetry)
}

// errorText is an error as a task's row shows it.
func errorText(err error) string {
	text := err.Error()
	if blocked, ok := errors.AsType[*gmaps.BlockedError](err); ok {
		text = fmt.Sprintf("blocked (%s): %s", blocked.Kind, text)
	}
	text = strings.ReplaceAll(text, "\x00", "") // databases refuse it
	return strings.ToValidUTF8(text[:min(len(text), maxErrorBytes)], "")
}
