package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"gmaps-scraper/store"
)

// writer is the connection that writes, and its statements, prepared once.
type writer struct {
	conn  *sql.Conn
	stmts map[string]*sql.Stmt
}

func (w *writer) close() error {
	var errs []error
	for _, s := range w.stmts {
		errs = append(errs, s.Close())
	}
	return errors.Join(append(errs, w.conn.Close())...)
}

// tx is a transaction that writes. now is its time: one for all that it does.
type tx struct {
	w   *writer
	now int64
}

var errClosed = fmt.Errorf("%w: it is closed", store.ErrUnavailable)

// write runs do in one transaction, which begins once the writer is free. A transaction that has begun is not torn by
// the end of its caller's context: it is short, and the driver would start a goroutine per statement to watch for it.
func (s *Store) write(ctx context.Context, do func(ctx context.Context, t *tx) error) (err error) {
	var w *writer
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-s.closed:
		return errClosed
	case w = <-s.writer:
	}
	defer func() { s.writer <- w }()
	ctx = context.WithoutCancel(ctx)
	t := &tx{w: w, now: s.now().UnixMicro()}
	if _, err := t.exec(ctx, `BEGIN IMMEDIATE`); err != nil {
		return classify(err)
	}
	committed := false
	defer func() {
		if committed {
			return
		}
		// After a full disk or an I/O error SQLite may have rolled back by itself: then there is nothing left to undo.
		if _, undo := t.exec(ctx, `ROLLBACK`); undo != nil && err == nil {
			err = classify(undo)
		}
	}()
	if err := do(ctx, t); err != nil {
		return classify(err)
	}
	if _, err := t.exec(ctx, `COMMIT`); err != nil {
		return classify(err)
	}
	committed = true
	return nil
}

// read runs do on one snapshot.
func (s *Store) read(ctx context.Context, do func(q querier) error) error {
	select {
	case <-s.closed:
		return errClosed
	default:
	}
	r, err := s.readers.BeginTx(ctx, &sql.TxOptions{ReadOnly: true})
	if err != nil {
		return classify(err)
	}
	defer func() { _ = r.Rollback() }() // it has written nothing
	return classify(do(r))
}

// querier is what reads: a transaction of either kind.
type querier interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}

func (t *tx) prepare(ctx context.Context, query string) (*sql.Stmt, error) {
	if s := t.w.stmts[query]; s != nil {
		return s, nil
	}
	s, err := t.w.conn.PrepareContext(ctx, query)
	if err != nil {
		return nil, err
	}
	t.w.stmts[query] = s
	return s, nil
}

// exec returns how many rows it changed.
func (t *tx) exec(ctx context.Context, query string, args ...any) (int, error) {
	r, err := t.result(ctx, query, args)
	if err != nil {
		return 0, err
	}
	n, err := r.RowsAffected()
	return int(n), err
}

// insert returns the key of the row.
func (t *tx) insert(ctx context.Context, query string, args ...any) (int64, error) {
	r, err := t.result(ctx, query, args)
	if err != nil {
		return 0, err
	}
	return r.LastInsertId()
}

func (t *tx) result(ctx context.Context, query string, args []any) (sql.Result, error) {
	s, err := t.prepare(ctx, query)
	if err != nil {
		return nil, err
	}
	return s.ExecContext(ctx, args...)
}

// QueryContext and QueryRowContext make a tx a querier.
func (t *tx) QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error) {
	s, err := t.prepare(ctx, query)
	if err != nil {
		return nil, err
	}
	return s.QueryContext(ctx, args...)
}

func (t *tx) QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row {
	s, err := t.prepare(ctx, query)
	if err != nil {
		return t.w.conn.QueryRowContext(ctx, query, args...) // a Row carries the same error
	}
	return s.QueryRowContext(ctx, args...)
}

// collect reads all rows of a query.
func collect[T any](ctx context.Context, q querier, scan func(scanner) (T, error), query string, args ...any) ([]T, error) {
	rows, err := q.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var all []T
	for rows.Next() {
		one, err := scan(rows)
		if err != nil {
			return nil, err
		}
		all = append(all, one)
	}
	return all, rows.Err()
}

// scanner is a *sql.Row or *sql.Rows.
type scanner interface{ Scan(dest ...any) error }

func scanInt(r scanner) (n int64, err error) {
	err = r.Scan(&n)
	return n, err
}

// classify is the one place that knows which of SQLite's errors pass: a full disk, a failing one, a lock held too long.
func classify(err error) error {
	var e *sqlite.Error
	switch {
	case err == nil || errors.Is(err, store.ErrUnavailable):
		return err
	case errors.Is(err, sql.ErrConnDone):
		return fmt.Errorf("%w: %w", store.ErrUnavailable, err)
	case !errors.As(err, &e):
		return err
	}
	switch e.Code() & 0xff { // the primary result code
	case sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_FULL,
		sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_NOMEM, sqlite3.SQLITE_PROTOCOL:
		return fmt.Errorf("%w: %w", store.ErrUnavailable, err)
	default:
		return err
	}
}

// micros is a time as it is stored. The zero time is 0.
func micros(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMicro()
}

func fromMicros(n int64) time.Time {
	if n == 0 {
		return time.Time{}
	}
	return time.UnixMicro(n).UTC()
}
