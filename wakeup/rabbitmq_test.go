package wakeup

import (
	"net/url"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/Shopify/toxiproxy/v2"
	amqp "github.com/rabbitmq/amqp091-go"
	"github.com/rs/zerolog"
)

// rabbit is the URL of a real broker, and a queue of the test's own there.
func rabbit(t *testing.T) (rawURL, queue string) {
	t.Helper()
	rawURL = os.Getenv("GMAPS_TEST_RABBITMQ")
	if rawURL == "" {
		t.Skip("needs a RabbitMQ in GMAPS_TEST_RABBITMQ: make test-services runs this")
	}
	queue = "gmaps.test." + t.Name() + "." + time.Now().Format("150405.000000000")
	t.Cleanup(func() {
		channel := plainChannel(t, rawURL)
		if _, err := channel.QueueDelete(queue, false, false, false); err != nil {
			t.Errorf("delete queue: %v", err)
		}
	})
	return rawURL, queue
}

func plainChannel(t *testing.T, rawURL string) *amqp.Channel {
	t.Helper()
	conn, err := amqp.Dial(rawURL)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	channel, err := conn.Channel()
	if err != nil {
		t.Fatal(err)
	}
	return channel
}

// through returns rawURL led through a proxy that can be hurt.
func through(t *testing.T, rawURL string) (string, *toxiproxy.Proxy) {
	t.Helper()
	u, err := url.Parse(rawURL)
	if err != nil {
		t.Fatal(err)
	}
	server := toxiproxy.NewServer(toxiproxy.NewMetricsContainer(nil), zerolog.Nop())
	p := toxiproxy.NewProxy(server, t.Name(), "127.0.0.1:0", u.Host)
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Stop)
	u.Host = p.Listen
	return u.String(), p
}

// messages is how many wait in the queue.
func messages(t *testing.T, channel *amqp.Channel, queue string) int {
	t.Helper()
	q, err := channel.QueueDeclarePassive(queue, true, false, false, false, nil)
	if err != nil {
		t.Fatal(err)
	}
	return q.Messages
}

func TestRabbitMQRingWakesAListener(t *testing.T) {
	t.Parallel()
	u, queue := rabbit(t)
	rings := dial(t, u, AMQPConfig{Queue: queue})
	listens := dial(t, u, AMQPConfig{Queue: queue, Listen: true})
	for range 3 {
		next := listens.Next()
		ring(t, rings)
		waitRung(t, "the listener", next)
	}
	channel := plainChannel(t, u)
	waitFor(t, "nothing is left in the queue", func() bool { return messages(t, channel, queue) == 0 })
}

func TestRabbitMQBellThatOnlyRingsTakesNoRing(t *testing.T) {
	t.Parallel()
	u, queue := rabbit(t)
	b := dial(t, u, AMQPConfig{Queue: queue})
	_ = b.Next()
	ring(t, b)
	channel := plainChannel(t, u)
	waitFor(t, "the ring waits in the queue", func() bool { return messages(t, channel, queue) == 1 })
	q, err := channel.QueueDeclarePassive(queue, true, false, false, false, nil)
	if err != nil || q.Consumers != 0 {
		t.Errorf("%d consumers, err %v", q.Consumers, err)
	}
	// What waits wakes the first that listens.
	listens := dial(t, u, AMQPConfig{Queue: queue, Listen: true})
	next := listens.Next()
	waitFor(t, "taken", func() bool { return rung(next) || messages(t, channel, queue) == 0 })
}

func TestRabbitMQQueueIsQuorumDurableAndBounded(t *testing.T) {
	t.Parallel()
	u, queue := rabbit(t)
	dial(t, u, AMQPConfig{Queue: queue})
	// RabbitMQ compares: other arguments are refused (406) and name what is there.
	for name, c := range map[string]struct {
		durable bool
		args    amqp.Table
		want    string
	}{
		"type": {true, amqp.Table{amqp.QueueTypeArg: amqp.QueueTypeClassic, amqp.QueueMaxLenArg: maxRings,
			amqp.QueueOverflowArg: amqp.QueueOverflowDropHead, amqp.QueueMessageTTLArg: ringTTL.Milliseconds()}, "quorum"},
		"durable": {false, amqp.Table{}, "406"},
		"length":  {true, amqp.Table{amqp.QueueTypeArg: amqp.QueueTypeQuorum, amqp.QueueMaxLenArg: 7}, "1000"},
		"age": {true, amqp.Table{amqp.QueueTypeArg: amqp.QueueTypeQuorum, amqp.QueueMaxLenArg: maxRings,
			amqp.QueueOverflowArg: amqp.QueueOverflowDropHead, amqp.QueueMessageTTLArg: 7}, "30000"},
	} {
		_, err := plainChannel(t, u).QueueDeclare(queue, c.durable, false, false, false, c.args)
		if err == nil || !strings.Contains(err.Error(), "406") || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want 406 and %s in it", name, err, c.want)
		}
	}
}

func TestRabbitMQCutConnectionIsMended(t *testing.T) {
	t.Parallel()
	u, queue := rabbit(t)
	led, proxy := through(t, u)
	listens := dial(t, led, AMQPConfig{Queue: queue, Listen: true})
	rings := dial(t, led, AMQPConfig{Queue: queue})

	before := listens.Next()
	proxy.Stop()
	waitFor(t, "health says so", func() bool {
		ok, detail := rings.Health()
		return !ok && strings.Contains(detail, "connection lost") && strings.Contains(detail, "reconnects")
	})
	ring(t, rings) // kept for later
	if err := proxy.Start(); err != nil {
		t.Fatal(err)
	}
	waitRung(t, "all are woken by the reconnection", before)
	waitFor(t, "both are back", func() bool {
		a, _ := rings.Health()
		b, _ := listens.Health()
		return a && b
	})
	channel := plainChannel(t, u)
	waitFor(t, "the consumer is back and has taken what waited", func() bool {
		q, err := channel.QueueDeclarePassive(queue, true, false, false, false, nil)
		return err == nil && q.Consumers == 1 && q.Messages == 0
	})
	for range 3 {
		next := listens.Next()
		ring(t, rings)
		waitRung(t, "on the new connection", next)
	}
}

func TestRabbitMQThatNoLongerReadsHoldsNobodyUp(t *testing.T) {
	t.Parallel()
	u, queue := rabbit(t)
	led, proxy := through(t, u)
	b := dial(t, led, AMQPConfig{Queue: queue, Timeout: time.Second})
	// Both directions are swallowed: no refusal, no end of the connection.
	for _, stream := range []string{"upstream", "downstream"} {
		if _, err := proxy.Toxics.AddToxicJson(strings.NewReader(`{"name":"` + stream + `","type":"timeout","stream":"` + stream + `","attributes":{"timeout":0}}`)); err != nil {
			t.Fatal(err)
		}
	}
	for range 1000 {
		ring(t, b)
	}
	waitFor(t, "the connection is given up", func() bool { ok, _ := b.Health(); return !ok })
	for _, stream := range []string{"upstream", "downstream"} {
		if err := proxy.Toxics.RemoveToxic(t.Context(), stream); err != nil {
			t.Fatal(err)
		}
	}
	channel := plainChannel(t, u)
	waitFor(t, "the ring arrives all the same", func() bool { return messages(t, channel, queue) > 0 })
}

func TestRabbitMQDeletedQueueComesBack(t *testing.T) {
	t.Parallel()
	u, queue := rabbit(t)
	rings := dial(t, u, AMQPConfig{Queue: queue})
	listens := dial(t, u, AMQPConfig{Queue: queue, Listen: true})
	if _, err := plainChannel(t, u).QueueDelete(queue, false, false, false); err != nil {
		t.Fatal(err)
	}
	next := listens.Next()
	waitRung(t, "by the new consumer", next)
	next = listens.Next()
	ring(t, rings)
	waitRung(t, "through the new queue", next)

	// Without a listener it is the ring that finds the queue gone.
	listens.Close()
	if _, err := plainChannel(t, u).QueueDelete(queue, false, false, false); err != nil {
		t.Fatal(err)
	}
	ring(t, rings)
	waitFor(t, "the queue is there again, and the ring in it", func() bool {
		channel := plainChannel(t, u)
		q, err := channel.QueueDeclarePassive(queue, true, false, false, false, nil)
		return err == nil && q.Messages == 1
	})
}

func TestRabbitMQStartErrorsNameTheMendAndNoSecret(t *testing.T) {
	t.Parallel()
	u, queue := rabbit(t)
	good, err := url.Parse(u)
	if err != nil {
		t.Fatal(err)
	}
	dial(t, u, AMQPConfig{Queue: queue}) // so that there is one to delete
	other := queue + ".other"
	channel := plainChannel(t, u)
	if _, err := channel.QueueDeclare(other, true, false, false, false, nil); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_, _ = plainChannel(t, u).QueueDelete(other, false, false, false)
	})
	with := func(change func(*url.URL)) string {
		c := *good
		change(&c)
		return c.String()
	}
	for name, c := range map[string]struct{ url, queue, want string }{
		"login":       {with(func(u *url.URL) { u.User = url.UserPassword("nobody", "hunter22") }), queue, `refused the login of "nobody"`},
		"vhost":       {with(func(u *url.URL) { u.Path = "/elsewhere" }), queue, `does not let "` + good.User.Username() + `" into virtual host "elsewhere"`},
		"TLS":         {with(func(u *url.URL) { u.Scheme = "amqps" }), queue, "does not speak TLS there: use amqp://"},
		"other queue": {u, other, "has a queue of this name with other settings"},
	} {
		b, err := DialAMQP(t.Context(), c.url, AMQPConfig{Queue: c.queue})
		if err == nil {
			b.Close()
			t.Errorf("%s: connected", name)
			continue
		}
		if !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error is %q, want %q in it", name, err, c.want)
		}
		if strings.Contains(err.Error(), "hunter22") {
			t.Errorf("%s: error holds the password: %q", name, err)
		}
	}
}
