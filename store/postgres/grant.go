package postgres

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"gmaps-scraper/job"
	"gmaps-scraper/store"
)

const (
	// A spawn's row is locked as long as it is granted a lease, so that none slips in beside its end, nor beside a poisonous task.
	lockLiveSpawn = `SELECT job_id FROM spawns WHERE id = $1 AND state NOT IN ('ended', 'stopping') FOR NO KEY UPDATE`
	leasesHeld    = `SELECT EXISTS (SELECT 1 FROM tasks WHERE tasks.fence = leases.fence AND state = 'leased' AND suspect)
		FROM leases WHERE spawn_id = $1 AND ended_at = 0`

	// The two questions are which job has an open task that is due: healthy, or one that has crashed a worker if the spawn holds no lease.
	// They lock its row. Spawns of one job and those of all ask both: only one of them finds anything.
	boundTo = `(SELECT job_id FROM spawns WHERE id = $1 AND state NOT IN ('ended', 'stopping'))`
	dueTask = `grantable AND (deadline = 0 OR deadline > (SELECT gmaps_now())) AND (
			EXISTS (SELECT 1 FROM tasks WHERE job_key = jobs.key AND tasks.state = 'open' AND NOT suspect AND not_before <= (SELECT gmaps_now()))
			OR (NOT EXISTS (SELECT 1 FROM leases WHERE spawn_id = $1 AND ended_at = 0)
				AND EXISTS (SELECT 1 FROM tasks WHERE job_key = jobs.key AND tasks.state = 'open' AND suspect AND not_before <= (SELECT gmaps_now()))))`
	firstDueJob = `SELECT ` + jobColumns + `, key FROM jobs WHERE ` + boundTo + ` = '' AND ` + dueTask + ` ORDER BY rank, key LIMIT 1 FOR NO KEY UPDATE`
	ownDueJob   = `SELECT ` + jobColumns + `, key FROM jobs WHERE id = ` + boundTo + ` AND ` + dueTask + ` FOR NO KEY UPDATE`

	// Tasks that were never tried are due since 1970, hence first, in id order; one that has crashed a worker comes when there is no other.
	// If none is due, nothing is written.
	leaseTasks = `WITH healthy AS MATERIALIZED (
			SELECT id FROM tasks WHERE job_key = $1 AND state = 'open' AND NOT suspect AND not_before <= $2
			ORDER BY not_before, id LIMIT $3 FOR UPDATE SKIP LOCKED),
		poison AS MATERIALIZED (
			SELECT id FROM tasks WHERE $4::boolean AND NOT EXISTS (SELECT 1 FROM healthy) AND job_key = $1 AND state = 'open' AND suspect AND not_before <= $2
			ORDER BY not_before, id LIMIT 1 FOR UPDATE SKIP LOCKED),
		due AS (SELECT id FROM healthy UNION ALL SELECT id FROM poison),
		made AS MATERIALIZED (
			INSERT INTO leases (job_key, spawn_id, granted_at, expires_at)
			SELECT $1::bigint, $5::text, $2::bigint, $6::bigint WHERE EXISTS (SELECT 1 FROM due) RETURNING fence),
		leased AS (
			UPDATE tasks SET state = 'leased', fence = made.fence, attempts = attempts + 1, updated_at = $2 FROM due, made
			WHERE tasks.id = due.id RETURNING ` + taskColumns + `),
		started AS (
			UPDATE jobs SET open = open - n, leased = leased + n, state = 'running', waiting = '',
				started_at = CASE started_at WHEN 0 THEN $2 ELSE started_at END,
				deadline = CASE WHEN deadline = 0 AND max_time > 0 THEN $2 + max_time ELSE deadline END, updated_at = $2
			FROM (SELECT count(*) AS n FROM leased) AS count WHERE key = $1 AND n > 0),
		told AS (
			INSERT INTO events (job_key, at, kind, text, data)
			SELECT $1::bigint, $2::bigint, $7::text, $8::text, $9::text WHERE $7::text <> '' AND EXISTS (SELECT 1 FROM leased))
		SELECT * FROM leased`
)

// errTaken says that others took what was due. Then there may be another job, hence another try.
var errTaken = fmt.Errorf("%w: others were first", store.ErrNoWork)

// dueJob is a job to grant tasks of, its row locked.
type dueJob struct {
	job.Job
	key int64
}

func scanDueJob(r scanner) (d dueJob, err error) {
	d.Job, err = scanJob(r, &d.key)
	return d, err
}

func scanBool(r scanner) (b bool, err error) {
	err = r.Scan(&b)
	return b, err
}

// Grant implements store.Store. Among the due tasks of a job, those that have crashed a worker come last. A lease whose commit was sent is
// returned, also to a caller that has gone away: who does not know of it could not hand it back.
func (s *Store) Grant(ctx context.Context, spawn job.SpawnID, max int, ttl time.Duration) (lease job.Lease, err error) {
	for range tries {
		var g granted
		err = s.write(ctx, func(ctx context.Context, t *tx) error {
			g = granted{}
			return t.grant(ctx, spawn, max, ttl, &g)
		})
		if err == nil {
			lease, err = g.lease(ttl)
		}
		if !errors.Is(err, errTaken) {
			break
		}
	}
	if err != nil {
		return job.Lease{}, fmt.Errorf("grant a lease to spawn %s: %w", spawn, err)
	}
	return lease, nil
}

// granted is what a grant took: no rows, if others were first.
type granted struct {
	job  dueJob
	now  int64
	rows []taskRow
}

// grant takes two round trips: the second takes the tasks and commits.
func (t *tx) grant(ctx context.Context, spawn job.SpawnID, limit int, ttl time.Duration, g *granted) error {
	var bound []job.ID
	var held []bool // of each lease: whether it holds a task that has crashed a worker
	var of, own []dueJob
	ask(t, &bound, scanJobID, lockLiveSpawn, spawn)
	ask(t, &held, scanBool, leasesHeld, spawn)
	ask(t, &of, scanDueJob, firstDueJob, spawn)
	ask(t, &own, scanDueJob, ownDueJob, spawn)
	t.clock()
	if err := t.flush(ctx); err != nil {
		return err
	}
	due := slices.Concat(of, own)
	switch {
	case len(bound) == 0:
		return store.ErrUnknownSpawn
	case slices.Contains(held, true), len(due) == 0:
		return store.ErrNoWork
	}
	g.job, g.now = due[0], t.now
	var kind job.EventKind
	var text, data string
	if g.job.State == job.Pending {
		kind, text, data = job.EventStarted, "started by "+job.Spawn{ID: spawn}.Name(), facts(map[string]any{"spawn": spawn})
	}
	t.whole = true
	alone := len(held) == 0
	ask(t, &g.rows, scanTask, leaseTasks, g.job.key, t.now, max(1, limit), alone, spawn, t.now+ttl.Microseconds(), kind, text, data)
	return nil
}

// lease is what was granted. errTaken: while the transaction waited for the job's lock, another one took what was due.
func (g *granted) lease(ttl time.Duration) (job.Lease, error) {
	if len(g.rows) == 0 {
		return job.Lease{}, errTaken
	}
	tasks := make([]job.Task, len(g.rows))
	for i, r := range g.rows {
		tasks[i] = r.Task
		tasks[i].JobID = g.job.ID
	}
	slices.SortFunc(tasks, func(a, b job.Task) int { return cmp.Compare(a.ID, b.ID) })
	return job.Lease{
		Fence: g.rows[0].fence, JobID: g.job.ID, Spec: g.job.Spec, Tasks: tasks, TTL: ttl, Expires: fromMicros(g.now + ttl.Microseconds()),
	}, nil
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
