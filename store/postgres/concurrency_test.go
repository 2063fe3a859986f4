package postgres_test

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"gmaps-scraper/gmaps"
	"gmaps-scraper/job"
	"gmaps-scraper/store"
	"gmaps-scraper/store/postgres"
)

// managers are stores on one schema, as Managers beside each other have.
func managers(t *testing.T, n int) []*postgres.Store {
	t.Helper()
	return managersOn(t, newSchema(t), n)
}

func managersOn(t *testing.T, dsn string, n int) []*postgres.Store {
	t.Helper()
	stores := make([]*postgres.Store, n)
	for i := range stores {
		stores[i] = openStore(t, dsn, postgres.Config{MaxConns: 6})
	}
	return stores
}

// atOnce calls f(0) to f(n-1) at the same time and returns their answers.
func atOnce[T any](n int, f func(i int) T) []T {
	answers := make([]T, n)
	start := make(chan struct{})
	var all sync.WaitGroup
	for i := range n {
		all.Go(func() {
			<-start
			answers[i] = f(i)
		})
	}
	close(start)
	all.Wait()
	return answers
}

func createJob(t *testing.T, s store.Store, tasks int, spec job.Spec) job.Job {
	t.Helper()
	if spec.MaxAttempts == 0 {
		spec.MaxAttempts = 3
	}
	j, _, err := s.CreateJob(t.Context(), store.NewJob{Spec: spec, Tasks: make([]job.Task, tasks)})
	if err != nil {
		t.Fatal(err)
	}
	return j
}

func standing(t *testing.T, s store.Store, nonce string) job.SpawnID {
	t.Helper()
	w, err := s.JoinStanding(t.Context(), nonce, 4)
	if err != nil {
		t.Fatal(err)
	}
	return w.ID
}

func head(t *testing.T, s store.Store, id job.ID) job.Job {
	t.Helper()
	j, err := s.JobHead(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	return j
}

func places(task job.TaskID, ns ...int) []job.Found {
	var all []job.Found
	for _, n := range ns {
		all = append(all, job.Found{TaskID: task, Place: gmaps.Place{DataID: fmt.Sprintf("0x1:0x%x", n), Title: fmt.Sprintf("Place %d", n)}})
	}
	return all
}

func TestNoTaskIsGrantedTwiceByManagersAtOnce(t *testing.T) {
	t.Parallel()
	m := managers(t, 2)
	const tasks, workers = 60, 12
	jobs := []job.Job{createJob(t, m[0], tasks/2, job.Spec{}), createJob(t, m[0], tasks/2, job.Spec{})}
	spawns := make([]job.SpawnID, workers)
	for i := range spawns {
		spawns[i] = standing(t, m[0], fmt.Sprint(i))
	}
	leases := atOnce(workers, func(i int) (got []job.Lease) {
		for {
			l, err := m[i%2].Grant(t.Context(), spawns[i], 2, time.Minute)
			if errors.Is(err, store.ErrNoWork) {
				return got
			}
			if err != nil {
				t.Error(err)
				return got
			}
			got = append(got, l)
		}
	})
	granted := make(map[job.TaskID]bool)
	fences := make(map[job.Fence]bool)
	for _, mine := range leases {
		last := job.Fence(0)
		for _, l := range mine {
			if l.Fence <= last || fences[l.Fence] {
				t.Errorf("fence %d was granted after %d", l.Fence, last)
			}
			last, fences[l.Fence] = l.Fence, true
			for _, task := range l.Tasks {
				if granted[task.ID] {
					t.Errorf("task %d was granted twice", task.ID)
				}
				granted[task.ID] = true
			}
		}
	}
	if len(granted) != tasks {
		t.Errorf("%d tasks were granted, want %d", len(granted), tasks)
	}
	for _, j := range jobs {
		if c := head(t, m[1], j.ID).Counts; c.Leased != tasks/2 || c.Open != 0 {
			t.Errorf("counts %+v", c)
		}
	}
}

func TestCapHoldsForManagersThatPlanAtOnce(t *testing.T) {
	t.Parallel()
	m := managers(t, 3)
	for range 8 {
		createJob(t, m[0], 40, job.Spec{MaxWorkers: 4})
	}
	const most = 7
	for range 4 { // the first round finds connections that are still being made
		plans := atOnce(12, func(i int) []job.Spawn {
			spawns, err := m[i%3].PlanSpawns(t.Context(), store.Plan{Backend: "docker", Cap: most, Concurrency: 1})
			if err != nil {
				t.Error(err)
			}
			return spawns
		})
		if n := len(slices.Concat(plans...)); n != most {
			t.Errorf("%d spawns were planned, want %d", n, most)
		}
		live, err := m[0].Spawns(t.Context(), store.SpawnFilter{Live: true})
		if err != nil || len(live) != most {
			t.Errorf("%d spawns live, %v: want %d", len(live), err, most)
		}
		for _, spawn := range live {
			if err := m[0].SpawnEnded(t.Context(), spawn.ID, store.SpawnEnd{Outcome: job.Stopped}); err != nil {
				t.Error(err)
			}
		}
	}
}

func TestPlaceHandedInByTwoLeasesAtOnceIsOneRow(t *testing.T) {
	t.Parallel()
	m := managers(t, 2)
	j := createJob(t, m[0], 8, job.Spec{})
	leases := make([]job.Lease, 8)
	for i := range leases {
		l, err := m[0].Grant(t.Context(), standing(t, m[0], fmt.Sprint(i)), 1, time.Minute)
		if err != nil {
			t.Fatal(err)
		}
		leases[i] = l
	}
	acks := atOnce(len(leases), func(i int) (sum job.Ack) {
		for n := range 5 { // the same places for all, in another order for each
			ns := []int{10 * n, 10*n + 1, 10*n + 2, 10*n + 3}
			if i%2 == 1 {
				slices.Reverse(ns)
			}
			ack, err := m[i%2].Submit(t.Context(), leases[i].Fence, job.Batch{Places: places(leases[i].Tasks[0].ID, ns...)})
			if err != nil {
				t.Error(err)
			}
			sum.New += ack.New
			sum.Duplicates += ack.Duplicates
		}
		return sum
	})
	fresh, duplicates := 0, 0
	for _, ack := range acks {
		fresh += ack.New
		duplicates += ack.Duplicates
	}
	results, err := m[0].Results(t.Context(), j.ID, store.ResultFilter{})
	if err != nil || len(results) != 20 || fresh != 20 || duplicates != 140 {
		t.Errorf("%d rows (%v), %d acknowledged as new and %d as duplicates: want 20, 20, 140", len(results), err, fresh, duplicates)
	}
	if c := head(t, m[0], j.ID).Counts; c.Places != 20 || c.Duplicates != 140 {
		t.Errorf("counts %+v", c)
	}
}

// A reader that pages while others store must not be overtaken: a row that appears behind its cursor would never be seen.
func TestNoResultAppearsBehindAReadersCursor(t *testing.T) {
	t.Parallel()
	m := managers(t, 2)
	const writers, batches = 4, 25
	j := createJob(t, m[0], writers, job.Spec{})
	var leases []job.Lease
	for i := range writers {
		l, err := m[0].Grant(t.Context(), standing(t, m[0], fmt.Sprint(i)), 1, time.Minute)
		if err != nil {
			t.Fatal(err)
		}
		leases = append(leases, l)
	}
	var writing sync.WaitGroup
	for i, l := range leases {
		writing.Go(func() {
			for n := range batches {
				if _, err := m[i%2].Submit(t.Context(), l.Fence, job.Batch{Places: places(l.Tasks[0].ID, i*1000+2*n, i*1000+2*n+1)}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	over := make(chan struct{})
	go func() { writing.Wait(); close(over) }()
	seen, after := 0, int64(0)
	for last := false; ; {
		page, err := m[1].Results(t.Context(), j.ID, store.ResultFilter{After: after, Limit: 7})
		if err != nil {
			t.Fatal(err)
		}
		seen += len(page)
		if len(page) > 0 {
			after = page[len(page)-1].Seq
			continue
		}
		if last {
			break
		}
		select {
		case <-over:
			last = true
		default:
		}
	}
	if want := writers * batches * 2; seen != want {
		t.Errorf("a reader that followed saw %d results of %d", seen, want)
	}
}

func TestOneIdempotencyKeyMakesOneJobForManagersAtOnce(t *testing.T) {
	t.Parallel()
	m := managers(t, 2)
	type made struct {
		id      job.ID
		created bool
	}
	got := atOnce(12, func(i int) made {
		j, created, err := m[i%2].CreateJob(t.Context(), store.NewJob{Tasks: make([]job.Task, 3), IdempotencyKey: "k", RequestHash: "h"})
		if err != nil {
			t.Error(err)
		}
		return made{j.ID, created}
	})
	created := 0
	for _, g := range got {
		if g.id != got[0].id {
			t.Errorf("jobs %s and %s", g.id, got[0].id)
		}
		if g.created {
			created++
		}
	}
	if created != 1 {
		t.Errorf("%d calls made it, want 1", created)
	}
}

func TestManagersThatStartAtOnceMigrateOnce(t *testing.T) {
	t.Parallel()
	dsn := virginSchema(t)
	stores := atOnce(3, func(int) *postgres.Store {
		s, err := postgres.Open(t.Context(), dsn, postgres.Config{})
		if err != nil {
			t.Error(err)
		}
		return s
	})
	for _, s := range stores {
		if s == nil {
			continue
		}
		if err := s.Ping(t.Context()); err != nil {
			t.Error(err)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
}

// audit has the server refuse each write that breaks what must hold of leases: at once, or when its transaction commits.
const audit = `
	CREATE FUNCTION audit_task() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
		IF OLD.state <> 'open' OR NEW.fence <= OLD.fence OR NEW.attempts <> OLD.attempts + 1 OR NEW.not_before > gmaps_now() THEN
			RAISE 'audit: task % went from % to %', OLD.id, OLD, NEW;
		END IF;
		RETURN NEW;
	END $$;
	CREATE TRIGGER audit BEFORE UPDATE ON tasks FOR EACH ROW WHEN (NEW.state = 'leased' AND (OLD.state <> 'leased' OR OLD.fence <> NEW.fence))
		EXECUTE FUNCTION audit_task();

	CREATE FUNCTION audit_lease() RETURNS trigger LANGUAGE plpgsql AS $$
	DECLARE
		n bigint; poison bigint; others bigint;
	BEGIN
		SELECT count(*), count(*) FILTER (WHERE suspect) INTO n, poison FROM tasks WHERE fence = NEW.fence AND state = 'leased' AND job_key = NEW.job_key;
		SELECT count(*) INTO others FROM leases WHERE spawn_id = NEW.spawn_id AND ended_at = 0 AND fence <> NEW.fence;
		IF n = 0 OR poison > 0 AND n + others > 1 THEN
			RAISE 'audit: lease % has % tasks, % of them have crashed a worker; its spawn has % leases beside', NEW.fence, n, poison, others;
		END IF;
		IF NOT EXISTS (SELECT 1 FROM jobs WHERE key = NEW.job_key AND state = 'running')
			OR NOT EXISTS (SELECT 1 FROM spawns WHERE id = NEW.spawn_id AND state NOT IN ('ended', 'stopping')) THEN
			RAISE 'audit: lease % is of a job, or to a spawn, that may not have it', NEW.fence;
		END IF;
		RETURN NULL;
	END $$;
	CREATE CONSTRAINT TRIGGER audit AFTER INSERT ON leases DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION audit_lease();

	CREATE FUNCTION audit_job() RETURNS trigger LANGUAGE plpgsql AS $$
	DECLARE
		kept jobs; has bigint[]; orphans bigint;
	BEGIN
		SELECT * INTO kept FROM jobs WHERE key = NEW.key AND id IS NOT NULL;
		SELECT ARRAY[count(*) FILTER (WHERE state = 'open'), count(*) FILTER (WHERE state = 'leased'), count(*) FILTER (WHERE state = 'done'),
			count(*) FILTER (WHERE state = 'dead'), count(*) FILTER (WHERE state = 'skipped')] INTO has FROM tasks WHERE job_key = NEW.key;
		SELECT count(*) INTO orphans FROM tasks WHERE job_key = NEW.key AND state = 'leased'
			AND NOT EXISTS (SELECT 1 FROM leases WHERE leases.fence = tasks.fence AND ended_at = 0);
		IF kept.key IS NOT NULL AND (has <> ARRAY[kept.open, kept.leased, kept.done, kept.dead, kept.skipped] OR orphans > 0) THEN
			RAISE 'audit: job % has tasks %, % of them under no live lease', kept, has, orphans;
		END IF;
		RETURN NULL;
	END $$;
	CREATE CONSTRAINT TRIGGER audit AFTER INSERT OR UPDATE ON jobs DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION audit_job();
`

// TestSumsAndCountsSurviveAStorm lets Managers do everything at once, each commit audited, then counts again what is kept.
func TestSumsAndCountsSurviveAStorm(t *testing.T) {
	t.Parallel()
	dsn := virginSchema(t)
	m := managersOn(t, dsn, 2)
	run(t, dsn, audit)
	ctx := t.Context()
	var ids []job.ID
	for i := range 4 {
		ids = append(ids, createJob(t, m[0], 15, job.Spec{MaxAttempts: 4, MaxResults: 40 * (i % 2), MaxWorkers: 3}).ID)
	}
	tolerate := func(err error) {
		if err != nil && !errors.Is(err, store.ErrStaleFence) && !errors.Is(err, store.ErrState) && !errors.Is(err, store.ErrNoWork) &&
			!errors.Is(err, store.ErrUnknownSpawn) && !errors.Is(err, store.ErrNotFound) && !errors.Is(err, store.ErrOverdue) {
			t.Errorf("in a storm: %v", err)
		}
	}
	atOnce(8, func(i int) struct{} {
		s := m[i%2]
		for round := range 12 {
			switch i {
			case 6:
				_, err := s.Expire(ctx)
				tolerate(err)
				_, err = s.PlanSpawns(ctx, store.Plan{Backend: "process", Concurrency: 1, Cap: 5})
				tolerate(err)
				tolerate(s.SetWaiting(ctx, fmt.Sprint("round ", round)))
				tolerate(s.ExtendLeases(ctx, time.Minute))
			case 7:
				id := ids[round%len(ids)]
				var err error
				switch round % 4 {
				case 0:
					_, err = s.Pause(ctx, id)
				case 1:
					_, err = s.Resume(ctx, ids[0])
				case 2:
					_, err = s.Cancel(ctx, id)
				case 3:
					_, err = s.Retry(ctx, id)
				}
				tolerate(err)
				_, _, err = s.CreateJob(ctx, store.NewJob{Tasks: make([]job.Task, 2), Spec: job.Spec{MaxAttempts: 1}})
				tolerate(err)
			default:
				w, err := s.JoinStanding(ctx, fmt.Sprint(i, round/4), 2)
				if err != nil {
					t.Error(err)
					continue
				}
				ttl := time.Minute
				if round%6 == 5 { // for Expire
					ttl = time.Microsecond
				}
				l, err := s.Grant(ctx, w.ID, 3, ttl)
				tolerate(err)
				if err != nil {
					continue
				}
				steps := []job.TaskStep{{TaskID: l.Tasks[0].ID, Done: true}}
				if len(l.Tasks) > 1 {
					steps = append(steps, job.TaskStep{TaskID: l.Tasks[1].ID, Error: "busy"})
				}
				_, err = s.Submit(ctx, l.Fence, job.Batch{Places: places(l.Tasks[0].ID, i, round, i*round, 100+i), Tasks: steps})
				tolerate(err)
				_, err = s.Renew(ctx, l.Fence, time.Minute)
				tolerate(err)
				switch round % 3 {
				case 0:
					tolerate(s.HandBack(ctx, l.Fence, nil))
				case 1:
					tolerate(s.SpawnEnded(ctx, w.ID, store.SpawnEnd{Outcome: job.Vanished}))
				}
			}
		}
		return struct{}{}
	})
	recount(t, m[0])
}

// recount holds the sums of Stats and the counts of each job to what is there.
func recount(t *testing.T, s store.Store) {
	t.Helper()
	ctx := t.Context()
	st, err := s.Stats(ctx)
	if err != nil {
		t.Fatal(err)
	}
	jobs, err := s.Jobs(ctx, store.JobFilter{Limit: 1000})
	if err != nil {
		t.Fatal(err)
	}
	states, tasks, results := make(map[job.State]int), make(map[job.TaskState]int), int64(0)
	for _, j := range jobs {
		states[j.State]++
		results += int64(j.Counts.Places)
		all, err := s.Tasks(ctx, j.ID, store.TaskFilter{Limit: 1000})
		if err != nil {
			t.Fatal(err)
		}
		n := make(map[job.TaskState]int)
		for _, task := range all {
			n[task.State]++
			tasks[task.State]++
		}
		c := j.Counts
		if c.Open != n[job.TaskOpen] || c.Leased != n[job.TaskLeased] || c.Done != n[job.TaskDone] || c.Dead != n[job.TaskDead] || c.Skipped != n[job.TaskSkipped] {
			t.Errorf("job %s counts %+v and has %v", j.ID, c, n)
		}
		found, err := s.Results(ctx, j.ID, store.ResultFilter{Limit: 10_000})
		if err != nil || len(found) != c.Places || j.Spec.MaxResults > 0 && c.Places > j.Spec.MaxResults {
			t.Errorf("job %s counts %d places of at most %d and has %d, %v", j.ID, c.Places, j.Spec.MaxResults, len(found), err)
		}
	}
	for state, n := range st.Jobs {
		if states[state] != n {
			t.Errorf("the sums say %d jobs are %s, there are %d", n, state, states[state])
		}
	}
	for state, n := range st.Tasks {
		if tasks[state] != n {
			t.Errorf("the sums say %d tasks are %s, there are %d", n, state, tasks[state])
		}
	}
	if st.Results != results {
		t.Errorf("the sums say %d results, there are %d", st.Results, results)
	}
}
