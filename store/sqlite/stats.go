package sqlite

import (
	"context"
	"fmt"
	"time"

	"gmaps-scraper/job"
	"gmaps-scraper/store"
)

const (
	totals     = `SELECT pending, running, paused, succeeded, failed, cancelled, open, leased, done, dead, skipped, places FROM totals`
	oldestOpen = `SELECT coalesce((SELECT created_at FROM jobs INDEXED BY jobs_by_age WHERE grantable = 1 AND leased = 0
		AND NOT EXISTS (SELECT 1 FROM spawns WHERE job_id = jobs.id AND state <> 'ended') ORDER BY created_at LIMIT 1), 0)`
	liveLeases = `SELECT granted_at FROM leases WHERE ended_at = 0`
	liveSpawns = `SELECT state, 0, count(*) FROM spawns WHERE state <> 'ended' GROUP BY state`
	endings    = `SELECT outcome, failure, n FROM outcomes`
)

// Stats implements store.Store, from sums that are kept and from rows of what lives. Spawns that ended are those that ever ended.
func (s *Store) Stats(ctx context.Context) (store.Stats, error) {
	st := store.Stats{
		Jobs: make(map[job.State]int), Tasks: make(map[job.TaskState]int),
		Spawns: make(map[job.SpawnState]int), SpawnErrors: make(map[job.Outcome]int),
	}
	now := s.now().UnixMicro()
	err := s.read(ctx, func(q querier) error {
		var jobs [6]int
		var tasks [5]int
		err := q.QueryRowContext(ctx, totals).Scan(&jobs[0], &jobs[1], &jobs[2], &jobs[3], &jobs[4], &jobs[5],
			&tasks[0], &tasks[1], &tasks[2], &tasks[3], &tasks[4], &st.Results)
		if err != nil {
			return err
		}
		for i, state := range []job.State{job.Pending, job.Running, job.Paused, job.Succeeded, job.Failed, job.Cancelled} {
			st.Jobs[state] = jobs[i]
		}
		for i, state := range []job.TaskState{job.TaskOpen, job.TaskLeased, job.TaskDone, job.TaskDead, job.TaskSkipped} {
			st.Tasks[state] = tasks[i]
		}
		oldest, err := scanInt(q.QueryRowContext(ctx, oldestOpen))
		if err != nil {
			return err
		}
		st.OldestOpen = fromMicros(oldest)
		granted, err := collect(ctx, q, scanInt, liveLeases)
		if err != nil {
			return err
		}
		st.LiveLeases = len(granted)
		for _, at := range granted {
			st.LeaseAges = append(st.LeaseAges, time.Duration(now-at)*time.Microsecond)
		}
		live, err := collect(ctx, q, scanSum, liveSpawns)
		if err != nil {
			return err
		}
		for _, sum := range live {
			st.Spawns[job.SpawnState(sum.name)] = sum.n
		}
		ended, err := collect(ctx, q, scanSum, endings)
		for _, sum := range ended {
			st.Spawns[job.SpawnEnded] += sum.n
			if sum.failure {
				st.SpawnErrors[job.Outcome(sum.name)] += sum.n
			}
		}
		return err
	})
	if err != nil {
		return store.Stats{}, fmt.Errorf("stats: %w", err)
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
