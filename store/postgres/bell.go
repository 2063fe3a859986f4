package postgres

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
)

const (
	// ringGap bounds the notifications that one Manager sends: rings that fall into it are one. Each takes a lock of the whole server.
	ringGap     = 10 * time.Millisecond
	ringTimeout = 2 * time.Second

	firstRedial = 100 * time.Millisecond
	lastRedial  = 5 * time.Second
	// quietTime is how long nothing may be heard before the listening connection is tested.
	quietTime = 20 * time.Second
	pingTime  = 5 * time.Second
)

// Bell is a doorbell between the Managers of one schema, over LISTEN and NOTIFY. A ring is a hint: it may be lost or doubled.
// Within this process it is heard at once, by the others as soon as the server has passed it on.
type Bell struct {
	store *Store
	end   context.CancelFunc
	done  chan struct{}
	rung  chan struct{} // holds one ring that is to be sent

	mu   sync.Mutex
	next chan struct{} // nil: nobody waits
}

// Bell starts a doorbell, which rings until ctx ends, or Close of it or of the Store. It holds a connection of its own and makes it again,
// for ever, when it is lost; then it wakes all that wait, since rings may have been lost with it.
func (s *Store) Bell(ctx context.Context) *Bell {
	ctx, end := context.WithCancel(ctx)
	context.AfterFunc(s.running, end)
	b := &Bell{store: s, end: end, done: make(chan struct{}), rung: make(chan struct{}, 1)}
	var parts sync.WaitGroup
	parts.Go(func() { b.listen(ctx) })
	parts.Go(func() { b.notify(ctx) })
	s.atWork.Go(func() {
		defer close(b.done)
		defer end()
		parts.Wait()
	})
	return b
}

// Close stops the bell and its connection. Rings of this Manager are then heard by nobody else.
func (b *Bell) Close() error {
	b.end()
	<-b.done
	return nil
}

// Ring wakes all that wait now, here at once, in the other Managers soon. It does not wait for the server and never fails.
func (b *Bell) Ring(context.Context) error {
	b.wake()
	select {
	case b.rung <- struct{}{}:
	default: // one is to be sent already
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

func (b *Bell) wake() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.next != nil {
		close(b.next)
		b.next = nil
	}
}

// The channel is of one schema: several installations may share a database.
const (
	channelName = `SELECT 'gmaps_bell_' || md5(current_schema())`
	// A ring may be lost, so its commit need not wait for the disk.
	ringBell = `SELECT set_config('synchronous_commit', 'off', true) FROM pg_notify('gmaps_bell_' || md5(current_schema()), $1)`
)

// notify sends the rings, several as one.
func (b *Bell) notify(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-b.rung:
		}
		sending, cancel := context.WithTimeout(ctx, ringTimeout)
		err := b.store.single(sending, func(r *reading) { read(r, new([]string), scanText, ringBell, b.store.name) })
		cancel()
		if err != nil && ctx.Err() == nil {
			b.store.log.Debug("a ring was lost", "err", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(ringGap):
		}
	}
}

// listen hears the rings of others, on a connection that it makes again whenever it is lost.
func (b *Bell) listen(ctx context.Context) {
	for wait := firstRedial; ; wait = min(2*wait, lastRedial) {
		began := time.Now()
		err := b.hear(ctx)
		if ctx.Err() != nil {
			return
		}
		if time.Since(began) > lastRedial {
			wait = firstRedial
		}
		b.store.log.Warn("the bell's connection was lost: workers of other Managers' jobs wait for the next sweep", "err", err)
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait + rand.N(wait)):
		}
	}
}

// hear wakes who waits, once it listens and with each ring, until the connection is lost.
func (b *Bell) hear(ctx context.Context) error {
	conn, err := pgx.ConnectConfig(ctx, b.store.dial)
	if err != nil {
		return err
	}
	defer func() {
		bye, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		_ = conn.Close(bye) // it is lost, or not wanted any more
	}()
	var channel string
	if err := conn.QueryRow(ctx, channelName).Scan(&channel); err != nil {
		return err
	}
	if _, err := conn.Exec(ctx, `LISTEN `+pgx.Identifier{channel}.Sanitize()); err != nil {
		return err
	}
	b.wake()
	for {
		quiet, cancel := context.WithTimeout(ctx, quietTime)
		n, err := conn.WaitForNotification(quiet)
		cancel()
		switch {
		case err == nil && n.Payload != b.store.name: // one's own was heard when it was rung
			b.wake()
		case err == nil:
		case ctx.Err() != nil || conn.IsClosed():
			return err
		default:
			if err := ping(ctx, conn); err != nil {
				return fmt.Errorf("nothing was heard for %s, then: %w", quietTime, err)
			}
		}
	}
}

func ping(ctx context.Context, conn *pgx.Conn) error {
	ctx, cancel := context.WithTimeout(ctx, pingTime)
	defer cancel()
	return conn.Ping(ctx)
}
