// Package postgres keeps the truth in PostgreSQL, for any number of Managers at a time.
package postgres

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"gmaps-scraper/store"
)

var _ store.Store = (*Store)(nil)

// Store is a store.Store in one schema of a PostgreSQL database: the first of the DSN's search_path. It holds connections of its own,
// so a pooler between must give whole sessions, not transactions: PgBouncer's pool_mode session.
type Store struct {
	pool     *pgxpool.Pool
	dial     *pgx.ConnConfig // of connections outside of the pool
	log      *slog.Logger
	patience time.Duration
	answer   time.Duration
	name     string      // of this Store among those of the database
	led      atomic.Bool // had the lead when it asked last

	running   context.Context // ends with Close
	end       context.CancelFunc
	atWork    sync.WaitGroup // what runs until then
	closeOnce sync.Once
}

// Config tunes a Store. The zero value works.
type Config struct {
	// MaxConns bounds the pool. 0: pool_max_conns of the DSN, else 16. Each Bell holds one connection more.
	MaxConns int
	// StatementTimeout ends a statement that takes longer, on the server. 0: statement_timeout of the DSN, else 30 s.
	StatementTimeout time.Duration
	// AcquireTimeout is how long a call waits for a connection that is free before it gives up with ErrUnavailable. Default 5 s.
	AcquireTimeout time.Duration
	// Logger hears of migrations and of the bell's lost connections. Default: none.
	Logger *slog.Logger
}

const (
	defaultMaxConns         = 16
	defaultStatementTimeout = 30 * time.Second
	defaultAcquireTimeout   = 5 * time.Second
	defaultConnectTimeout   = 5 * time.Second
	maxLockTimeout          = 10 * time.Second
	// A Manager that is stopped inside a transaction holds the lock of a job: the server ends its session after so long.
	idleInTransaction = 10 * time.Second
	// answerSlack is what an answer may take beyond the server's own limit, before the network is taken for broken.
	answerSlack = 5 * time.Second
	oldestMajor = 13
)

// Open connects to the database that dsn names, a URL or keyword=value text as libpq reads it, and brings its tables up to date. Any
// number of Managers may do that at once. What is wrong is told with its mend and without the DSN's password, in seconds.
func Open(ctx context.Context, dsn string, cfg Config) (_ *Store, err error) {
	if cfg.MaxConns < 0 || cfg.StatementTimeout < 0 || cfg.AcquireTimeout < 0 {
		return nil, errors.New("open database: MaxConns, StatementTimeout and AcquireTimeout must not be below 0")
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.AcquireTimeout == 0 {
		cfg.AcquireTimeout = defaultAcquireTimeout
	}
	pc, answer, err := settings(dsn, cfg)
	if err != nil {
		return nil, err
	}
	ready, err := check(ctx, pc.ConnConfig)
	if err == nil && !ready {
		err = explain(migrate(ctx, pc.ConnConfig, cfg.Logger), pc.ConnConfig)
	}
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", place(pc.ConnConfig), err)
	}
	pool, err := pgxpool.NewWithConfig(ctx, pc)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", place(pc.ConnConfig), err)
	}
	s := &Store{pool: pool, dial: pc.ConnConfig, log: cfg.Logger, patience: cfg.AcquireTimeout, answer: answer, name: uuid.NewString()}
	s.running, s.end = context.WithCancel(context.WithoutCancel(ctx))
	return s, nil
}

// Probe finds out whether Open could succeed, and changes nothing. It says which database it found.
func Probe(ctx context.Context, dsn string) (found string, err error) {
	pc, _, err := settings(dsn, Config{})
	if err != nil {
		return "", err
	}
	ready, err := check(ctx, pc.ConnConfig)
	if err != nil {
		return "", fmt.Errorf("open %s: %w", place(pc.ConnConfig), err)
	}
	if !ready {
		return place(pc.ConnConfig) + " answers; the Manager will make or update its tables", nil
	}
	return place(pc.ConnConfig) + " answers, its tables are up to date", nil
}

// settings reads a DSN and adds what it leaves open. answer is how long an answer may take.
func settings(dsn string, cfg Config) (_ *pgxpool.Config, answer time.Duration, err error) {
	pc, err := pgxpool.ParseConfig(dsn)
	if err != nil {
		return nil, 0, unreadable(dsn, err)
	}
	switch {
	case cfg.MaxConns > 0:
		pc.MaxConns = int32(min(cfg.MaxConns, 10_000))
	case !strings.Contains(dsn, "pool_max_conns"):
		pc.MaxConns = defaultMaxConns
	}
	cc := pc.ConnConfig
	if cc.ConnectTimeout <= 0 {
		cc.ConnectTimeout = defaultConnectTimeout
	}
	keepAlive := net.KeepAliveConfig{Enable: true, Idle: 15 * time.Second, Interval: 5 * time.Second, Count: 3}
	cc.DialFunc = (&net.Dialer{KeepAliveConfig: keepAlive}).DialContext
	if cc.RuntimeParams["application_name"] == "" {
		cc.RuntimeParams["application_name"] = "gmaps-scraper"
	}
	limit := cfg.StatementTimeout
	if own := cc.RuntimeParams["statement_timeout"]; limit == 0 && own != "" {
		// In milliseconds, unless it names its unit: then the server enforces it, and the client goes by the default.
		if ms, err := strconv.Atoi(own); err == nil && ms > 0 {
			limit = time.Duration(ms) * time.Millisecond
		}
	}
	if limit == 0 {
		limit = defaultStatementTimeout
	}
	param := func(name string, d time.Duration) {
		if cc.RuntimeParams[name] == "" {
			cc.RuntimeParams[name] = strconv.FormatInt(max(1, d.Milliseconds()), 10)
		}
	}
	// A plan for any arguments is made once, and is as good: each question has one index that serves it. Else the server plans each of
	// them anew for the first five times on each connection, and those that it thinks cheaper so, always: a quarter of a Grant.
	if cc.RuntimeParams["plan_cache_mode"] == "" {
		cc.RuntimeParams["plan_cache_mode"] = "force_generic_plan"
	}
	if cfg.StatementTimeout > 0 {
		delete(cc.RuntimeParams, "statement_timeout")
	}
	param("statement_timeout", limit)
	param("lock_timeout", min(limit, maxLockTimeout))
	param("idle_in_transaction_session_timeout", idleInTransaction)
	return pc, limit + answerSlack, nil
}

// check connects once, so that what is wrong is found now and told plainly. ready: the tables are up to date.
func check(ctx context.Context, cc *pgx.ConnConfig) (ready bool, err error) {
	const grace = time.Second // for the connection's own, plainer error to come first
	hosts := map[string]bool{net.JoinHostPort(cc.Host, strconv.Itoa(int(cc.Port))): true}
	for _, f := range cc.Fallbacks {
		hosts[net.JoinHostPort(f.Host, strconv.Itoa(int(f.Port)))] = true
	}
	patient, cancel := context.WithTimeout(ctx, time.Duration(len(hosts))*cc.ConnectTimeout+grace)
	defer cancel()
	var dialed reached
	probe := cc.Copy()
	probe.DialFunc = dialed.watch(cc.DialFunc)
	conn, err := pgx.ConnectConfig(patient, probe)
	if err != nil {
		if end := ended(ctx); end != nil {
			return false, end
		}
		return false, dialed.explain(err, cc)
	}
	defer conn.Close(context.WithoutCancel(ctx))
	version := conn.PgConn().ParameterStatus("server_version")
	if n := leadingNumber(version); n > 0 && n < oldestMajor {
		return false, fmt.Errorf("the server is PostgreSQL %s: version %d or later is needed", version, oldestMajor)
	}
	ready, err = upToDate(ctx, conn)
	return ready, explain(err, cc)
}

// leadingNumber reads the major version out of "15.18 (Debian 15.18-0)" and "17beta1".
func leadingNumber(version string) int {
	end := 0
	for end < len(version) && version[end] >= '0' && version[end] <= '9' {
		end++
	}
	n, err := strconv.Atoi(version[:end])
	if err != nil {
		return 0
	}
	return n
}

// Ping finds out whether the database answers.
func (s *Store) Ping(ctx context.Context) error {
	const ping = `SELECT count(*) FROM planning`
	var one []int64
	if err := s.read(ctx, func(r *reading) { read(r, &one, scanInt, ping) }); err != nil {
		return fmt.Errorf("ping: %w", err)
	}
	return nil
}

// Close stops the bells, gives the lead away, waits for the running transactions and closes the connections. Later calls answer
// ErrUnavailable.
func (s *Store) Close() error {
	s.closeOnce.Do(func() {
		s.resign()
		s.end()
		s.atWork.Wait()
		s.pool.Close()
	})
	return nil
}

func (s *Store) isClosed() bool { return s.running.Err() != nil }
