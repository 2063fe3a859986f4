// Package sqlite keeps the truth in one SQLite file, for one Manager process at a time.
package sqlite

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"github.com/pressly/goose/v3"
	_ "modernc.org/sqlite" // the driver "sqlite"

	"gmaps-scraper/store"
)

//go:embed migrations/*.sql
var migrations embed.FS

var _ store.Store = (*Store)(nil)

// ErrInUse says that another process has the database open.
var ErrInUse = errors.New("the database is in use by another process")

// Store is a store.Store in one SQLite file: WAL, every commit synced to the disk, one writer, some readers.
type Store struct {
	now     func() time.Time
	lock    *os.File
	writers *sql.DB
	readers *sql.DB
	// writer holds the one connection that writes; who takes it out has the database's write lock.
	writer chan *writer
	closed chan struct{}
}

// Config tunes a Store. The zero value works.
type Config struct {
	// Now is the clock of leases and of all times in the store: one clock, the Manager's. Default time.Now.
	Now func() time.Time
	// Readers bounds the connections that read. Default 4.
	Readers int
	// Logger hears of migrations. Default: none.
	Logger *slog.Logger
}

const (
	defaultReaders = 4
	busyTimeout    = 10 * time.Second // a checkpoint at the worst: nobody else writes

	// SQLite takes a negative cache_size as KiB. The writer's holds the inner pages of the unique index of results.
	writerCacheKiB = 32 << 10
	readerCacheKiB = 4 << 10
	// Keys of places are scattered, so a page of their index is written many times: a longer log has it copied into the file less often.
	checkpointPages = 8000 // of 4 KiB
	walLimitBytes   = 64 << 20
)

// Open opens the database file at path, makes it if it is not there, and brings its tables up to date.
// The file path+".lock" is held as long as the Store is open, and is let go of by the kernel if the process is killed:
// a second Open, by any process, gets ErrInUse.
func Open(ctx context.Context, path string, cfg Config) (_ *Store, err error) {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Readers == 0 {
		cfg.Readers = defaultReaders
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	path, err = filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("open database %s: %w", path, err)
	}
	s := &Store{now: cfg.Now, writer: make(chan *writer, 1), closed: make(chan struct{})}
	s.lock, err = takeLock(ctx, path+".lock")
	if err != nil {
		return nil, fmt.Errorf("open database %s: %w", path, err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("open database %s: %w", path, err), s.release())
		}
	}()
	if err := makePrivate(path); err != nil {
		return nil, err
	}
	s.writers, err = connect(path, 1, writerCacheKiB, "synchronous(FULL)", "foreign_keys(1)",
		fmt.Sprintf("wal_autocheckpoint(%d)", checkpointPages), fmt.Sprintf("journal_size_limit(%d)", walLimitBytes))
	if err != nil {
		return nil, err
	}
	if err := migrate(ctx, s.writers, cfg.Logger); err != nil {
		return nil, classify(err)
	}
	s.readers, err = connect(path, cfg.Readers, readerCacheKiB, "query_only(1)")
	if err != nil {
		return nil, err
	}
	conn, err := s.writers.Conn(ctx)
	if err != nil {
		return nil, classify(err)
	}
	s.writer <- &writer{conn: conn, stmts: make(map[string]*sql.Stmt)}
	return s, nil
}

// lockPatience is how long an unlocked file may look locked: a child that this process has just forked shares the lock until it runs
// its program, and a killed process holds it until the kernel has cleared it away.
const lockPatience = 250 * time.Millisecond

func takeLock(ctx context.Context, path string) (*os.File, error) {
	ctx, cancel := context.WithTimeout(ctx, lockPatience)
	defer cancel()
	for again := time.NewTicker(10 * time.Millisecond); ; {
		f, err := lockFile(path)
		if !errors.Is(err, ErrInUse) {
			again.Stop()
			return f, err
		}
		select {
		case <-again.C:
		case <-ctx.Done():
			again.Stop()
			return nil, err
		}
	}
}

// makePrivate makes the database's file if it is not there, readable for its owner alone: it holds the secret that tokens are signed
// with. SQLite would go by the umask; to its log and index it gives the mode of the database (sqlite.org, src/os_unix.c, findCreateFileMode).
func makePrivate(path string) error {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	return f.Close()
}

// connect gives a pool of n connections that stay open. WAL is a property of the file, the other pragmas of each connection.
func connect(path string, n, cacheKiB int, pragmas ...string) (*sql.DB, error) {
	q := url.Values{"_pragma": append([]string{
		fmt.Sprintf("busy_timeout(%d)", busyTimeout.Milliseconds()), "journal_mode(WAL)", fmt.Sprintf("cache_size(-%d)", cacheKiB),
	}, pragmas...)}
	dsn := url.URL{Scheme: "file", OmitHost: true, Path: filepath.ToSlash(path), RawQuery: q.Encode()}
	db, err := sql.Open("sqlite", dsn.String())
	if err != nil {
		return nil, err
	}
	db.SetMaxOpenConns(n)
	db.SetMaxIdleConns(n)
	return db, nil
}

func migrate(ctx context.Context, db *sql.DB, log *slog.Logger) error {
	files, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return fmt.Errorf("migrate: %w", err)
	}
	p, err := goose.NewProvider(goose.DialectSQLite3, db, files, goose.WithDisableGlobalRegistry(true), goose.WithSlog(slog.New(slog.DiscardHandler)))
	if err != nil {
		return fmt.Errorf("migrate: %w", err)
	}
	done, err := p.Up(ctx)
	if err != nil {
		return fmt.Errorf("migrate: %w", err)
	}
	for _, m := range done {
		log.Info("database migrated", "version", m.Source.Version, "took", m.Duration)
	}
	return nil
}

// Ping finds out whether the database answers.
func (s *Store) Ping(ctx context.Context) error {
	const ping = `SELECT one FROM totals`
	err := s.read(ctx, func(q querier) error {
		_, err := scanInt(q.QueryRowContext(ctx, ping))
		return err
	})
	if err != nil {
		return fmt.Errorf("ping: %w", err)
	}
	return nil
}

// Close waits for the running transaction, then closes the database and lets go of its lock. Later calls answer ErrUnavailable.
func (s *Store) Close() error {
	select {
	case <-s.closed:
		return nil
	case w := <-s.writer:
		close(s.closed)
		return errors.Join(w.close(), s.release())
	}
}

// release closes what Open has opened so far.
func (s *Store) release() error {
	var errs []error
	for _, db := range []*sql.DB{s.readers, s.writers} {
		if db != nil {
			errs = append(errs, db.Close())
		}
	}
	return errors.Join(append(errs, s.lock.Close())...)
}
