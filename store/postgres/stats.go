package postgres

import (
	"context"
	"fmt"
	"slices"
	"time"

	"gmaps-scraper/job"
	"gmaps-scraper/store"
)

const (
	totals = `SELECT sum(pending)::bigint, sum(running)::bigint, sum(paused)::bigint, sum(succeeded)::bigint, sum(failed)::bigint, sum(cancelled)::bigint,
		sum(open)::bigint, sum(leased)::bigint, sum(done)::bigint, sum(dead)::bigint, sum(skipped)::bigint, sum(places)::bigint FROM totals`
	// Ids grow with time by the clocks of Managers: as far as those differ, a younger job may be taken for the oldest. What is passed over has
	// a worker, hence is as few as those.
	alone      = `AND grantable AND leased = 0 AND NOT EXISTS (SELECT 1 FROM spawns WHERE job_id = jobs.id AND spawns.state <> 'ended') ORDER BY id LIMIT 1`
	oldestOpen = `(SELECT created_at FROM jobs WHERE state = 'pending' ` + alone + `) UNION ALL (SELECT created_at FROM jobs WHERE state = 'running' ` + alone + `)`
	liveLeases = `SELECT (SELECT gmaps_now()) - granted_at FROM leases WHERE ended_at = 0`
	liveSpawns = `SELECT state, false, count(*) FROM spawns WHERE state <> 'ended' GROUP BY state`
	endings    = `SELECT outcome, failure, n FROM outcomes`
)

type sums struct {
	jobs    [6]int
	tasks   [5]int
	results int64
}

func scanSums(r scanner) (s sums, err error) {
	err = r.Scan(&s.jobs[0], &s.jobs[1], &s.jobs[2], &s.jobs[3], &s.jobs[4], &s.jobs[5],
		&s.tasks[0], &s.tasks[1], &s.tasks[2], &s.tasks[3], &s.tasks[4], &s.results)
	return s, err
}

// Stats implements store.Store, from sums that are kept and from rows of what lives. Spawns that ended are those that ever ended.
func (s *Store) Stats(ctx context.Context) (store.Stats, error) {
	var (
		all           []sums
		oldest, ages  []int64
		living, ended []sum
	)
	err := s.read(ctx, func(r *reading) {
		read(r, &all, scanSums, totals)
		read(r, &oldest, scanInt, oldestOpen)
		read(r, &ages, scanInt, liveLeases)
		read(r, &living, scanSum, liveSpawns)
		read(r, &ended, scanSum, endings)
	})
	if err != nil {
		return store.Stats{}, fmt.Errorf("stats: %w", err)
	}
	st := store.Stats{
		Jobs: make(map[job.State]int), Tasks: make(map[job.TaskState]int),
		Spawns: make(map[job.SpawnState]int), SpawnErrors: make(map[job.Outcome]int),
		Results: all[0].results, LiveLeases: len(ages),
	}
	for i, state := range []job.State{job.Pending, job.Running, job.Paused, job.Succeeded, job.Failed, job.Cancelled} {
		st.Jobs[state] = all[0].jobs[i]
	}
	for i, state := range []job.TaskState{job.TaskOpen, job.TaskLeased, job.TaskDone, job.TaskDead, job.TaskSkipped} {
		st.Tasks[state] = all[0].tasks[i]
	}
	if len(oldest) > 0 {
		st.OldestOpen = fromMicros(slices.Min(oldest))
	}
	for _, age := range ages {
		st.LeaseAges = append(st.LeaseAges, time.Duration(age)*time.Microsecond)
	}
	for _, sum := range living {
		st.Spawns[job.SpawnState(sum.name)] = sum.n
	}
	for _, sum := range ended {
		st.Spawns[job.SpawnEnded] += sum.n
		if sum.failure {
			st.SpawnErrors[job.Outcome(sum.name)] += sum.n
		}
	}
	return st, nil
}

type sum struct {
	name    string
	failure bool
	n       int
}

func scanSum(r scanner) (s sum, err error) {
	err = r.Scan(&s.name, &s.failure, &s.n)
	return s, err
}
