package cache

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

const (
	defaultTimeout = 100 * time.Millisecond
	// A Redis that failed is left alone for firstBreak, then twice as long each time up to longestBreak; meanwhile nobody waits for it.
	firstBreak   = time.Second
	longestBreak = 30 * time.Second
	// maxTurnWait is how far ahead turns are given out. Who would wait longer asks again then, so that one who hangs up wastes little.
	maxTurnWait = 10 * time.Second
)

// Redis is Seen and Limiter over a Redis that workers share, and gives Managers a Bell. It never fails whoever uses it: what Redis does not
// answer within a short time is as if Redis had forgotten it, and then it is not asked for a while.
type Redis struct {
	client  *redis.Client
	prefix  string
	timeout time.Duration
	log     *slog.Logger

	mu       sync.Mutex
	failures int
	until    time.Time // it is not asked before
	lastErr  error
	since    time.Time // of the first failure
}

var (
	_ Seen    = (*Redis)(nil)
	_ Limiter = (*Redis)(nil)
)

// Close ends the connections.
func (r *Redis) Close() {
	_ = r.client.Close() // what it says changes nothing
}

// Health says whether Redis answers, and since when it does not. The text names no address and no secret. It asks within the short timeout.
// Redis not answering makes work slower and nothing else.
func (r *Redis) Health() (ok bool, detail string) {
	_ = r.do(context.Background(), func(ctx context.Context) error { return r.client.Ping(ctx).Err() })
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.lastErr == nil {
		return true, "connected"
	}
	return false, fmt.Sprintf("does not answer since %s: %s", time.Since(r.since).Round(time.Second), reason(r.lastErr))
}

// reason is err in words that name no address.
func reason(err error) string {
	var said redis.Error
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return "too slow"
	case errors.As(err, &said):
		word, _, _ := strings.Cut(said.Error(), " ")
		return "it says " + word
	default:
		return "connection lost"
	}
}

var errBroken = errors.New("redis is left alone for a while")

// do asks Redis within the timeout, or not at all while it is left alone. Only one tries it again after that; others go on without.
func (r *Redis) do(ctx context.Context, ask func(context.Context) error) error {
	r.mu.Lock()
	now := time.Now()
	if now.Before(r.until) {
		r.mu.Unlock()
		return errBroken
	}
	if r.failures > 0 {
		r.until = now.Add(r.timeout) // this one tries
	}
	known := r.failures
	r.mu.Unlock()

	asking, cancel := context.WithTimeout(ctx, r.timeout)
	defer cancel()
	err := ask(asking)
	if err != nil && ctx.Err() != nil {
		return err // the caller hung up: that says nothing of Redis
	}
	r.judge(err, known)
	return err
}

// judge takes note of an answer. known is how many failures there were when it was asked for: calls that were in flight together and fail
// together tell of one outage, not of many.
func (r *Redis) judge(err error, known int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err == nil {
		if r.failures > 0 {
			r.log.Info("redis answers again", "away", time.Since(r.since).Round(time.Millisecond))
		}
		r.failures, r.until, r.lastErr = 0, time.Time{}, nil
		return
	}
	if r.failures != known {
		return
	}
	if r.failures == 0 {
		r.since = time.Now()
		r.log.Warn("redis did not answer, work goes on slower without it", "err", err)
	}
	r.until = time.Now().Add(min(firstBreak<<min(r.failures, 10), longestBreak))
	r.failures++
	r.lastErr = err
}

func (r *Redis) seenKey(scope string) string { return r.prefix + "seen:{" + scope + "}" }

// Has says which keys were marked in scope, in one round trip.
func (r *Redis) Has(ctx context.Context, scope string, keys []string) []bool {
	if len(keys) == 0 {
		return nil
	}
	var out []bool
	err := r.do(ctx, func(ctx context.Context) (err error) {
		out, err = r.client.SMIsMember(ctx, r.seenKey(scope), members(keys)...).Result()
		return err
	})
	if err != nil {
		return nil
	}
	return out
}

// Mark marks keys in scope, in one round trip.
func (r *Redis) Mark(ctx context.Context, scope string, keys []string) {
	if len(keys) == 0 {
		return
	}
	_ = r.do(ctx, func(ctx context.Context) error { // an unmarked place is fetched once more
		_, err := r.client.TxPipelined(ctx, func(p redis.Pipeliner) error {
			p.SAdd(ctx, r.seenKey(scope), members(keys)...)
			p.Expire(ctx, r.seenKey(scope), SeenTTL)
			return nil
		})
		return err
	})
}

func members(keys []string) []any {
	out := make([]any, len(keys))
	for i, k := range keys {
		out[i] = k
	}
	return out
}

// takeTurn gives out turns evenly spaced by ARGV[1] microseconds, by Redis' own clock, so that workers' clocks do not matter. It answers with
// the microseconds until the turn, or, when that is more than ARGV[2], with a negative number: no turn was taken.
// The number is kept as text with all its digits: a plain Lua number of this size would be written in 14.
var takeTurn = redis.NewScript(`
local now = redis.call('TIME')
now = now[1] * 1000000 + now[2]
local turn = tonumber(redis.call('GET', KEYS[1]) or now)
if turn < now then turn = now end
local wait = turn - now
local most = tonumber(ARGV[2])
if wait > most then
	if wait <= most + ARGV[1] then return -most end
	wait = 0
	turn = now -- no run of turns reaches so far: the clock was set back
end
redis.call('SET', KEYS[1], string.format('%.0f', turn + ARGV[1]), 'PX', math.ceil((wait + ARGV[1]) / 1000) + 1000)
return wait
`)

// Wait waits for a turn at exit among all workers. While Redis does not answer it gives no turns: each worker's own limit holds then.
func (r *Redis) Wait(ctx context.Context, exit string, perSecond float64) error {
	if perSecond <= 0 {
		return nil
	}
	gap := time.Duration(float64(time.Second) / perSecond)
	for {
		var micros int64
		err := r.do(ctx, func(ctx context.Context) (err error) {
			micros, err = takeTurn.Run(ctx, r.client, []string{r.prefix + "turn:{" + exit + "}"}, gap.Microseconds(), maxTurnWait.Microseconds()).Int64()
			return err
		})
		if err != nil {
			return context.Cause(ctx)
		}
		if micros >= 0 {
			return sleep(ctx, time.Duration(micros)*time.Microsecond)
		}
		if err := sleep(ctx, -time.Duration(micros)*time.Microsecond/2); err != nil {
			return err
		}
	}
}
