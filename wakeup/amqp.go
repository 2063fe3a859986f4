package wakeup

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net"
	"sync"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
)

// AMQPConfig is how a bell over RabbitMQ behaves. Its zero value rings and does not listen.
type AMQPConfig struct {
	// Queue is the one queue that carries the rings. Default "gmaps.wakeup".
	Queue string
	// Listen takes rings from the queue for Next. One ring wakes one of those that listen, so a bell that is there to ring must not:
	// it would take the rings of those it means to wake. Without Listen, Next hears reconnections only.
	Listen bool
	// Timeout bounds the first connection, and each exchange with the broker afterwards. Default 5 s.
	Timeout time.Duration
	// Logger gets a line when the connection is lost, is back, is blocked and no longer is. nil: none.
	Logger *slog.Logger
}

const (
	defaultQueue = "gmaps.wakeup"
	// Rings that nobody hears: a quorum queue lives in memory and on disk, so it is bounded in both, and what is older than a few sweeps
	// tells nobody anything.
	maxRings = 1000
	ringTTL  = 30 * time.Second
	// ringGap is the least time between two messages: rings in between become one.
	ringGap = 25 * time.Millisecond

	reconnectEvery = time.Second // and up to half a second more, at random, by the library
	heartbeat      = 5 * time.Second
	// lastWords bounds the farewell to a broker that may not listen any more.
	lastWords = time.Second
)

// AMQP is a Bell over one durable quorum queue of RabbitMQ 3.10 or newer. A broker that is away, in alarm or silent delays rings and never
// who rings: Ring only leaves word, and one goroutine publishes. Broken connections are mended by the library's own recovery; afterwards all
// that wait are woken once, because rings may have been lost.
type AMQP struct {
	config AMQPConfig
	log    *slog.Logger
	conn   *amqp.Connection
	memory Memory        // those that wait here
	wanted chan struct{} // holds a token while a ring is to be published
	stop   context.CancelFunc
	done   <-chan struct{}
	work   sync.WaitGroup

	mu      sync.Mutex
	wire    net.Conn // of the connection
	open    bool
	blocked string    // why the broker takes nothing; empty: it does
	since   time.Time // of the present state
	ended   error     // why the library has given up
	changed chan struct{}
}

var _ Bell = (*AMQP)(nil)

// DialAMQP connects to the broker at rawURL (amqp:// or amqps://, the latter under the system's roots unless the URL names a cacertfile) and
// declares the queue. It returns within c.Timeout. An error says what is wrong and what mends it, and never repeats a password.
// What goes wrong later is the bell's own to mend. ctx bounds this call only.
func DialAMQP(ctx context.Context, rawURL string, c AMQPConfig) (*AMQP, error) {
	if c.Queue == "" {
		c.Queue = defaultQueue
	}
	if c.Timeout <= 0 {
		c.Timeout = 5 * time.Second
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	broker, err := parseBroker(rawURL)
	if err != nil {
		return nil, err
	}
	alive, stop := context.WithCancel(context.WithoutCancel(ctx))
	a := &AMQP{
		config: c, log: c.Logger.With("broker", broker.address), stop: stop, done: alive.Done(),
		wanted: make(chan struct{}, 1), open: true, since: time.Now(), changed: make(chan struct{}),
	}
	abort := func() { stop(); a.cut() }
	guard := time.AfterFunc(c.Timeout, abort) // the library's calls take no context
	unlink := context.AfterFunc(ctx, abort)
	var out ringing
	var in <-chan amqp.Delivery
	err = a.connect(alive, rawURL)
	if err == nil {
		if out, in, err = a.prepare(); err != nil {
			err = fmt.Errorf("%w: %w", errDeclare, err)
		}
	}
	inTime, wanted := guard.Stop(), unlink()
	if err == nil && (!inTime || !wanted) {
		err = net.ErrClosed
	}
	if err != nil {
		if a.conn == nil {
			abort() // the library leaves the socket of a failed handshake open
		} else {
			a.Close()
		}
		return nil, broker.plain(ctx, err, c.Timeout)
	}
	a.work.Go(func() { a.publishRings(alive, out) })
	if c.Listen {
		a.work.Go(func() { a.hear(alive, out.channel, in) })
	}
	return a, nil
}

// connect opens the connection and watches its states.
func (a *AMQP) connect(alive context.Context, rawURL string) error {
	properties := amqp.NewConnectionProperties()
	properties.SetClientConnectionName("gmaps-scraper doorbell")
	conn, err := amqp.DialConfig(rawURL, amqp.Config{
		Heartbeat:  heartbeat,
		Properties: properties,
		Dial:       func(network, addr string) (net.Conn, error) { return a.dial(alive, network, addr) },
		Recovery: &amqp.Recovery{
			ReconnectionConfig: &amqp.ReconnectionConfig{MaxRetryCount: math.MaxInt, RetryInterval: reconnectEvery},
			// A queue or consumer that does not come back leaves the bell deaf: rather all of it is tried again.
			OnTopologyEntityError: func(*amqp.Connection, amqp.TopologyRecoveryEntity) bool { return false },
		},
	})
	if err != nil {
		return err
	}
	a.conn = conn
	states := make(chan *amqp.StateChanged, 8)
	conn.NotifyStateChange(states)
	blocks := conn.NotifyBlocked(make(chan amqp.Blocking, 8))
	a.work.Go(func() { a.watch(alive, states, blocks) })
	return nil
}

// dial is used for reconnections too. alive ends it at once when the bell is closed.
func (a *AMQP) dial(alive context.Context, network, addr string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(alive, a.config.Timeout)
	defer cancel()
	conn, err := (&net.Dialer{}).DialContext(ctx, network, addr)
	if err != nil {
		a.log.Debug("broker not reached", "err", err)
		return nil, err
	}
	// For the handshakes; the library clears it afterwards.
	if err := conn.SetDeadline(time.Now().Add(a.config.Timeout)); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	a.mu.Lock()
	a.wire = conn
	a.mu.Unlock()
	if alive.Err() != nil {
		a.cut() // closed meanwhile
	}
	return wire{conn, a.config.Timeout}, nil
}

// wire is a connection on which no write hangs. A broker in alarm stops reading, and the library, once it writes, heeds no context.
type wire struct {
	net.Conn
	timeout time.Duration
}

func (w wire) Write(p []byte) (int, error) {
	if err := w.SetWriteDeadline(time.Now().Add(w.timeout)); err != nil {
		return 0, err
	}
	return w.Conn.Write(p)
}

// cut breaks the connection, so that every call on it ends and the library makes a new one.
func (a *AMQP) cut() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.wire != nil {
		_ = a.wire.Close()
	}
}

// ringing is the channel on which rings are published, and the rings that no queue took.
type ringing struct {
	channel *amqp.Channel
	lost    chan amqp.Return
}

// prepare opens the channel, declares the queue and, to listen, consumes it.
func (a *AMQP) prepare() (ringing, <-chan amqp.Delivery, error) {
	channel, err := a.conn.Channel()
	if err != nil {
		return ringing{}, nil, err
	}
	if err := a.declare(channel); err != nil {
		return ringing{}, nil, err
	}
	if err := channel.Confirm(false); err != nil {
		return ringing{}, nil, err
	}
	r := ringing{channel, channel.NotifyReturn(make(chan amqp.Return, 8))}
	if !a.config.Listen {
		return r, nil, nil
	}
	if err := channel.Qos(1, 0, false); err != nil {
		return ringing{}, nil, err
	}
	rings, err := a.consume(channel)
	return r, rings, err
}

func (a *AMQP) declare(channel *amqp.Channel) error {
	_, err := channel.QueueDeclare(a.config.Queue, true, false, false, false, amqp.Table{
		amqp.QueueTypeArg:       amqp.QueueTypeQuorum,
		amqp.QueueMaxLenArg:     maxRings,
		amqp.QueueOverflowArg:   amqp.QueueOverflowDropHead,
		amqp.QueueMessageTTLArg: ringTTL.Milliseconds(),
	})
	return err
}

func (a *AMQP) consume(channel *amqp.Channel) (<-chan amqp.Delivery, error) {
	return channel.Consume(a.config.Queue, "", false, false, false, false, nil)
}

// Ring leaves word that somebody is to be woken, and returns at once: the message goes out when the broker takes it. Rings that wait
// together become one. It fails only when the bell is closed.
func (a *AMQP) Ring(context.Context) error {
	select {
	case <-a.done:
		return errClosed
	default:
	}
	a.want()
	return nil
}

var errClosed = errors.New("ring: bell is closed")

func (a *AMQP) want() {
	select {
	case a.wanted <- struct{}{}:
	default:
	}
}

// Next returns a channel that the next ring heard here, or a reconnection, closes.
func (a *AMQP) Next() <-chan struct{} { return a.memory.Next() }

// publishRings publishes what is wanted until the bell is closed.
func (a *AMQP) publishRings(alive context.Context, r ringing) {
	for {
		select {
		case <-alive.Done():
			return
		case <-a.wanted:
		}
		if !a.waitReady(alive) {
			return
		}
		gap := ringGap
		if err := a.publish(alive, r); err != nil {
			a.log.Debug("ring was not taken, it is repeated", "err", err)
			a.want()
			gap = reconnectEvery
		}
		if !pause(alive, gap) {
			return
		}
	}
}

var (
	errInterrupted = errors.New("the connection was lost or blocked")
	errRefused     = errors.New("the broker refused the message")
	errNoQueue     = errors.New("the queue was gone")
)

// publish returns when the broker has confirmed one message, or does not.
func (a *AMQP) publish(alive context.Context, r ringing) error {
	// A broker that neither answers nor says that it is blocked gets a new connection.
	guard := time.AfterFunc(a.config.Timeout, func() {
		if ready, _ := a.state(); ready {
			a.log.Warn("broker did not answer, connection is renewed")
			a.cut()
		}
	})
	defer guard.Stop()
	for len(r.lost) > 0 {
		<-r.lost // of a message that was given up
	}
	confirmed, err := r.channel.PublishWithDeferredConfirm("", a.config.Queue, true, false,
		amqp.Publishing{DeliveryMode: amqp.Persistent, ContentType: "text/plain", Body: []byte("ring")})
	if err != nil {
		return fmt.Errorf("publish: %w", err)
	}
	for {
		ready, changed := a.state()
		if !ready {
			return errInterrupted
		}
		select {
		case <-alive.Done():
			return context.Cause(alive)
		case <-changed:
		case <-confirmed.Done():
			select {
			case <-r.lost: // comes before the confirmation
				if err := a.declare(r.channel); err != nil {
					return fmt.Errorf("%w: %w", errNoQueue, err)
				}
				return errNoQueue
			default:
			}
			if !confirmed.Acked() {
				return errRefused
			}
			return nil
		}
	}
}

// hear acknowledges every ring at once and wakes who waits here. A consumer that the broker ends (its queue was deleted) is started anew.
func (a *AMQP) hear(alive context.Context, channel *amqp.Channel, rings <-chan amqp.Delivery) {
	for {
		for heard := true; heard; {
			var ring amqp.Delivery
			select {
			case <-alive.Done():
				return
			case ring, heard = <-rings:
			}
			if heard {
				_ = ring.Ack(false) // one that comes again is a ring too many
				a.memory.wake()
			}
		}
		if !pause(alive, reconnectEvery) || !a.waitReady(alive) {
			return
		}
		guard := time.AfterFunc(a.config.Timeout, a.cut)
		err := a.declare(channel)
		if err == nil {
			rings, err = a.consume(channel)
		}
		guard.Stop()
		if err != nil {
			a.log.Debug("queue not consumed, it is tried again", "err", err)
			closed := make(chan amqp.Delivery)
			close(closed)
			rings = closed
			continue
		}
		a.memory.wake()
	}
}

// watch keeps the state until the bell is closed. The library closes what it notifies, but not always: a connection that breaks while it is
// being closed may leave the channels as they are.
func (a *AMQP) watch(alive context.Context, states <-chan *amqp.StateChanged, blocks <-chan amqp.Blocking) {
	for states != nil || blocks != nil {
		select {
		case <-alive.Done():
			return
		case s, ok := <-states:
			if !ok {
				states = nil
				continue
			}
			a.changeState(s)
		case b, ok := <-blocks:
			if !ok {
				blocks = nil
				continue
			}
			a.changeBlocked(b)
		}
	}
}

func (a *AMQP) changeState(s *amqp.StateChanged) {
	stopping := a.stopping()
	a.change(func() {
		a.open = s.To == amqp.StateOpen
		a.blocked = ""
		if s.To == amqp.StateClosed && !stopping {
			a.ended = errors.Join(s.Err, errGivenUp)
		}
	})
	switch {
	case stopping:
	case s.To == amqp.StateReconnecting:
		a.log.Warn("connection to the broker was lost, workers wake by their own sweeps until it is back")
	case s.To == amqp.StateOpen:
		a.log.Info("connection to the broker is back")
		a.memory.wake() // rings may have been lost
	case s.To == amqp.StateClosed:
		a.log.Error("connection to the broker is closed for good", "err", s.Err)
	}
}

var errGivenUp = errors.New("the connection was closed for good")

func (a *AMQP) changeBlocked(b amqp.Blocking) {
	reason := ""
	if b.Active {
		if reason = b.Reason; reason == "" {
			reason = "no reason given"
		}
		a.log.Warn("broker takes no messages, rings wait", "reason", reason)
	} else {
		a.log.Info("broker takes messages again")
	}
	a.change(func() { a.blocked = reason })
}

func (a *AMQP) change(set func()) {
	a.mu.Lock()
	defer a.mu.Unlock()
	set()
	a.since = time.Now()
	close(a.changed)
	a.changed = make(chan struct{})
}

// state says whether the broker takes messages, and returns a channel that the next change closes.
func (a *AMQP) state() (ready bool, changed <-chan struct{}) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.open && a.blocked == "", a.changed
}

// waitReady is false when the bell was closed instead.
func (a *AMQP) waitReady(alive context.Context) bool {
	for {
		ready, changed := a.state()
		if ready {
			return alive.Err() == nil
		}
		select {
		case <-changed:
		case <-alive.Done():
			return false
		}
	}
}

func (a *AMQP) stopping() bool {
	select {
	case <-a.done:
		return true
	default:
		return false
	}
}

// Health says whether rings get through, and why not. The text names no address and no secret. Not getting through costs who waits a sweep.
func (a *AMQP) Health() (ok bool, detail string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	ago := time.Since(a.since).Round(time.Second)
	switch {
	case a.stopping():
		return false, "closed"
	case a.ended != nil:
		return false, fmt.Sprintf("given up %s ago after a protocol error: restart to connect again", ago)
	case !a.open:
		return false, fmt.Sprintf("connection lost %s ago, reconnects", ago)
	case a.blocked != "":
		return false, fmt.Sprintf("blocked by the broker for %s: %s", ago, a.blocked)
	}
	return true, "connected"
}

// Close ends the connection and waits for all that the bell has started. Rings that were not published are dropped.
func (a *AMQP) Close() {
	a.stop()
	// Cut later than the farewell begins: the library then knows that the connection is not to be mended.
	guard := time.AfterFunc(lastWords, a.cut)
	defer guard.Stop()
	_ = a.conn.CloseDeadline(time.Now().Add(lastWords)) // whatever it says, the connection is closed
	a.work.Wait()
}

// pause is false when alive ended first.
func pause(alive context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-alive.Done():
		return false
	}
}
