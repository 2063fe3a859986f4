package wakeup

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
)

// broker is what may be said of where a bell connects to.
type broker struct {
	address string // host:port
	user    string
	vhost   string
	tls     bool
}

// parseBroker never repeats rawURL in an error, nor what the parser says of it: either may hold a password.
func parseBroker(rawURL string) (broker, error) {
	u, err := url.Parse(rawURL)
	if err != nil {
		return broker{}, errors.New("not a URL: want amqp://user:password@host:5672/vhost, with other signs than letters, digits and -._~ in user and password written as %XX")
	}
	if u.Scheme != "amqp" && u.Scheme != "amqps" {
		return broker{}, errors.New("scheme is neither amqp nor amqps: want amqp://user:password@host:5672/vhost")
	}
	if u.Fragment != "" {
		return broker{}, errors.New("has a #: in a password it is written as %23")
	}
	parsed, err := amqp.ParseURI(rawURL)
	if err != nil {
		return broker{}, errors.New("port, heartbeat, connection_timeout or channel_max is not a number in its range, or there is a space in it")
	}
	return broker{
		address: net.JoinHostPort(parsed.Host, strconv.Itoa(parsed.Port)), user: parsed.Username, vhost: parsed.Vhost,
		tls: parsed.Scheme == "amqps",
	}, nil
}

// errDeclare marks what failed after the login.
var errDeclare = errors.New("declare the queue")

// plain is err as a person needs it: what, why, mend.
func (b broker) plain(ctx context.Context, err error, timeout time.Duration) error {
	if ctx.Err() != nil {
		return fmt.Errorf("connect to RabbitMQ at %s: %w", b.address, context.Cause(ctx))
	}
	said, answered := errors.AsType[*amqp.Error](err)
	_, notTLS := errors.AsType[tls.RecordHeaderError](err)
	var (
		unknown x509.UnknownAuthorityError
		name    x509.HostnameError
		invalid x509.CertificateInvalidError
	)
	switch {
	case notTLS:
		return fmt.Errorf("RabbitMQ at %s does not speak TLS there: use amqp://, or its TLS port (5671): %w", b.address, err)
	case errors.As(err, &unknown), errors.As(err, &name), errors.As(err, &invalid):
		return fmt.Errorf("certificate of RabbitMQ at %s is not trusted: name its authority by ?cacertfile=FILE: %w", b.address, err)
	case isDial(err):
		return fmt.Errorf("RabbitMQ at %s cannot be reached; is it running, and is that its address from here? %w", b.address, err)
	case answered && said.Code == amqp.NotAllowed, errors.Is(err, amqp.ErrVhost):
		return fmt.Errorf("RabbitMQ at %s does not let %q into virtual host %q: %s; create it: rabbitmqctl add_vhost, or permit it: rabbitmqctl set_permissions",
			b.address, b.user, b.vhost, said.Reason)
	case errors.Is(err, errDeclare) && answered && said.Code == amqp.AccessRefused:
		return fmt.Errorf("RabbitMQ at %s forbids %q to declare the queue: %s; permit it: rabbitmqctl set_permissions", b.address, b.user, said.Reason)
	case answered && said.Code == amqp.PreconditionFailed:
		return fmt.Errorf("RabbitMQ at %s has a queue of this name with other settings, or is older than 3.10: %s; delete it, rings are worth nothing: rabbitmqctl delete_queue",
			b.address, said.Reason)
	case answered && said.Code == amqp.AccessRefused:
		return fmt.Errorf("RabbitMQ at %s refused the login of %q: check user and password (guest is accepted from the broker's own machine only)", b.address, b.user)
	case isTimeout(err):
		return fmt.Errorf("nothing at %s answered as RabbitMQ within %s; is that its AMQP port (5672, with TLS 5671, not the 15672 of its web page)?", b.address, timeout)
	case b.tls:
		return fmt.Errorf("what answers at %s is not RabbitMQ with TLS; its TLS port is 5671 by default: %w", b.address, err)
	default:
		return fmt.Errorf("what answers at %s does not speak AMQP 0-9-1; RabbitMQ's port is 5672 by default, 5671 with TLS (amqps://), 15672 is its web page: %w", b.address, err)
	}
}

func isDial(err error) bool {
	op, ok := errors.AsType[*net.OpError](err)
	return ok && op.Op == "dial"
}

// isTimeout reads the text, because the library keeps no more of an error than that. A connection that was closed from here had its time.
func isTimeout(err error) bool {
	timeout, ok := errors.AsType[net.Error](err)
	return ok && timeout.Timeout() || strings.Contains(err.Error(), os.ErrDeadlineExceeded.Error()) || strings.Contains(err.Error(), net.ErrClosed.Error())
}
