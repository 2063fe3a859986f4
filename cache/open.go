package cache

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
)

// RedisConfig is where a Redis is and how it is used. Addr is needed.
type RedisConfig struct {
	// Addr is host:port, or a redis:// or rediss:// URL, which may name user, password and database.
	Addr string
	// Username and Password win over those of a URL. Password alone is that of the default user.
	Username, Password string
	// TLS connects with TLS under the system's roots. A rediss:// URL implies it.
	TLS bool
	// Timeout is how long an answer is waited for. Default 100 ms.
	Timeout time.Duration
	// Prefix of all keys. Default "gmaps:".
	Prefix string
	// Logger gets a line when Redis stops answering and when it answers again. nil: none.
	Logger *slog.Logger
}

// startTime bounds the first connection, which may need a name, a handshake and a login.
const startTime = 5 * time.Second

// OpenRedis connects to a Redis of version 6.2 or newer. It returns within 5 s. An error says what is wrong and what mends it, and never
// repeats a password. What goes wrong later is no error. ctx bounds this call only.
func OpenRedis(ctx context.Context, c RedisConfig) (*Redis, error) {
	options, err := c.options()
	if err != nil {
		return nil, err
	}
	r := &Redis{client: redis.NewClient(options), prefix: c.Prefix, timeout: c.Timeout, log: c.Logger}
	if r.prefix == "" {
		r.prefix = "gmaps:"
	}
	if r.timeout <= 0 {
		r.timeout = defaultTimeout
	}
	if r.log == nil {
		r.log = slog.New(slog.DiscardHandler)
	}
	starting, cancel := context.WithTimeout(ctx, startTime)
	defer cancel()
	if err := r.client.Ping(starting).Err(); err != nil {
		r.Close()
		return nil, plain(ctx, options, err)
	}
	return r, nil
}

func (c RedisConfig) options() (*redis.Options, error) {
	o := &redis.Options{Addr: c.Addr}
	if strings.Contains(c.Addr, "://") {
		u, err := url.Parse(c.Addr)
		switch {
		case err != nil || u.Fragment != "":
			return nil, errors.New("not a URL: want redis://user:password@host:6379/0, with other signs than letters, digits and -._~ in user and password written as %XX")
		case u.Scheme != "redis" && u.Scheme != "rediss":
			return nil, errors.New("scheme is neither redis nor rediss: want host:6379, redis://host:6379 or, with TLS, rediss://host:6379")
		}
		if o, err = redis.ParseURL(c.Addr); err != nil {
			return nil, errors.New("path or parameters are not those of a Redis URL: want redis://user:password@host:6379/0")
		}
	}
	host, port, err := net.SplitHostPort(o.Addr)
	if err != nil || port == "" || strings.ContainsAny(host, "@/") {
		return nil, errors.New("not host:port: want localhost:6379, or redis://user:password@host:6379/0")
	}
	if c.Username != "" {
		o.Username = c.Username
	}
	if c.Password != "" {
		o.Password = c.Password
	}
	if c.TLS && o.TLSConfig == nil {
		o.TLSConfig = &tls.Config{ServerName: host, MinVersion: tls.VersionTLS12}
	}
	// One try: the limits of this package are short, and it counts failures itself.
	o.MaxRetries, o.DialerRetries = -1, 1
	o.DialTimeout = startTime
	o.ContextTimeoutEnabled = true
	o.PoolSize, o.PipelinePoolSize = 4, -1
	// Redis before 7.2 knows neither CLIENT SETINFO nor CLIENT MAINT_NOTIFICATIONS. It only refuses them, but nothing here needs them.
	o.DisableIdentity = true
	o.MaintNotificationsConfig = &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}
	return o, nil
}

// plain is err as a person needs it: what, why, mend.
func plain(ctx context.Context, o *redis.Options, err error) error {
	at := o.Addr
	op, dialled := errors.AsType[*net.OpError](err)
	_, notTLS := errors.AsType[tls.RecordHeaderError](err)
	var (
		said    redis.Error
		unknown x509.UnknownAuthorityError
		name    x509.HostnameError
		invalid x509.CertificateInvalidError
	)
	switch {
	case ctx.Err() != nil:
		return fmt.Errorf("connect to Redis at %s: %w", at, context.Cause(ctx))
	case notTLS:
		return fmt.Errorf("Redis at %s does not speak TLS: leave out -redis-tls, or use redis://: %w", at, err)
	case errors.As(err, &unknown), errors.As(err, &name), errors.As(err, &invalid):
		return fmt.Errorf("certificate of Redis at %s is not trusted: %w", at, err)
	case dialled && op.Op == "dial":
		return fmt.Errorf("Redis at %s cannot be reached; is it running, and is that its address from here? %w", at, err)
	case redis.HasErrorPrefix(err, "NOAUTH"):
		return fmt.Errorf("Redis at %s wants a password: -redis-password", at)
	case redis.HasErrorPrefix(err, "WRONGPASS"), redis.HasErrorPrefix(err, "ERR invalid password"):
		return fmt.Errorf("Redis at %s refused the login: check user and password", at)
	case redis.HasErrorPrefix(err, "ERR AUTH"), redis.HasErrorPrefix(err, "ERR Client sent AUTH"):
		return fmt.Errorf("Redis at %s has no password set: leave out -redis-password", at)
	case errors.As(err, &said) && isReply(err):
		return fmt.Errorf("Redis at %s does not serve: %w", at, err)
	case errors.Is(err, context.DeadlineExceeded), isTimeout(err):
		return fmt.Errorf("nothing at %s answered as Redis within %s; is that its port (6379), and does it want TLS (-redis-tls)?", at, startTime)
	default:
		return fmt.Errorf("what answers at %s does not speak as Redis; is that its port (6379), and does it want TLS (-redis-tls)? %w", at, err)
	}
}

func isTimeout(err error) bool {
	timeout, ok := errors.AsType[net.Error](err)
	return ok && timeout.Timeout()
}

// isReply says that err was a reply of Redis: those begin with a word in capitals.
func isReply(err error) bool {
	word, _, _ := strings.Cut(err.Error(), " ")
	return word != "" && strings.Trim(word, "ABCDEFGHIJKLMNOPQRSTUVWXYZ") == ""
}
