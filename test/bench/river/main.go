// Command river is the baseline of the queue benches: River, as a program of its own and tuned for latency, on a database that it is given.
// It is a module of its own, so that River is no dependency of the product.
//
//	river -dsn postgres://…
//
// It reads commands, one a line, and answers each with a line of JSON: a list of nanoseconds, or a text that says what went wrong.
//
//	insert N W   insert N jobs with W writers: one number, the time of all
//	latency N    insert N jobs, one after the other was worked: for each the time from the call of Insert to the call of Work
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
	"github.com/riverqueue/river/rivermigrate"
)

const (
	// maxConns is that of the store it is compared with.
	maxConns = 16
	// settle is the pause before each job of latency, as the other side makes it, so that the worker waits.
	settle = 20 * time.Millisecond
	// unworked is the queue of the jobs that are only inserted.
	unworked = "unworked"
)

// search is a job with as much in it as one of ours has.
type search struct {
	Text    string `json:"text"`
	Lang    string `json:"lang"`
	Depth   int    `json:"depth"`
	Detail  string `json:"detail"`
	Results int    `json:"max_results"`
}

func (search) Kind() string { return "search" }

func newSearch() search { return search{"coffee in Limassol", "en", 10, "auto", 100} }

// worker tells when it was called.
type worker struct {
	river.WorkerDefaults[search]
	called chan time.Time
}

func (w *worker) Work(context.Context, *river.Job[search]) error {
	w.called <- time.Now()
	return nil
}

func main() {
	dsn := flag.String("dsn", "", "database to work in; its tables are made")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := run(ctx, *dsn, os.Stdin, os.Stdout)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "river:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, dsn string, in io.Reader, out io.Writer) (err error) {
	b, err := open(ctx, dsn)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.close(ctx)) }()
	answers := json.NewEncoder(out)
	for lines := bufio.NewScanner(in); lines.Scan(); {
		took, err := b.do(ctx, lines.Text())
		if err != nil {
			if err := answers.Encode(err.Error()); err != nil {
				return err
			}
			continue
		}
		if err := answers.Encode(took); err != nil {
			return err
		}
	}
	return nil
}

// bench holds a client that inserts, and once latency is asked for one that works too.
type bench struct {
	pool   *pgxpool.Pool
	insert *river.Client[pgx.Tx]
	work   *river.Client[pgx.Tx] // nil: not started
	called chan time.Time
}

func open(ctx context.Context, dsn string) (_ *bench, err error) {
	cfg, err := pgxpool.ParseConfig(dsn)
	if err != nil {
		return nil, err
	}
	cfg.MaxConns = maxConns
	pool, err := pgxpool.NewWithConfig(ctx, cfg)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			pool.Close()
		}
	}()
	driver := riverpgxv5.New(pool)
	tables, err := rivermigrate.New(driver, nil)
	if err != nil {
		return nil, err
	}
	if _, err := tables.Migrate(ctx, rivermigrate.DirectionUp, nil); err != nil {
		return nil, fmt.Errorf("migrate: %w", err)
	}
	insert, err := river.NewClient(driver, &river.Config{})
	if err != nil {
		return nil, err
	}
	return &bench{pool: pool, insert: insert, called: make(chan time.Time, 1)}, nil
}

func (b *bench) close(ctx context.Context) (err error) {
	if b.work != nil {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
		defer cancel()
		err = b.work.Stop(ctx)
	}
	b.pool.Close()
	return err
}

func (b *bench) do(ctx context.Context, command string) ([]time.Duration, error) {
	var n, writers int
	if _, err := fmt.Sscanf(command, "insert %d %d", &n, &writers); err == nil {
		took, err := b.insertMany(ctx, n, writers)
		return []time.Duration{took}, err
	}
	if _, err := fmt.Sscanf(command, "latency %d", &n); err == nil {
		return b.latencies(ctx, n)
	}
	return nil, fmt.Errorf("unknown command %q", command)
}

func (b *bench) insertMany(ctx context.Context, n, writers int) (time.Duration, error) {
	opts := &river.InsertOpts{Queue: unworked}
	errs := make([]error, writers)
	var left atomic.Int64
	left.Store(int64(n))
	var all sync.WaitGroup
	begin := time.Now()
	for i := range writers {
		all.Go(func() {
			for errs[i] == nil && left.Add(-1) >= 0 {
				_, errs[i] = b.insert.Insert(ctx, newSearch(), opts)
			}
		})
	}
	all.Wait()
	return time.Since(begin), errors.Join(errs...)
}

func (b *bench) latencies(ctx context.Context, n int) ([]time.Duration, error) {
	if err := b.startWork(ctx); err != nil {
		return nil, err
	}
	took := make([]time.Duration, n)
	for i := range took {
		time.Sleep(settle)
		begin := time.Now()
		if _, err := b.work.Insert(ctx, newSearch(), nil); err != nil {
			return nil, err
		}
		select {
		case at := <-b.called:
			took[i] = at.Sub(begin)
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
	return took, nil
}

// startWork starts a client with the least cooldown between fetches that River allows; it is told of new jobs by LISTEN and NOTIFY.
func (b *bench) startWork(ctx context.Context) (err error) {
	if b.work != nil {
		return nil
	}
	workers := river.NewWorkers()
	if err := river.AddWorkerSafely(workers, &worker{called: b.called}); err != nil {
		return err
	}
	b.work, err = river.NewClient(riverpgxv5.New(b.pool), &river.Config{
		Workers: workers, Queues: map[string]river.QueueConfig{river.QueueDefault: {MaxWorkers: 4}}, FetchCooldown: river.FetchCooldownMin,
	})
	if err != nil {
		return err
	}
	return b.work.Start(context.WithoutCancel(ctx))
}
