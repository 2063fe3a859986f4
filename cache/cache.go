// Package cache keeps what may be forgotten: places that a job has already, turns at an exit, word that something has changed. With Redis it
// is shared by workers and Managers, without it is within one process. Losing it, or its being slow, costs time and never a result.
package cache

import (
	"context"
	"time"
)

// Seen remembers which places of a job are stored, across the workers of that job. A mark says that the place IS stored; no mark says nothing.
type Seen interface {
	// Has says of each key, in their order, whether it was marked in scope. nil: it cannot tell, which is as if none were.
	Has(ctx context.Context, scope string, keys []string) []bool
	// Mark marks keys in scope for SeenTTL. What cannot be marked is fetched once more by somebody.
	Mark(ctx context.Context, scope string, keys []string)
}

// SeenTTL is how long marks live after the last one of their scope.
const SeenTTL = 24 * time.Hour

// Limiter gives turns at exits, at a rate for each, to all that share it.
type Limiter interface {
	// Wait waits for a turn at exit, at perSecond turns a second. Its only error is ctx's cause.
	Wait(ctx context.Context, exit string, perSecond float64) error
}
