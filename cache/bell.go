package cache

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

// Bell is a doorbell over Redis' publish/subscribe: a ring wakes all that wait, at every Manager. Rings may be lost and doubled; after a
// reconnection all are woken once.
type Bell struct {
	redis  *Redis
	topic  string
	sub    *redis.PubSub
	stop   context.CancelFunc
	done   <-chan struct{}
	wanted chan struct{}
	work   sync.WaitGroup

	mu   sync.Mutex
	next chan struct{} // nil: nobody waits
}

// Bell subscribes to the rings of all that share the Redis. Close it before the Redis. It returns at once: the subscription is made, and
// made again after a loss, in the background.
func (r *Redis) Bell(ctx context.Context) *Bell {
	alive, stop := context.WithCancel(context.WithoutCancel(ctx))
	b := &Bell{redis: r, topic: r.prefix + "changed", stop: stop, done: alive.Done(), wanted: make(chan struct{}, 1)}
	b.sub = r.client.Subscribe(alive) // to nothing yet: that would wait for the connection
	b.work.Go(func() { b.hear(alive) })
	b.work.Go(func() { b.publish(alive) })
	return b
}

// Ring leaves word to publish, and returns at once. Rings that wait together become one; those to a Redis that does not answer are lost.
func (b *Bell) Ring(context.Context) error {
	select {
	case <-b.done:
		return errors.New("ring: bell is closed")
	default:
	}
	select {
	case b.wanted <- struct{}{}:
	default:
	}
	return nil
}

// Next returns a channel that the next ring closes.
func (b *Bell) Next() <-chan struct{} {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.next == nil {
		b.next = make(chan struct{})
	}
	return b.next
}

// Close ends the subscription and waits for all that the bell has started.
func (b *Bell) Close() {
	b.stop()
	_ = b.sub.Close()
	b.work.Wait()
}

func (b *Bell) wake() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.next != nil {
		close(b.next)
		b.next = nil
	}
}

const ringGap = 25 * time.Millisecond // between two publishes at least; rings in between become one

func (b *Bell) publish(alive context.Context) {
	for {
		select {
		case <-alive.Done():
			return
		case <-b.wanted:
		}
		_ = b.redis.do(alive, func(ctx context.Context) error { return b.redis.client.Publish(ctx, b.topic, "").Err() })
		if sleep(alive, ringGap) != nil {
			return
		}
	}
}

// hear receives until the bell is closed. The client connects and subscribes anew by itself at the next receive after a loss.
func (b *Bell) hear(alive context.Context) {
	_ = b.sub.Subscribe(alive, b.topic) // if not now, then with the connection
	for alive.Err() == nil {
		_, err := b.sub.Receive(alive)
		if err == nil {
			b.wake() // a message; or a subscription, before which rings may have been lost
			continue
		}
		if sleep(alive, firstBreak) != nil {
			return
		}
	}
}
