package storetest

import (
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"gmaps-scraper/job"
	"gmaps-scraper/store"
)

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

// crash lets a lease of all given tasks run out, so that they are suspected.
func (b bench) crash(t *testing.T, w job.SpawnID, max int) job.Lease {
	t.Helper()
	l := b.grant(t, w, max)
	b.Advance(ttl + time.Second)
	want(t, "expired leases", b.expire(t), 1)
	return l
}

var grantClaims = []claim{
	{"a lease has tasks of one job in order, its spec without inputs, a charge on each task and an end", func(t *testing.T, b bench) {
		j := b.create(t, shape{tasks: 3, spec: job.Spec{Lang: "pt", MaxReviews: 5}})
		b.create(t, shape{tasks: 3})
		l := b.grant(t, b.standing(t, "n"), 2)
		all := b.tasks(t, j.ID)
		if diff := cmp.Diff(ids(all[:2]), ids(l.Tasks)); diff != "" {
			t.Errorf("tasks (-want +got):\n%s", diff)
		}
		want(t, "job", l.JobID, j.ID)
		want(t, "inputs", len(l.Spec.Inputs), 0)
		want(t, "language", l.Spec.Lang, "pt")
		want(t, "reviews", l.Spec.MaxReviews, 5)
		want(t, "ttl", l.TTL, ttl)
		if left := l.Expires.Sub(b.head(t, j.ID).StartedAt); left != ttl {
			t.Errorf("expires %s after the job's start, want %s", left, ttl)
		}
		for _, task := range l.Tasks {
			want(t, "attempts", task.Attempts, 1)
			want(t, "state", task.State, job.TaskLeased)
			want(t, "job of task", task.JobID, j.ID)
		}
		want(t, "attempts kept", all[0].Attempts, 1)
		want(t, "counts", b.head(t, j.ID).Counts, job.Counts{Tasks: 3, Open: 1, Leased: 2})
	}},
	{"the first lease starts the job, once", func(t *testing.T, b bench) {
		j := b.create(t, shape{tasks: 2})
		w := b.standing(t, "n")
		b.grant(t, w, 1)
		started := b.head(t, j.ID)
		want(t, "state", started.State, job.Running)
		want(t, "started", started.StartedAt.IsZero(), false)
		b.Advance(time.Second)
		b.grant(t, w, 1)
		want(t, "started later", b.head(t, j.ID).StartedAt, started.StartedAt)
		want(t, "events", b.events(t, j.ID, job.EventStarted), 1)
	}},
	{"fences grow", func(t *testing.T, b bench) {
		b.create(t, shape{tasks: 3})
		w := b.standing(t, "n")
		last := job.Fence(0)
		for range 3 {
			l := b.grant(t, w, 1)
			want(t, "larger", l.Fence > last, true)
			last = l.Fence
			wantErr(t, b.Store.HandBack(t.Context(), l.Fence, nil), nil)
		}
	}},
	{"a task is granted to one spawn at a time, however many ask", func(t *testing.T, b bench) {
		j := b.create(t, shape{tasks: 20})
		spawns := make([]job.SpawnID, 8)
		for i := range spawns {
			spawns[i] = b.standing(t, string(rune('a'+i)))
		}
		leases := atOnce(len(spawns), func(i int) []job.Task {
			l, err := b.Store.Grant(t.Context(), spawns[i], 3, ttl)
			if err != nil {
				return nil
			}
			return l.Tasks
		})
		var granted []job.TaskID
		for _, tasks := range leases {
			granted = append(granted, ids(tasks)...)
		}
		slices.Sort(granted)
		want(t, "tasks granted", len(granted), 20)
		want(t, "different tasks", len(slices.Compact(granted)), 20)
		want(t, "open", b.head(t, j.ID).Counts.Open, 0)
	}},
	{"there is no work if nothing is open", func(t *testing.T, b bench) {
		w := b.standing(t, "n")
		_, err := b.Store.Grant(t.Context(), w, 1, ttl)
		wantErr(t, err, store.ErrNoWork)
		b.create(t, shape{})
		b.grant(t, w, 1)
		_, err = b.Store.Grant(t.Context(), w, 1, ttl)
		wantErr(t, err, store.ErrNoWork)
	}},
	{"a spawn that is unknown, stopping or ended gets nothing", func(t *testing.T, b bench) {
		ctx := t.Context()
		b.create(t, shape{})
		_, err := b.Store.Grant(ctx, job.NewSpawnID(), 1, ttl)
		wantErr(t, err, store.ErrUnknownSpawn)
		w := b.standing(t, "n")
		wantErr(t, b.Store.SpawnStopping(ctx, w, "enough"), nil)
		_, err = b.Store.Grant(ctx, w, 1, ttl)
		wantErr(t, err, store.ErrUnknownSpawn)
		wantErr(t, b.Store.SpawnEnded(ctx, w, store.SpawnEnd{Outcome: job.Stopped}), nil)
		_, err = b.Store.Grant(ctx, w, 1, ttl)
		wantErr(t, err, store.ErrUnknownSpawn)
	}},
	{"a spawn bound to a job gets tasks of no other", func(t *testing.T, b bench) {
		low := b.create(t, shape{})
		spawn := b.plan(t, store.Plan{})[0]
		b.create(t, shape{spec: job.Spec{Priority: 10}})
		want(t, "job", b.grant(t, spawn.ID, 1).JobID, low.ID)
		_, err := b.Store.Grant(t.Context(), spawn.ID, 1, ttl)
		wantErr(t, err, store.ErrNoWork)
	}},
	{"a higher priority goes first, the older of equals", func(t *testing.T, b bench) {
		first := b.create(t, shape{spec: job.Spec{Priority: 1}})
		b.Advance(time.Millisecond)
		second := b.create(t, shape{spec: job.Spec{Priority: 1}})
		b.Advance(time.Millisecond)
		urgent := b.create(t, shape{spec: job.Spec{Priority: 2}})
		w := b.standing(t, "n")
		for _, next := range []job.Job{urgent, first, second} {
			want(t, "job", b.grant(t, w, 1).JobID, next.ID)
		}
	}},
	{"a job gains one priority for each minute that it waits", func(t *testing.T, b bench) {
		old := b.create(t, shape{tasks: 2})
		b.Advance(3*time.Minute + 30*time.Second)
		four := b.create(t, shape{spec: job.Spec{Priority: 4}})
		three := b.create(t, shape{spec: job.Spec{Priority: 3}})
		w := b.standing(t, "n")
		for _, next := range []job.Job{four, old, old, three} {
			want(t, "job", b.grant(t, w, 1).JobID, next.ID)
		}
	}},
	{"a task that failed waits for its backoff, and NextOpen says how long", func(t *testing.T, b bench) {
		ctx := t.Context()
		b.create(t, shape{})
		bound := b.plan(t, store.Plan{})[0].ID
		w := b.standing(t, "n")
		b.wantNext(t, w, 0)
		l := b.grant(t, bound, 1)
		b.submit(t, l.Fence, job.Batch{Tasks: []job.TaskStep{{TaskID: l.Tasks[0].ID, Error: "busy", RetryAfter: job.Duration(10 * time.Minute)}}})
		b.wantNext(t, w, 10*time.Minute)
		b.wantNext(t, bound, 10*time.Minute)
		_, err := b.Store.Grant(ctx, bound, 1, ttl)
		wantErr(t, err, store.ErrNoWork)
		b.Advance(8 * time.Minute)
		_, err = b.Store.Grant(ctx, bound, 1, ttl)
		wantErr(t, err, store.ErrNoWork)
		want(t, "planned for it", len(b.plan(t, store.Plan{})), 0)
		b.wantNext(t, w, 2*time.Minute)
		b.wantNext(t, bound, 2*time.Minute)
		b.Advance(2 * time.Minute)
		b.wantNext(t, w, 0)
		b.wantNext(t, bound, 0)
		l = b.grant(t, bound, 1)
		want(t, "attempts", l.Tasks[0].Attempts, 2)
		want(t, "error", l.Tasks[0].Error, "busy")
	}},
	{"NextOpen does not wait for a job that grants nothing", func(t *testing.T, b bench) {
		j := b.create(t, shape{})
		bound := b.plan(t, store.Plan{})[0].ID
		w := b.standing(t, "n")
		l := b.grant(t, w, 1)
		b.submit(t, l.Fence, job.Batch{Tasks: []job.TaskStep{{TaskID: l.Tasks[0].ID, Error: "busy", RetryAfter: job.Duration(time.Minute)}}})
		must[job.Job](t)(b.Store.Pause(t.Context(), j.ID))
		b.wantNext(t, w, 0)
		b.wantNext(t, bound, 0)
	}},
	{"a task that has crashed a worker is granted alone", func(t *testing.T, b bench) {
		b.create(t, shape{tasks: 2})
		w := b.standing(t, "n")
		b.crash(t, w, 2)
		l := b.grant(t, w, 10)
		want(t, "tasks", len(l.Tasks), 1)
		want(t, "crashes", l.Tasks[0].Crashes, 1)
	}},
	{"nothing is granted beside a task that has crashed a worker", func(t *testing.T, b bench) {
		suspected := b.create(t, shape{spec: job.Spec{Priority: 10}})
		w := b.standing(t, "n")
		b.crash(t, w, 1)
		healthy := b.create(t, shape{})
		want(t, "job", b.grant(t, w, 1).JobID, suspected.ID)
		_, err := b.Store.Grant(t.Context(), w, 1, ttl)
		wantErr(t, err, store.ErrNoWork)
		want(t, "job of another spawn", b.grant(t, b.standing(t, "other"), 1).JobID, healthy.ID)
	}},
	{"a spawn with a live lease gets no task that has crashed a worker", func(t *testing.T, b bench) {
		suspected := b.create(t, shape{})
		w := b.standing(t, "n")
		b.crash(t, w, 1)
		b.create(t, shape{spec: job.Spec{Priority: 10}})
		l := b.grant(t, w, 1)
		want(t, "other job first", l.JobID == suspected.ID, false)
		_, err := b.Store.Grant(t.Context(), w, 1, ttl)
		wantErr(t, err, store.ErrNoWork)
		b.submit(t, l.Fence, job.Batch{Tasks: done(l.Tasks[0].ID)})
		want(t, "job once the lease is over", b.grant(t, w, 1).JobID, suspected.ID)
	}},
	{"healthy tasks of a job go before those that have crashed a worker, and never with them", func(t *testing.T, b bench) {
		b.create(t, shape{tasks: 4})
		w := b.standing(t, "n")
		lost := b.crash(t, w, 2)
		l := b.grant(t, w, 10)
		want(t, "healthy tasks", len(l.Tasks), 2)
		for _, task := range l.Tasks {
			want(t, "suspected", slices.Contains(ids(lost.Tasks), task.ID), false)
		}
	}},
}

// wantNext holds NextOpen to a time by the store's clock, which may run on meanwhile. 0: there is nothing to wait for.
func (b bench) wantNext(t *testing.T, w job.SpawnID, in time.Duration) {
	t.Helper()
	got, some, err := b.Store.NextOpen(t.Context(), w)
	wantErr(t, err, nil)
	want(t, "something to wait for", some, in > 0)
	if got > in || some && got <= in-time.Minute {
		t.Errorf("next in %s, want up to %s", got, in)
	}
}
