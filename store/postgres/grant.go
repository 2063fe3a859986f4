package postgres

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"gmaps-scraper/job"
	"gmaps-scraper/store"
)

const (
	// A spawn's row is locked as long as it is granted a lease, so that none slips in beside its end, nor beside a poisonous task.
	// It is a question before the others: they see what the one that held the lock has left.
	lockLiveSpawn = `SELECT job_id FROM spawns WHERE id = $1 AND state NOT IN ('ended', 'stopping') FOR NO KEY UPDATE`

	// spawnStanding is what a spawn may have: nothing beside a task that has crashed a worker, and such a task only if it holds no lease.
	spawnStanding = `held AS MATERIALIZED (
			SELECT EXISTS (SELECT 1 FROM tasks WHERE tasks.fence = leases.fence AND state = 'leased' AND suspect) AS poison
			FROM leases WHERE spawn_id = $1 AND ended_at = 0),
		standing AS MATERIALIZED (
			SELECT job_id, NOT EXISTS (SELECT 1 FROM held) AS alone FROM spawns
			WHERE id = $1 AND state NOT IN ('ended', 'stopping') AND NOT EXISTS (SELECT 1 FROM held WHERE poison))`
	// The two questions are which job has an open task that is due. Spawns of one job and those of all ask both: only one of them finds anything.
	dueTask = `grantable AND (deadline = 0 OR deadline > (SELECT gmaps_now())) AND (
			EXISTS (SELECT 1 FROM tasks WHERE job_key = jobs.key AND tasks.state = 'open' AND NOT suspect AND not_before <= (SELECT gmaps_now()))
			OR ((SELECT alone FROM standing)
				AND EXISTS (SELECT 1 FROM tasks WHERE job_key = jobs.key AND tasks.state = 'open' AND suspect AND not_before <= (SELECT gmaps_now()))))`
	firstDueJob = `SELECT key, id, spec, state FROM jobs WHERE (SELECT job_id FROM standing) = '' AND ` + dueTask + ` ORDER BY rank, key LIMIT 1`
	ownDueJob   = `SELECT key, id, spec, state FROM jobs WHERE id = (SELECT job_id FROM standing) AND ` + dueTask

	// One statement locks the job, then its tasks, and leases them. A lock that was waited for is of the newest row, whose columns are tried
	// again: a task that was taken, or a job that was paused, meanwhile is left out. The clock is read after the wait.
	// Tasks that were never tried are due since 1970, hence first, in id order; one that has crashed a worker comes when there is no other.
	// If none is due, nothing is written.
	leaseTasks = `WITH ` + spawnStanding + `,
		of_all AS MATERIALIZED (` + firstDueJob + ` FOR NO KEY UPDATE),
		of_own AS MATERIALIZED (` + ownDueJob + ` FOR NO KEY UPDATE),
		job AS MATERIALIZED (SELECT * FROM of_all UNION ALL SELECT * FROM of_own),
		clock AS MATERIALIZED (SELECT key, gmaps_now() AS now FROM job),
		healthy AS MATERIALIZED (
			SELECT id FROM tasks WHERE job_key = (SELECT key FROM clock) AND state = 'open' AND NOT suspect AND not_before <= (SELECT now FROM clock)
			ORDER BY not_before, id LIMIT $2 FOR UPDATE SKIP LOCKED),
		poison AS MATERIALIZED (
			SELECT id FROM tasks WHERE (SELECT alone FROM standing) AND NOT EXISTS (SELECT 1 FROM healthy)
				AND job_key = (SELECT key FROM clock) AND state = 'open' AND suspect AND not_before <= (SELECT now FROM clock)
			ORDER BY not_before, id LIMIT 1 FOR UPDATE SKIP LOCKED),
		due AS (SELECT id FROM healthy UNION ALL SELECT id FROM poison),
		made AS MATERIALIZED (
			INSERT INTO leases (job_key, spawn_id, granted_at, expires_at)
			SELECT key, $1, now, now + $3 FROM clock WHERE EXISTS (SELECT 1 FROM due) RETURNING fence, job_key, granted_at AS now, expires_at),
		leased AS (
			UPDATE tasks SET state = 'leased', fence = made.fence, attempts = attempts + 1, updated_at = made.now FROM due, made
			WHERE tasks.id = due.id RETURNING ` + taskColumns + `),
		started AS (
			UPDATE jobs SET open = open - n, leased = leased + n, state = 'running', waiting = '',
				started_at = CASE started_at WHEN 0 THEN made.now ELSE started_at END,
				deadline = CASE WHEN deadline = 0 AND max_time > 0 THEN made.now + max_time ELSE deadline END, updated_at = made.now
			FROM made, (SELECT count(*) AS n FROM leased) AS count WHERE key = made.job_key AND n > 0),
		told AS (
			INSERT INTO events (job_key, at, kind, text, data)
			SELECT made.job_key, made.now, $4, $5, $6 FROM made, job WHERE job.state = 'pending' AND EXISTS (SELECT 1 FROM leased))
		SELECT leased.*, job.id, job.spec, made.expires_at FROM leased, job, made`
	// What only locked need not wait for the disk: workers that come too late for a job do that.
	hurry = `SELECT set_config('synchronous_commit', 'off', true) WHERE NOT EXISTS (SELECT 1 FROM leases WHERE spawn_id = $1 AND ended_at = 0)`

	anyDueJob = `WITH ` + spawnStanding + ` SELECT EXISTS (` + firstDueJob + `) OR EXISTS (` + ownDueJob + `)`
)

// errTaken says that others took what was due. Then there may be another job, hence another try.
var errTaken = fmt.Errorf("%w: others were first", store.ErrNoWork)

func scanBool(r scanner) (b bool, err error) {
	err = r.Scan(&b)
	return b, err
}

// Grant implements store.Store. Among the due tasks of a job, those that have crashed a worker come last. A lease whose commit was sent is
// returned, also to a caller that has gone away: who does not know of it could not hand it back.
func (s *Store) Grant(ctx context.Context, spawn job.SpawnID, max int, ttl time.Duration) (lease job.Lease, err error) {
	for range tries {
		if lease, err = s.grant(ctx, spawn, max, ttl); !errors.Is(err, errTaken) {
			break
		}
	}
	if err != nil {
		return job.Lease{}, fmt.Errorf("grant a lease to spawn %s: %w", spawn, err)
	}
	return lease, nil
}

// grant takes one round trip. errTaken: while it waited for a job's lock, another one took what was due.
func (s *Store) grant(ctx context.Context, spawn job.SpawnID, limit int, ttl time.Duration) (job.Lease, error) {
	var bound []job.ID
	var rows []leasedTask
	err := s.write(ctx, func(_ context.Context, t *tx) error {
		t.whole = true
		ask(t, &bound, scanJobID, lockLiveSpawn, spawn)
		ask(t, &rows, scanLeased, leaseTasks, spawn, max(1, limit), ttl.Microseconds(),
			job.EventStarted, "started by "+job.Spawn{ID: spawn}.Name(), facts(map[string]any{"spawn": spawn}))
		ask(t, new([]string), scanText, hurry, spawn)
		return nil
	})
	switch {
	case err != nil:
		return job.Lease{}, err
	case len(bound) == 0:
		return job.Lease{}, store.ErrUnknownSpawn
	case len(rows) > 0:
		return leaseOf(rows, ttl)
	}
	var more []bool
	err = s.read(ctx, func(r *reading) { read(r, &more, scanBool, anyDueJob, spawn) })
	switch {
	case err != nil:
		return job.Lease{}, err
	case more[0]:
		return job.Lease{}, errTaken
	}
	return job.Lease{}, store.ErrNoWork
}

// leasedTask is a task that was granted, with what all tasks of its lease have alike.
type leasedTask struct {
	taskRow
	jobID   job.ID
	spec    []byte
	expires int64
}

func scanLeased(r scanner) (l leasedTask, err error) {
	l.taskRow, err = scanTaskAnd(r, &l.jobID, &l.spec, &l.expires)
	return l, err
}

func leaseOf(rows []leasedTask, ttl time.Duration) (job.Lease, error) {
	first := &rows[0]
	l := job.Lease{Fence: first.fence, JobID: first.jobID, Tasks: make([]job.Task, len(rows)), TTL: ttl, Expires: fromMicros(first.expires)}
	if err := json.Unmarshal(first.spec, &l.Spec); err != nil {
		return job.Lease{}, fmt.Errorf("read spec of job %s: %w", l.JobID, err)
	}
	for i, r := range rows {
		l.Tasks[i] = r.Task
		l.Tasks[i].JobID = l.JobID
	}
	slices.SortFunc(l.Tasks, func(a, b job.Task) int { return cmp.Compare(a.ID, b.ID) })
	return l, nil
}

func scanJobID(r scanner) (id job.ID, err error) {
	err = r.Scan(&id)
	return id, err
}

const (
	boundJob = `SELECT job_id FROM spawns WHERE id = $1 AND state <> 'ended'`
	// The clock is asked in a question of its own, which is answered once: then an index finds what lies beyond it.
	nextOfOwn = `WITH own AS MATERIALIZED (SELECT key FROM jobs WHERE id = $1 AND grantable)
		SELECT least(
			(SELECT min(not_before) FROM tasks WHERE job_key = (SELECT key FROM own) AND state = 'open' AND NOT suspect AND not_before > (SELECT gmaps_now())),
			(SELECT min(not_before) FROM tasks WHERE job_key = (SELECT key FROM own) AND state = 'open' AND suspect AND not_before > (SELECT gmaps_now()))) - gmaps_now()`
	nextOfAny = `SELECT not_before - gmaps_now() FROM tasks JOIN jobs ON key = job_key
		WHERE tasks.state = 'open' AND not_before > 0 AND not_before > (SELECT gmaps_now()) AND grantable ORDER BY not_before LIMIT 1`
)

func scanMaybe(r scanner) (n *int64, err error) {
	err = r.Scan(&n)
	return n, err
}

// NextOpen implements store.Store.
func (s *Store) NextOpen(ctx context.Context, spawn job.SpawnID) (in time.Duration, some bool, err error) {
	var bound []job.ID
	var next []*int64
	err = s.read(ctx, func(r *reading) { read(r, &bound, scanJobID, boundJob, spawn) })
	switch {
	case err != nil:
	case len(bound) == 0:
		err = store.ErrUnknownSpawn
	case bound[0] == "":
		err = s.read(ctx, func(r *reading) { read(r, &next, scanMaybe, nextOfAny) })
	default:
		err = s.read(ctx, func(r *reading) { read(r, &next, scanMaybe, nextOfOwn, bound[0]) })
	}
	if err != nil {
		return 0, false, fmt.Errorf("next task of spawn %s: %w", spawn, err)
	}
	if len(next) == 0 || next[0] == nil {
		return 0, false, nil
	}
	return time.Duration(max(0, *next[0])) * time.Microsecond, true, nil
}
