package wakeup

import (
	"bytes"
	"encoding/binary"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	// A connection that breaks at the very moment of Close leaves this one waiting for ever (amqp091-go v1.16.0, Channel.watchChannel).
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("github.com/rabbitmq/amqp091-go.(*Channel).watchChannel.func1"))
}

// fakeBroker speaks as much of AMQP 0-9-1 as a bell that rings needs, with faults that a real broker does not show on demand.
type fakeBroker struct {
	address string

	mu        sync.Mutex
	silent    bool // publishes are neither confirmed nor refused
	alarm     bool // the next publish is answered by connection.blocked, and nothing is confirmed
	published int
	conns     []*fakeConn
}

type fakeConn struct {
	net.Conn
	mu      sync.Mutex
	waiting uint64 // delivery tags up to this one
	broker  *fakeBroker
}

// Methods, as class<<16 | method.
const (
	startOK     = 10<<16 | 11
	tuneOK      = 10<<16 | 31
	openVhost   = 10<<16 | 40
	closeConn   = 10<<16 | 50
	openChannel = 20<<16 | 10
	declare     = 50<<16 | 10
	confirm     = 85<<16 | 10
	publish     = 60<<16 | 40
)

func startFakeBroker(t *testing.T) *fakeBroker {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	b := &fakeBroker{address: l.Addr().String()}
	var work sync.WaitGroup
	work.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			conn := &fakeConn{Conn: c, broker: b}
			b.mu.Lock()
			b.conns = append(b.conns, conn)
			b.mu.Unlock()
			work.Go(conn.serve)
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		b.cut()
		work.Wait()
	})
	return b
}

func (b *fakeBroker) set(change func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	change()
}

func (b *fakeBroker) count() (published, conns int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.published, len(b.conns)
}

func (b *fakeBroker) cut() {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, c := range b.conns {
		_ = c.Close()
	}
}

// relieve ends the alarm: what was published is confirmed.
func (b *fakeBroker) relieve() {
	b.set(func() { b.alarm = false })
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, c := range b.conns {
		c.method(0, 10, 61, nil)
		c.ack()
	}
}

func (c *fakeConn) serve() {
	defer c.Close()
	hello := make([]byte, 8)
	if _, err := io.ReadFull(c, hello); err != nil {
		return
	}
	start := []byte{0, 9}
	start = binary.BigEndian.AppendUint32(start, 0) // properties
	start = longString(longString(start, "PLAIN"), "en_US")
	c.method(0, 10, 10, start)
	for {
		kind, channel, payload, err := readFrame(c)
		if err != nil {
			return
		}
		if kind == 8 {
			c.frame(8, 0, nil) // a heartbeat for a heartbeat
		}
		if kind != 1 {
			continue
		}
		switch binary.BigEndian.Uint32(payload) {
		case startOK:
			c.method(0, 10, 30, []byte{0, 0, 0, 2, 0, 0, 0, 5})
		case tuneOK:
		case openVhost:
			c.method(0, 10, 41, []byte{0})
		case closeConn:
			c.method(0, 10, 51, nil)
		case openChannel:
			c.method(channel, 20, 11, []byte{0, 0, 0, 0})
		case declare:
			c.method(channel, 50, 11, append([]byte{1, 'q'}, make([]byte, 8)...))
		case confirm:
			c.method(channel, 85, 11, nil)
		case publish:
			c.mu.Lock()
			c.waiting++
			c.mu.Unlock()
			c.broker.mu.Lock()
			c.broker.published++
			silent, alarm := c.broker.silent, c.broker.alarm
			c.broker.mu.Unlock()
			switch {
			case alarm:
				c.method(0, 10, 60, append([]byte{13}, "low on memory"...))
			case !silent:
				c.ack()
			}
		}
	}
}

func (c *fakeConn) ack() {
	c.mu.Lock()
	tag := c.waiting
	c.mu.Unlock()
	if tag > 0 {
		c.method(1, 60, 80, append(binary.BigEndian.AppendUint64(nil, tag), 1)) // multiple
	}
}

func (c *fakeConn) method(channel, class, method uint16, args []byte) {
	head := binary.BigEndian.AppendUint16(binary.BigEndian.AppendUint16(nil, class), method)
	c.frame(1, channel, append(head, args...))
}

func (c *fakeConn) frame(kind byte, channel uint16, payload []byte) {
	f := binary.BigEndian.AppendUint16([]byte{kind}, channel)
	f = binary.BigEndian.AppendUint32(f, uint32(len(payload)))
	f = append(append(f, payload...), 0xCE)
	c.mu.Lock()
	defer c.mu.Unlock()
	_, _ = c.Write(f)
}

func readFrame(r io.Reader) (kind byte, channel uint16, payload []byte, err error) {
	head := make([]byte, 7)
	if _, err = io.ReadFull(r, head); err != nil {
		return 0, 0, nil, err
	}
	payload = make([]byte, binary.BigEndian.Uint32(head[3:])+1)
	if _, err = io.ReadFull(r, payload); err != nil {
		return 0, 0, nil, err
	}
	return head[0], binary.BigEndian.Uint16(head[1:]), bytes.TrimSuffix(payload, []byte{0xCE}), nil
}

func longString(b []byte, s string) []byte {
	return append(binary.BigEndian.AppendUint32(b, uint32(len(s))), s...)
}

// waitFor fails the test when the condition does not come true; how long that takes is no matter.
func waitFor(t *testing.T, what string, cond func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !cond(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not within a minute: %s", what)
		}
	}
}

func waitRung(t *testing.T, what string, next <-chan struct{}) {
	t.Helper()
	select {
	case <-next:
	case <-time.After(time.Minute):
		t.Fatalf("no ring within a minute: %s", what)
	}
}

func rung(next <-chan struct{}) bool {
	select {
	case <-next:
		return true
	default:
		return false
	}
}
