package postgres_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"

	"gmaps-scraper/gmaps"
	"gmaps-scraper/job"
	"gmaps-scraper/store"
	"gmaps-scraper/store/postgres"
)

func TestServerThatIsAwayIsUnavailableAndComesBackByItself(t *testing.T) {
	t.Parallel()
	p := newProxy(t)
	s := openStore(t, p.dsn(t, newSchema(t)), postgres.Config{AcquireTimeout: 2 * time.Second})
	j := createJob(t, s, 1, job.Spec{})
	for range 3 {
		p.cut()
		for what, call := range map[string]func() error{
			"Ping":  func() error { return s.Ping(t.Context()) },
			"Job":   func() error { _, err := s.Job(t.Context(), j.ID); return err },
			"Pause": func() error { _, err := s.Pause(t.Context(), j.ID); return err },
			"Create": func() error {
				_, _, err := s.CreateJob(t.Context(), store.NewJob{Tasks: make([]job.Task, 1)})
				return err
			},
		} {
			if err := call(); !errors.Is(err, store.ErrUnavailable) {
				t.Errorf("%s of a server that is away: got %v, want ErrUnavailable", what, err)
			}
		}
		p.mend()
		waitFor(t, "an answer", func() bool { return s.Ping(t.Context()) == nil })
		if _, err := s.Resume(t.Context(), j.ID); err != nil {
			t.Errorf("once it is back: %v", err)
		}
	}
}

func TestConnectionsThatTheServerEndedAreReplaced(t *testing.T) {
	t.Parallel()
	dsn := newSchema(t)
	s := openStore(t, dsn+"&application_name=ended_by_test", postgres.Config{})
	createJob(t, s, 1, job.Spec{})
	run(t, dsn, `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'ended_by_test'`)
	waitFor(t, "an answer", func() bool {
		err := s.Ping(t.Context())
		if err != nil && !errors.Is(err, store.ErrUnavailable) {
			t.Fatalf("got %v, want ErrUnavailable", err)
		}
		return err == nil
	})
}

func TestExhaustedPoolIsUnavailableAfterABoundedWait(t *testing.T) {
	t.Parallel()
	dsn := newSchema(t)
	s := openStore(t, dsn, postgres.Config{MaxConns: 1, AcquireTimeout: 3 * time.Second})
	j := createJob(t, s, 1, job.Spec{})
	free := hold(t, dsn, j.ID)
	waiting := make(chan error, 1)
	go func() {
		_, err := s.Pause(t.Context(), j.ID) // holds the one connection until the job's row is free
		waiting <- err
	}()
	waitFor(t, "an exhausted pool", func() bool { return errors.Is(s.Ping(t.Context()), store.ErrUnavailable) })
	err := s.Ping(t.Context())
	if !errors.Is(err, store.ErrUnavailable) || !strings.Contains(err.Error(), "connections") {
		t.Errorf("got %v, want ErrUnavailable that names the connections", err)
	}
	free()
	if err := <-waiting; err != nil {
		t.Errorf("who waited for the row: %v", err)
	}
	if err := s.Ping(t.Context()); err != nil {
		t.Errorf("with a free connection: %v", err)
	}
}

// hold locks the row of a job until the function returned is called.
func hold(t *testing.T, dsn string, id job.ID) (free func()) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close(context.WithoutCancel(t.Context())) })
	tx, err := conn.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec(t.Context(), `SELECT 1 FROM jobs WHERE id = $1 FOR UPDATE`, string(id)); err != nil {
		t.Fatal(err)
	}
	return func() {
		if err := tx.Rollback(t.Context()); err != nil {
			t.Error(err)
		}
	}
}

func TestStatementThatTakesTooLongIsUnavailable(t *testing.T) {
	t.Parallel()
	dsn := newSchema(t)
	s := openStore(t, dsn, postgres.Config{StatementTimeout: 300 * time.Millisecond})
	j := createJob(t, s, 1, job.Spec{})
	free := hold(t, dsn, j.ID)
	if _, err := s.Pause(t.Context(), j.ID); !errors.Is(err, store.ErrUnavailable) || errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v, want ErrUnavailable that is no deadline of the caller's", err)
	}
	free()
	if _, err := s.Pause(t.Context(), j.ID); err != nil {
		t.Errorf("once the row is free: %v", err)
	}
}

func TestJobOfAMillionTasksHasTheTimeToBeEndedAndRetried(t *testing.T) {
	t.Parallel()
	dsn := virginSchema(t)
	s := openStore(t, dsn, postgres.Config{})
	small, large := createJob(t, s, 1, job.Spec{}), createJob(t, s, 1, job.Spec{})
	run(t, dsn, fmt.Sprintf(`UPDATE jobs SET open = 1000000 WHERE id = '%s';
		CREATE TABLE limits (told text);
		CREATE FUNCTION tell() RETURNS trigger LANGUAGE plpgsql AS
			$$ BEGIN INSERT INTO limits VALUES (current_setting('statement_timeout')); RETURN NULL; END $$;
		CREATE TRIGGER tell AFTER UPDATE ON tasks FOR EACH STATEMENT EXECUTE FUNCTION tell()`, large.ID))
	conn, err := pgx.Connect(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.WithoutCancel(t.Context()))
	for _, step := range []struct {
		do   func(context.Context, job.ID) (job.Job, error)
		id   job.ID
		want string
	}{{s.Cancel, small.ID, "30s"}, {s.Cancel, large.ID, "100s"}, {s.Retry, small.ID, "30s"}, {s.Retry, large.ID, "100s"}, {s.Cancel, small.ID, "30s"}} {
		if _, err := step.do(t.Context(), step.id); err != nil {
			t.Fatal(err)
		}
		rows, err := conn.Query(t.Context(), `DELETE FROM limits RETURNING told`)
		if err != nil {
			t.Fatal(err)
		}
		if told, err := pgx.CollectRows(rows, pgx.RowTo[string]); err != nil || len(told) == 0 || told[0] != step.want {
			t.Errorf("its tasks were moved under limits of %v, %v: want %s", told, err, step.want)
		}
	}
}

func TestCallerThatGoesAwayIsNotWaitedFor(t *testing.T) {
	t.Parallel()
	dsn := newSchema(t)
	s := openStore(t, dsn, postgres.Config{})
	j := createJob(t, s, 1, job.Spec{})
	free := hold(t, dsn, j.ID)
	ctx, cancel := context.WithCancelCause(t.Context())
	gone := errors.New("the caller has gone away")
	waiting := make(chan error, 1)
	go func() {
		_, err := s.Pause(ctx, j.ID)
		waiting <- err
	}()
	cancel(gone)
	if err := <-waiting; !errors.Is(err, gone) {
		t.Errorf("got %v, want the cause of the caller's end", err)
	}
	free()
	if got := head(t, s, j.ID).State; got != job.Pending {
		t.Errorf("the job is %s: what its caller gave up was done", got)
	}
}

func TestJobThatCannotBeEndedHoldsUpNoLease(t *testing.T) {
	t.Parallel()
	dsn := virginSchema(t)
	var log bytes.Buffer
	s := openStore(t, dsn, postgres.Config{Logger: slog.New(slog.NewTextHandler(&log, nil))})
	// Its time is over, its lease too, and nothing of it can be written.
	stuck := createJob(t, s, 1, job.Spec{MaxTime: job.Duration(time.Minute)})
	over := createJob(t, s, 1, job.Spec{MaxTime: job.Duration(time.Minute)})
	other := createJob(t, s, 1, job.Spec{})
	for i := range 3 {
		if _, err := s.Grant(t.Context(), standing(t, s, fmt.Sprint(i)), 1, time.Minute); err != nil {
			t.Fatal(err)
		}
	}
	run(t, dsn, fmt.Sprintf(`CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'this job cannot be written'; END $$;
		CREATE TRIGGER refuse BEFORE UPDATE ON jobs FOR EACH ROW WHEN (OLD.id = '%s') EXECUTE FUNCTION refuse()`, stuck.ID))
	setClock(t, dsn, time.Hour)
	if n, err := s.Expire(t.Context()); n != 2 || err != nil {
		t.Errorf("%d leases ended, %v: want 2, those of the other jobs, and no error", n, err)
	}
	if got := head(t, s, other.ID).Counts; got.Open != 1 {
		t.Errorf("the other job counts %+v, want its task open", got)
	}
	if got := head(t, s, over.ID).State; got != job.Succeeded {
		t.Errorf("the other job whose time is over is %s", got)
	}
	if !strings.Contains(log.String(), "this job cannot be written") {
		t.Errorf("not logged: %s", log.String())
	}
	setClock(t, dsn, 0)
	run(t, dsn, `CREATE TRIGGER refuse BEFORE DELETE ON submits FOR EACH STATEMENT EXECUTE FUNCTION refuse()`)
	if _, err := s.Expire(t.Context()); err != nil {
		t.Errorf("with nothing to expire, and a purge that fails: %v", err)
	}
}

func TestWorkerThatHangsUpInsideTheCommitOfAGrantLeavesNoLeaseUnknown(t *testing.T) {
	t.Parallel()
	dsn := virginSchema(t)
	s := openStore(t, dsn+"&application_name=hangs_up", postgres.Config{})
	j := createJob(t, s, 1, job.Spec{})
	w := standing(t, s, "n")
	run(t, dsn, `CREATE FUNCTION halt() RETURNS trigger LANGUAGE plpgsql AS
		$$ BEGIN PERFORM pg_advisory_xact_lock('leases'::regclass::bigint); RETURN NEW; END $$;
		CREATE TRIGGER halt BEFORE INSERT ON leases FOR EACH ROW EXECUTE FUNCTION halt()`)
	conn, err := pgx.Connect(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.WithoutCancel(t.Context()))
	ask := func(question string) (n int) {
		if err := conn.QueryRow(t.Context(), question).Scan(&n); err != nil {
			t.Fatal(err)
		}
		return n
	}
	ask(`SELECT 1 FROM pg_advisory_lock('leases'::regclass::bigint)`)
	type granted struct {
		lease job.Lease
		err   error
	}
	answer := make(chan granted, 1)
	ctx, hangUp := context.WithCancel(t.Context())
	go func() {
		l, err := s.Grant(ctx, w, 1, time.Minute)
		answer <- granted{l, err}
	}()
	waitFor(t, "a grant inside its last batch", func() bool {
		return ask(`SELECT count(*) FROM pg_stat_activity WHERE application_name = 'hangs_up' AND wait_event = 'advisory'`) == 1
	})
	hangUp()
	ask(`SELECT 1 FROM pg_advisory_unlock('leases'::regclass::bigint)`)
	got := <-answer
	if got.err != nil || len(got.lease.Tasks) != 1 {
		t.Fatalf("granted %+v, %v: want the lease, so that it can be handed back", got.lease, got.err)
	}
	if err := s.HandBack(t.Context(), got.lease.Fence, nil); err != nil {
		t.Fatal(err)
	}
	if c := head(t, s, j.ID).Counts; c.Open != 1 || c.Leased != 0 {
		t.Errorf("counts %+v, want the task open", c)
	}
}

func TestManagerStoppedInsideATransactionDoesNotHoldAJobForEver(t *testing.T) {
	t.Parallel()
	dsn := newSchema(t)
	stopped := openStore(t, dsn+"&idle_in_transaction_session_timeout=300", postgres.Config{})
	other := openStore(t, dsn, postgres.Config{})
	j := createJob(t, other, 1, job.Spec{})
	going, holding := make(chan struct{}), make(chan struct{})
	done := make(chan error, 1)
	go func() { done <- stopped.HoldJob(t.Context(), j.ID, holding, going) }()
	<-holding
	if _, err := other.Pause(t.Context(), j.ID); err != nil {
		t.Errorf("beside a Manager that is stopped: %v", err)
	}
	close(going)
	if err := <-done; !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("the stopped one, once it goes on: got %v, want ErrUnavailable", err)
	}
}

func TestJobOfManyTasksIsStoredWholeAndInOrder(t *testing.T) {
	t.Parallel()
	s := openStore(t, newSchema(t), postgres.Config{})
	const tasks = 12_345
	n := store.NewJob{Tasks: make([]job.Task, tasks)}
	for i := range n.Tasks {
		n.Tasks[i] = job.Task{InputID: fmt.Sprint(i), Query: gmaps.Query{Keyword: "cafe"}}
	}
	j, _, err := s.CreateJob(t.Context(), n)
	if err != nil {
		t.Fatal(err)
	}
	got, err := s.Tasks(t.Context(), j.ID, store.TaskFilter{Limit: tasks + 1})
	if err != nil || len(got) != tasks || j.Counts.Open != tasks {
		t.Fatalf("%d tasks, %v, counted %d: want %d", len(got), err, j.Counts.Open, tasks)
	}
	for i, task := range got {
		if task.InputID != fmt.Sprint(i) {
			t.Fatalf("task %d is of line %s", i, task.InputID)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, _, err := s.CreateJob(ctx, n); !errors.Is(err, context.Canceled) {
		t.Errorf("for a caller that has gone away: %v", err)
	}
	if _, err := s.Cancel(t.Context(), j.ID); err != nil {
		t.Fatal(err)
	}
	if err := s.DeleteJob(t.Context(), j.ID); err != nil {
		t.Fatal(err)
	}
	for range 5 {
		if _, err := s.Expire(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	for table, n := range s.CountRows(t, "jobs", "job_inputs", "tasks", "events", "results", "leases") {
		if n != 0 {
			t.Errorf("%d rows left in %s", n, table)
		}
	}
}

func TestAnyTextIsStored(t *testing.T) {
	t.Parallel()
	s := openStore(t, newSchema(t), postgres.Config{})
	ctx := t.Context()
	const odd = "a\x00b \xff <ü> \u2028 \\u0000 'quoted' 🦊"
	n := store.NewJob{Spec: job.Spec{Name: odd, MaxAttempts: 1}, IdempotencyKey: odd, RequestHash: odd, Tasks: []job.Task{{InputID: odd, Query: gmaps.Query{Keyword: odd}}}}
	j, _, err := s.CreateJob(ctx, n)
	if err != nil {
		t.Fatal(err)
	}
	if again, created, err := s.CreateJob(ctx, n); err != nil || created || again.ID != j.ID {
		t.Errorf("under its key again: %s, created %t, %v", again.ID, created, err)
	}
	w := standing(t, s, odd)
	l, err := s.Grant(ctx, w, 1, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	p := gmaps.Place{DataID: "0x1:0x1", Title: "nul \x00, separator \u2028, <b>&</b>, \\u0000, 🦊"}
	if _, err := s.Submit(ctx, l.Fence, job.Batch{
		Places: []job.Found{{TaskID: l.Tasks[0].ID, Place: p}, {TaskID: l.Tasks[0].ID, Place: gmaps.Place{DataID: odd}}},
		Tasks:  []job.TaskStep{{TaskID: l.Tasks[0].ID, Cursor: odd, Error: odd}},
	}); err != nil {
		t.Fatal(err)
	}
	results, err := s.Results(ctx, j.ID, store.ResultFilter{Search: "nul \x00"})
	if err != nil || len(results) != 1 {
		t.Fatalf("%d results, %v", len(results), err)
	}
	if diff := cmp.Diff(p, results[0].Place); diff != "" {
		t.Errorf("place (-want +got):\n%s", diff)
	}
	if err := s.SpawnEnded(ctx, w, store.SpawnEnd{Outcome: job.Exited, LogTail: odd, Reason: odd}); err != nil {
		t.Fatal(err)
	}
	if err := s.SetWaiting(ctx, odd, j.ID); err != nil {
		t.Fatal(err)
	}
}
