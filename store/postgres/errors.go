package postgres

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"gmaps-scraper/store"
)

// The SQLSTATEs that are told apart (PostgreSQL documentation, appendix A).
const (
	serializationFailure = "40001"
	deadlockDetected     = "40P01"
	lockNotAvailable     = "55P03"
	readOnly             = "25006"
	idleInTransactionEnd = "25P03"
	invalidAuthorization = "28000"
	invalidPassword      = "28P01"
	noDatabase           = "3D000"
	noSchema             = "3F000"
	noTable              = "42P01"
	tooManyConnections   = "53300"
	noPrivilege          = "42501"
)

var errClosed = fmt.Errorf("%w: it is closed", store.ErrUnavailable)

// classify is the one place that knows which of the database's errors pass: a server that is away, starts, stops or is full, a
// connection that broke, a statement or a lock that took too long. ctx is the caller's: its end is no fault of the database.
func (s *Store) classify(ctx context.Context, err error) error {
	end := ended(ctx)
	switch {
	case err == nil || errors.Is(err, store.ErrUnavailable):
		return err
	case end != nil:
		return end
	case passes(err) || s.isClosed():
		// Not wrapped: a deadline of ours inside must not read as the caller's.
		return fmt.Errorf("%w: %s", store.ErrUnavailable, oneLine(err))
	default:
		return err
	}
}

// ended is why the caller no longer waits, nil while it does. Its deadline is looked at too, since a connection that has it may end by
// it a moment before ctx does.
func ended(ctx context.Context) error {
	if err := context.Cause(ctx); err != nil {
		return err
	}
	if deadline, ok := ctx.Deadline(); ok && !time.Now().Before(deadline) {
		return context.DeadlineExceeded
	}
	return nil
}

// passes reports whether the same call may succeed later.
func passes(err error) bool {
	var e *pgconn.PgError
	if isConnect(err) {
		return true
	}
	if !errors.As(err, &e) {
		// Not said by the server, so it is the network's or the driver's word: unless the answer was read and not understood.
		return pgconn.SafeToRetry(err) || pgconn.Timeout(err) || broken(err)
	}
	switch e.Code {
	case serializationFailure, deadlockDetected, lockNotAvailable, readOnly, idleInTransactionEnd:
		return true
	}
	switch e.Code[:min(2, len(e.Code))] {
	case "08", // connection
		"53", // insufficient resources: a full disk, too many connections
		"57", // operator intervention: shutdown, starting up, statement timeout
		"58": // system error: I/O
		return true
	}
	return false
}

func isConnect(err error) bool {
	var e *pgconn.ConnectError
	return errors.As(err, &e)
}

// broken reports whether an error is that of a connection.
func broken(err error) bool {
	var e net.Error
	return errors.As(err, &e) || errors.Is(err, pgconn.ErrConnClosed) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) ||
		errors.Is(err, net.ErrClosed) || errors.Is(err, context.DeadlineExceeded)
}

func oneLine(err error) string {
	return strings.Join(strings.Fields(err.Error()), " ")
}

// place names the database without its secrets.
func place(cc *pgx.ConnConfig) string {
	return fmt.Sprintf("PostgreSQL database %q at %s", cc.Database, address(cc))
}

func address(cc *pgx.ConnConfig) string {
	if strings.HasPrefix(cc.Host, "/") {
		return cc.Host
	}
	return net.JoinHostPort(cc.Host, strconv.Itoa(int(cc.Port)))
}

// unreadable tells of a DSN that could not be parsed. What pgx says of one is quoted only where no part of the DSN can be a secret that
// was taken for something else: a "/" or "#" in a password is enough to have the rest of it read as a port or a path. What quotes something
// itself quotes the DSN, perhaps with escapes of its own; a backslash escapes in the DSN.
func unreadable(dsn string, err error) error {
	const shape = `want postgres://user:password@host:5432/database?sslmode=require, with signs like @ : / ? # %% in the password percent-encoded, ` +
		`or host=… user=… password='…' dbname=…`
	why := ""
	if inner := errors.Unwrap(err); inner != nil && !strings.ContainsAny(inner.Error(), "\"'`\\") && !strings.Contains(dsn, `\`) && !mentions(inner.Error(), dsn) {
		why = ": " + inner.Error()
	}
	return fmt.Errorf("the database's DSN cannot be read%s: "+shape, why)
}

// mentions reports whether text has a part of the DSN in it, the one word aside that libpq defines and pgx names unquoted.
func mentions(text, dsn string) bool {
	for _, part := range strings.FieldsFunc(dsn, func(r rune) bool { return strings.ContainsRune(":/@?&=# '\"", r) }) {
		if plain, err := url.QueryUnescape(part); err == nil && plain != part && strings.Contains(text, plain) {
			return true
		}
		if strings.Contains(text, part) && part != "sslmode" {
			return true
		}
	}
	return false
}

// reached remembers whether a host took the connection at all.
type reached struct{ yes atomic.Bool }

func (r *reached) watch(dial pgconn.DialFunc) pgconn.DialFunc {
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		conn, err := dial(ctx, network, addr)
		if err == nil {
			r.yes.Store(true)
		}
		return conn, err
	}
}

// explain says how to mend what keeps a connection from being made.
func (r *reached) explain(err error, cc *pgx.ConnConfig) error {
	var said *pgconn.PgError
	if errors.As(err, &said) {
		return explain(err, cc)
	}
	var (
		authority x509.UnknownAuthorityError
		host      x509.HostnameError
		invalid   x509.CertificateInvalidError
		name      *net.DNSError
	)
	text := oneLine(err)
	switch {
	case errors.As(err, &authority), errors.As(err, &host), errors.As(err, &invalid):
		return unavailable("its TLS certificate is not trusted: name its authority with sslrootcert=FILE, and the host as the certificate does", text)
	case strings.Contains(text, "server refused TLS connection"):
		return unavailable("it does not speak TLS: turn ssl on in its postgresql.conf, or on a network that you trust use sslmode=disable", text)
	case errors.As(err, &name):
		return unavailable("there is no such host: correct the DSN's host", text)
	case !r.yes.Load():
		return unavailable("nobody answers there: start PostgreSQL, or correct the DSN's host and port, and see that no firewall is between", text)
	default:
		return unavailable("what answers there does not speak as PostgreSQL does: is the DSN's port that of another service?", text)
	}
}

func unavailable(mend, text string) error {
	return fmt.Errorf("%w: %s (%s)", store.ErrUnavailable, mend, text)
}

// explain says how to mend what the server refuses at the start.
func explain(err error, cc *pgx.ConnConfig) error {
	var said *pgconn.PgError
	if !errors.As(err, &said) {
		return err
	}
	var mend string
	switch said.Code {
	case invalidPassword, invalidAuthorization:
		mend = fmt.Sprintf("it refuses the login of %q: correct user and password of the DSN, or the server's pg_hba.conf", cc.User)
	case noDatabase:
		mend = fmt.Sprintf("there is no such database: create it, as with createdb %s, or correct the DSN", cc.Database)
	case tooManyConnections:
		mend = "it has no connection left: raise its max_connections, or lower pool_max_conns in the DSN of each Manager"
	case noPrivilege:
		mend = fmt.Sprintf("%q may not create tables: GRANT CREATE, USAGE ON SCHEMA to it, or have it own the database", cc.User)
	case noSchema:
		mend = "no schema of its search_path exists: CREATE SCHEMA, or correct search_path in the DSN"
	case readOnly:
		mend = "it is a read-only standby: name the primary, or all hosts with target_session_attrs=read-write"
	default:
		return err
	}
	if passes(err) {
		return fmt.Errorf("%w: %s (%w)", store.ErrUnavailable, mend, said)
	}
	return fmt.Errorf("%s (%w)", mend, said)
}
