package postgres_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"gmaps-scraper/job"
	"gmaps-scraper/store"
	"gmaps-scraper/store/postgres"
)

// blocks reports whether anyone waits for a lock that conn holds.
func blocks(t *testing.T, conn *pgx.Conn) (waits bool) {
	t.Helper()
	const blocked = `SELECT EXISTS (SELECT 1 FROM pg_locks WHERE NOT granted AND pg_backend_pid() = ANY(pg_blocking_pids(pid)))`
	if err := conn.QueryRow(t.Context(), blocked).Scan(&waits); err != nil {
		t.Fatal(err)
	}
	return waits
}

// A Grant that waits for the lock of a job has begun its statement before the one that holds it commits: what it has seen is old by then.
func TestGrantThatWaitedForAJobGoesByWhatItsHolderLeft(t *testing.T) {
	t.Parallel()
	const (
		take = `WITH lease AS (INSERT INTO leases (job_key, spawn_id, granted_at, expires_at) SELECT key, 'other', 1, 9e15::bigint FROM jobs WHERE id = $1 RETURNING fence),
			taken AS (UPDATE tasks SET state = 'leased', attempts = attempts + 1, fence = (SELECT fence FROM lease) WHERE id IN (
				SELECT id FROM tasks WHERE job_key = (SELECT key FROM jobs WHERE id = $1) AND state = 'open' ORDER BY id LIMIT %d) RETURNING 1)
			UPDATE jobs SET state = 'running', open = open - n, leased = leased + n FROM (SELECT count(*) AS n FROM taken) AS taken WHERE id = $1`
		give = `WITH given AS (UPDATE tasks SET state = 'open', attempts = attempts - 1 WHERE state = 'leased' RETURNING 1)
			UPDATE jobs SET open = open + n, leased = leased - n FROM (SELECT count(*) AS n FROM given) AS given WHERE id = $1`
		split = `WITH made AS (INSERT INTO tasks (job_key, state, input_id, updated_at, query, cell)
				SELECT key, 'open', '', 1, '{}', '' FROM jobs, generate_series(1, 2) WHERE id = $1 RETURNING 1)
			UPDATE jobs SET open = open + n FROM (SELECT count(*) AS n FROM made) AS made WHERE id = $1`
		crash = `UPDATE tasks SET crashes = 1 WHERE id IN (
			SELECT id FROM tasks WHERE job_key = (SELECT key FROM jobs WHERE id = $1) AND state = 'open' ORDER BY id LIMIT %d)`
		later = `UPDATE tasks SET not_before = 9e15::bigint WHERE job_key = (SELECT key FROM jobs WHERE id = $1)`
		state = `UPDATE jobs SET state = '%s' WHERE id = $1`
		over  = `UPDATE jobs SET deadline = 1 WHERE id = $1`
	)
	for _, c := range []struct {
		name      string
		meanwhile []string // what the holder of the lock does to the job of four tasks before it commits
		want      int      // of that job's tasks
	}{
		{"nothing", nil, 4},
		{"paused", []string{fmt.Sprintf(state, job.Paused)}, 0},
		{"cancelled", []string{fmt.Sprintf(state, job.Cancelled)}, 0},
		{"deadline over", []string{over}, 0},
		{"some taken", []string{fmt.Sprintf(take, 3)}, 1},
		{"all taken", []string{fmt.Sprintf(take, 4)}, 0},
		{"all taken, others made", []string{fmt.Sprintf(take, 4), split}, 2},
		{"taken and given back", []string{fmt.Sprintf(take, 3), give}, 4},
		{"some crashed", []string{fmt.Sprintf(crash, 1)}, 3},
		{"all crashed", []string{fmt.Sprintf(crash, 4)}, 1},
		{"put off", []string{later}, 0},
	} {
		for _, other := range []int{0, 1} { // tasks of the job that is next in order
			t.Run(fmt.Sprintf("%s, %d beside", c.name, other), func(t *testing.T) {
				t.Parallel()
				dsn := newSchema(t)
				s := openStore(t, dsn, postgres.Config{MaxConns: 3})
				first := createJob(t, s, 4, job.Spec{})
				var second job.Job
				if other > 0 {
					second = createJob(t, s, other, job.Spec{})
				}
				w := standing(t, s, "n")
				conn, err := pgx.Connect(t.Context(), dsn)
				if err != nil {
					t.Fatal(err)
				}
				defer conn.Close(context.WithoutCancel(t.Context()))
				do := func(statement string, args ...any) {
					t.Helper()
					if _, err := conn.Exec(t.Context(), statement, args...); err != nil {
						t.Fatalf("%s: %v", statement, err)
					}
				}
				do(`BEGIN`)
				do(`SELECT 1 FROM jobs WHERE id = $1 FOR NO KEY UPDATE`, string(first.ID))
				type granted struct {
					job.Lease
					err error
				}
				answer := make(chan granted, 1)
				go func() {
					l, err := s.Grant(t.Context(), w, 10, time.Minute)
					answer <- granted{l, err}
				}()
				waitFor(t, "a grant that waits", func() bool { return blocks(t, conn) })
				for _, statement := range c.meanwhile {
					do(statement, string(first.ID))
				}
				do(`COMMIT`)
				got := <-answer
				switch {
				case c.want > 0:
					if got.err != nil || got.JobID != first.ID || len(got.Tasks) != c.want {
						t.Errorf("got %d tasks of %s, %v: want %d of %s", len(got.Tasks), got.JobID, got.err, c.want, first.ID)
					}
				case other > 0:
					if got.err != nil || got.JobID != second.ID || len(got.Tasks) != other {
						t.Errorf("got %d tasks of %s, %v: want %d of %s", len(got.Tasks), got.JobID, got.err, other, second.ID)
					}
				case !errors.Is(got.err, store.ErrNoWork):
					t.Errorf("got %d tasks of %s, %v: want ErrNoWork", len(got.Tasks), got.JobID, got.err)
				}
				seen := make(map[job.TaskID]bool)
				for _, task := range got.Tasks {
					if seen[task.ID] || task.Attempts != 1 || task.State != job.TaskLeased {
						t.Errorf("task %+v", task)
					}
					seen[task.ID] = true
				}
				var leases int
				if err := conn.QueryRow(t.Context(), `SELECT count(*) FROM leases WHERE spawn_id = $1`, string(w)).Scan(&leases); err != nil {
					t.Fatal(err)
				}
				if want := min(1, len(got.Tasks)); leases != want {
					t.Errorf("%d leases were made, want %d", leases, want)
				}
				recount(t, s)
			})
		}
	}
}

// The server does what has reached it also when the line breaks: nobody knows of such a lease.
func TestGrantWhoseAnswerWasLostExpiresAndIsGrantedAgain(t *testing.T) {
	t.Parallel()
	dsn := newSchema(t)
	p := newProxy(t)
	far, near := openStore(t, p.dsn(t, dsn), postgres.Config{MaxConns: 2}), openStore(t, dsn, postgres.Config{MaxConns: 2})
	j := createJob(t, near, 2, job.Spec{})
	w := standing(t, near, "n")
	conn, err := pgx.Connect(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.WithoutCancel(t.Context()))
	tx, err := conn.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec(t.Context(), `SELECT 1 FROM jobs FOR NO KEY UPDATE`); err != nil {
		t.Fatal(err)
	}
	answer := make(chan error, 1)
	go func() {
		_, err := far.Grant(t.Context(), w, 10, time.Minute)
		answer <- err
	}()
	waitFor(t, "a grant that waits", func() bool { return blocks(t, conn) })
	p.cut()
	if err := <-answer; !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("got %v, want ErrUnavailable", err)
	}
	if err := tx.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "the lease that nobody knows of", func() bool { return head(t, near, j.ID).Counts.Leased == 2 })
	if _, err := near.Grant(t.Context(), w, 10, time.Minute); !errors.Is(err, store.ErrNoWork) {
		t.Errorf("got %v, want ErrNoWork", err)
	}
	setClock(t, dsn, 2*time.Minute)
	if n, err := near.Expire(t.Context()); n != 1 || err != nil {
		t.Errorf("%d leases expired, %v: want 1", n, err)
	}
	l, err := near.Grant(t.Context(), w, 10, time.Minute)
	if err != nil || l.Tasks[0].Attempts != 2 {
		t.Errorf("granted %+v, %v: want the first task's second attempt", l, err)
	}
	recount(t, near)
}
