package postgres

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"gmaps-scraper/store"
)

// Locks are taken in one order, so that no two transactions wait for each other: the row of planning, of a spawn, of jobs by their key,
// then what belongs to them. What a job owns (tasks, leases, results, events) is written under the lock of its row, and read for
// writing by a question of its own after the lock: a question sees what was committed when it began, not when its wait for a lock ended.

// tx is a transaction that writes. Questions are queued and go to the server together: what does not need an answer costs no round trip.
type tx struct {
	conn   *pgxpool.Conn
	batch  *pgx.Batch
	answer time.Duration // how long the server may take for one
	now    int64         // the database's time, once one of the questions that ask for it has been answered
	whole  bool          // the last batch, once sent, is heard to its end, even if the caller goes away
}

const (
	tries     = 5
	firstWait = 5 * time.Millisecond
	undoTime  = 2 * time.Second // a server that does not answer a ROLLBACK in it is not waited for
)

// write runs do in one transaction and commits it together with what do left queued. What the server could not serialize is tried
// again, as is what never reached it: do must begin from nothing each time.
func (s *Store) write(ctx context.Context, do func(ctx context.Context, t *tx) error) error {
	wait := firstWait
	for try := 1; ; try++ {
		err := s.attempt(ctx, do)
		if err == nil || try == tries || !again(err) {
			return s.classify(ctx, err)
		}
		select {
		case <-ctx.Done():
			return s.classify(ctx, err)
		case <-time.After(wait + rand.N(wait)):
			wait *= 2
		}
	}
}

func (s *Store) attempt(ctx context.Context, do func(ctx context.Context, t *tx) error) (err error) {
	conn, err := s.acquire(ctx)
	if err != nil {
		return err
	}
	defer conn.Release()
	t := &tx{conn: conn, batch: new(pgx.Batch), answer: s.answer}
	t.exec(`BEGIN`)
	defer func() {
		if err != nil {
			t.undo(ctx)
		}
	}()
	if err := do(ctx, t); err != nil {
		return err
	}
	t.exec(`COMMIT`)
	if t.whole && ctx.Err() == nil {
		ctx = context.WithoutCancel(ctx)
	}
	return t.flush(ctx)
}

// undo leaves the connection fit for use, or has the pool throw it away: Release does that with one that is inside a transaction.
func (t *tx) undo(ctx context.Context) {
	if t.conn.Conn().IsClosed() || t.conn.Conn().PgConn().TxStatus() == 'I' {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), undoTime)
	defer cancel()
	_, _ = t.conn.Exec(ctx, `ROLLBACK`) // the error that led here is the one to tell
}

// again reports whether a transaction may be tried again: nothing of it has happened.
func again(err error) bool {
	var e *pgconn.PgError
	if errors.As(err, &e) {
		return e.Code == serializationFailure || e.Code == deadlockDetected
	}
	return pgconn.SafeToRetry(err) && !isConnect(err)
}

func (t *tx) exec(question string, args ...any) { t.batch.Queue(question, sound(args)...) }

// changed has n set to how many rows a question changed.
func (t *tx) changed(n *int, question string, args ...any) {
	t.batch.Queue(question, sound(args)...).Exec(func(tag pgconn.CommandTag) error {
		*n = int(tag.RowsAffected())
		return nil
	})
}

// ask has all set to the rows that a question finds.
func ask[T any](t *tx, all *[]T, scan func(scanner) (T, error), question string, args ...any) {
	queue(t.batch, all, scan, question, args)
}

// clock has t.now set. It is asked for after locks were taken, so that the time that a wait took has passed.
func (t *tx) clock() {
	t.batch.Queue(`SELECT gmaps_now()`).QueryRow(func(r pgx.Row) error { return r.Scan(&t.now) })
}

// flush sends what is queued and waits for the answers.
func (t *tx) flush(ctx context.Context) error {
	b := t.batch
	t.batch = new(pgx.Batch)
	ctx, cancel := context.WithTimeout(ctx, t.answer)
	defer cancel()
	return t.conn.SendBatch(ctx, b).Close()
}

// perTask is what a task that is moved with all of its job may cost, its index entries included.
const perTask = 100 * time.Microsecond

// allow gives what is queued from here on the time to move n tasks in one statement, if that is more than a statement has. A server that
// gives more, or any time, is left so.
func (t *tx) allow(n int) {
	const allowLonger = `SELECT set_config('statement_timeout', $1::bigint::text, true) FROM pg_settings
		WHERE name = 'statement_timeout' AND setting::bigint BETWEEN 1 AND $1::bigint`
	if need := time.Duration(n) * perTask; need+answerSlack > t.answer {
		t.answer = need + answerSlack
		t.exec(allowLonger, need.Milliseconds())
	}
}

func queue[T any](b *pgx.Batch, all *[]T, scan func(scanner) (T, error), question string, args []any) {
	b.Queue(question, sound(args)...).Query(func(rows pgx.Rows) error {
		*all = nil
		for rows.Next() {
			one, err := scan(rows)
			if err != nil {
				return err
			}
			*all = append(*all, one)
		}
		return rows.Err()
	})
}

// reading is a batch of questions that are answered from one snapshot.
type reading struct{ batch pgx.Batch }

func read[T any](r *reading, all *[]T, scan func(scanner) (T, error), question string, args ...any) {
	queue(&r.batch, all, scan, question, args)
}

// read sends the questions that ask queues, in one round trip.
func (s *Store) read(ctx context.Context, ask func(r *reading)) error { return s.send(ctx, ask) }

// single sends the one statement that ask queues: a transaction of its own, in one round trip.
func (s *Store) single(ctx context.Context, ask func(r *reading)) error { return s.send(ctx, ask) }

func (s *Store) send(ctx context.Context, ask func(r *reading)) error {
	for try := 1; ; try++ {
		questions := new(reading)
		ask(questions)
		err := s.sendOnce(ctx, questions.snapshot())
		if err == nil || try == tries || !again(err) {
			return s.classify(ctx, err)
		}
	}
}

// snapshot is the questions in a transaction, if there are several.
func (r *reading) snapshot() *pgx.Batch {
	if r.batch.Len() == 1 {
		return &r.batch
	}
	all := new(pgx.Batch)
	all.Queue(`BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY`)
	all.QueuedQueries = append(all.QueuedQueries, r.batch.QueuedQueries...)
	all.Queue(`COMMIT`)
	return all
}

func (s *Store) sendOnce(ctx context.Context, b *pgx.Batch) error {
	conn, err := s.acquire(ctx)
	if err != nil {
		return err
	}
	defer conn.Release()
	t := &tx{conn: conn, batch: b, answer: s.answer}
	err = t.flush(ctx)
	if err != nil {
		t.undo(ctx)
	}
	return err
}

// acquire takes a connection out of the pool. It waits for one, but not for long: who asks is better told to come again.
func (s *Store) acquire(ctx context.Context) (*pgxpool.Conn, error) {
	if s.isClosed() {
		return nil, errClosed
	}
	waiting, cancel := context.WithTimeout(ctx, s.patience)
	defer cancel()
	conn, err := s.pool.Acquire(waiting)
	if err != nil && ctx.Err() == nil && waiting.Err() != nil && !isConnect(err) {
		return nil, fmt.Errorf("%w: none of its %d connections was free, or could be made, within %s", store.ErrUnavailable, s.pool.Config().MaxConns, s.patience)
	}
	return conn, err
}

// scanner is a row.
type scanner interface{ Scan(dest ...any) error }

func scanInt(r scanner) (n int64, err error) {
	err = r.Scan(&n)
	return n, err
}

func scanText(r scanner) (text string, err error) {
	err = r.Scan(&text)
	return text, err
}
