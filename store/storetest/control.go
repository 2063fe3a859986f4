package storetest

import (
	"strings"
	"testing"
	"time"

	"gmaps-scraper/job"
	"gmaps-scraper/store"
)

var controlClaims = []claim{
	{"Cancel skips open tasks, ends leases with the order Cancel, and stores nothing more", func(t *testing.T, b bench) {
		j := b.create(t, shape{tasks: 3})
		l := b.grant(t, b.standing(t, "n"), 1)
		b.submit(t, l.Fence, job.Batch{Places: found(l.Tasks[0].ID, 1)})
		got := must[job.Job](t)(b.Store.Cancel(t.Context(), j.ID))
		want(t, "state", got.State, job.Cancelled)
		want(t, "partial", got.Partial, true)
		want(t, "counts", got.Counts, job.Counts{Tasks: 3, Skipped: 3, Places: 1})
		want(t, "ended", got.EndedAt.IsZero(), false)
		want(t, "order", must[job.Order](t)(b.Store.Renew(t.Context(), l.Fence, ttl)), job.Cancel)
		_, err := b.Store.Submit(t.Context(), l.Fence, job.Batch{Places: found(l.Tasks[0].ID, 2)})
		wantErr(t, err, store.ErrStaleFence)
		want(t, "places", b.head(t, j.ID).Counts.Places, 1)
		want(t, "ended events", b.events(t, j.ID, job.EventEnded), 1)
		again := must[job.Job](t)(b.Store.Cancel(t.Context(), j.ID))
		want(t, "ended again", again.EndedAt, got.EndedAt)
		want(t, "ended events", b.events(t, j.ID, job.EventEnded), 1)
	}},
	{"Cancel on a job that succeeded does nothing", func(t *testing.T, b bench) {
		j := b.create(t, shape{})
		l := b.grant(t, b.standing(t, "n"), 1)
		b.submit(t, l.Fence, job.Batch{Tasks: done(l.Tasks[0].ID)})
		want(t, "state", must[job.Job](t)(b.Store.Cancel(t.Context(), j.ID)).State, job.Succeeded)
	}},
	{"Pause stops granting, drains live leases and takes what they bring", func(t *testing.T, b bench) {
		j := b.create(t, shape{tasks: 2})
		w := b.standing(t, "n")
		l := b.grant(t, w, 1)
		want(t, "state", must[job.Job](t)(b.Store.Pause(t.Context(), j.ID)).State, job.Paused)
		must[job.Job](t)(b.Store.Pause(t.Context(), j.ID))
		want(t, "paused events", b.events(t, j.ID, job.EventPaused), 1)
		_, err := b.Store.Grant(t.Context(), w, 1, ttl)
		wantErr(t, err, store.ErrNoWork)
		want(t, "planned", len(b.plan(t, store.Plan{})), 0)
		want(t, "order", must[job.Order](t)(b.Store.Renew(t.Context(), l.Fence, ttl)), job.Drain)
		ack := b.submit(t, l.Fence, job.Batch{Places: found(l.Tasks[0].ID, 1)})
		want(t, "ack", ack, job.Ack{New: 1, Order: job.Drain})

		want(t, "state", must[job.Job](t)(b.Store.Resume(t.Context(), j.ID)).State, job.Running)
		must[job.Job](t)(b.Store.Resume(t.Context(), j.ID))
		want(t, "resumed events", b.events(t, j.ID, job.EventResumed), 1)
		want(t, "order", must[job.Order](t)(b.Store.Renew(t.Context(), l.Fence, ttl)), job.Continue)
		b.grant(t, w, 1)
	}},
	{"a job paused before its first lease is pending when resumed", func(t *testing.T, b bench) {
		j := b.create(t, shape{})
		must[job.Job](t)(b.Store.Pause(t.Context(), j.ID))
		want(t, "state", must[job.Job](t)(b.Store.Resume(t.Context(), j.ID)).State, job.Pending)
	}},
	{"the last task makes a paused job terminal", func(t *testing.T, b bench) {
		j := b.create(t, shape{})
		l := b.grant(t, b.standing(t, "n"), 1)
		must[job.Job](t)(b.Store.Pause(t.Context(), j.ID))
		want(t, "order", b.submit(t, l.Fence, job.Batch{Tasks: done(l.Tasks[0].ID)}).Order, job.Cancel)
		want(t, "state", b.head(t, j.ID).State, job.Succeeded)
	}},
	{"a terminal job can be neither paused nor resumed", func(t *testing.T, b bench) {
		j := b.create(t, shape{})
		must[job.Job](t)(b.Store.Cancel(t.Context(), j.ID))
		_, err := b.Store.Pause(t.Context(), j.ID)
		wantErr(t, err, store.ErrState)
		_, err = b.Store.Resume(t.Context(), j.ID)
		wantErr(t, err, store.ErrState)
	}},
	{"Retry opens dead and skipped tasks with fresh attempts, and the job", func(t *testing.T, b bench) {
		j := b.create(t, shape{tasks: 3, spec: job.Spec{MaxAttempts: 1}})
		w := b.standing(t, "n")
		l := b.grant(t, w, 2)
		b.submit(t, l.Fence, job.Batch{Places: found(l.Tasks[0].ID, 1), Tasks: []job.TaskStep{
			{TaskID: l.Tasks[0].ID, Done: true}, {TaskID: l.Tasks[1].ID, Cursor: "page 2", Error: "broken"},
		}})
		must[job.Job](t)(b.Store.Cancel(t.Context(), j.ID))
		got := must[job.Job](t)(b.Store.Retry(t.Context(), j.ID))
		want(t, "state", got.State, job.Running)
		want(t, "counts", got.Counts, job.Counts{Tasks: 3, Open: 2, Done: 1, Places: 1})
		want(t, "partial", got.Partial, false)
		want(t, "reason", got.Reason, "")
		want(t, "ended", got.EndedAt.IsZero(), true)
		want(t, "retried events", b.events(t, j.ID, job.EventRetried), 1)
		l = b.grant(t, w, 10)
		want(t, "tasks", len(l.Tasks), 2)
		for _, task := range l.Tasks {
			want(t, "attempts", task.Attempts, 1)
		}
		want(t, "cursor", string(l.Tasks[0].Cursor), "page 2")
		b.submit(t, l.Fence, job.Batch{Tasks: done(ids(l.Tasks)...)})
		want(t, "state", b.head(t, j.ID).State, job.Succeeded)
		want(t, "partial", b.head(t, j.ID).Partial, false)
	}},
	{"Retry without dead or skipped tasks is refused", func(t *testing.T, b bench) {
		j := b.create(t, shape{})
		_, err := b.Store.Retry(t.Context(), j.ID)
		wantErr(t, err, store.ErrState)
	}},
	{"Retry leaves a paused job paused", func(t *testing.T, b bench) {
		j := b.create(t, shape{tasks: 2, spec: job.Spec{MaxAttempts: 1}})
		l := b.grant(t, b.standing(t, "n"), 1)
		b.submit(t, l.Fence, job.Batch{Tasks: []job.TaskStep{{TaskID: l.Tasks[0].ID, Error: "broken"}}})
		must[job.Job](t)(b.Store.Pause(t.Context(), j.ID))
		got := must[job.Job](t)(b.Store.Retry(t.Context(), j.ID))
		want(t, "state", got.State, job.Paused)
		want(t, "open", got.Counts.Open, 2)
	}},
	{"a job fails if every task is dead, and says why", func(t *testing.T, b bench) {
		j := b.create(t, shape{tasks: 2, spec: job.Spec{MaxAttempts: 1}})
		l := b.grant(t, b.standing(t, "n"), 2)
		b.submit(t, l.Fence, job.Batch{Tasks: []job.TaskStep{{TaskID: l.Tasks[0].ID, Error: "one"}, {TaskID: l.Tasks[1].ID, Error: "google refused"}}})
		got := b.head(t, j.ID)
		want(t, "state", got.State, job.Failed)
		want(t, "partial", got.Partial, true)
		want(t, "reason", got.Reason, "2 of 2 tasks failed: google refused")
		want(t, "dead events", b.events(t, j.ID, job.EventTaskDead), 2)
	}},
	{"a job with some dead tasks succeeds in part", func(t *testing.T, b bench) {
		j := b.create(t, shape{tasks: 2, spec: job.Spec{MaxAttempts: 1}})
		l := b.grant(t, b.standing(t, "n"), 2)
		b.submit(t, l.Fence, job.Batch{Tasks: []job.TaskStep{{TaskID: l.Tasks[0].ID, Done: true}, {TaskID: l.Tasks[1].ID, Error: "broken"}}})
		got := b.head(t, j.ID)
		want(t, "state", got.State, job.Succeeded)
		want(t, "partial", got.Partial, true)
		want(t, "reason", got.Reason, "1 of 2 tasks failed: broken")
	}},
	{"MaxTime counts from the first lease and ends the job with what it has", func(t *testing.T, b bench) {
		j := b.create(t, shape{tasks: 2, spec: job.Spec{MaxTime: job.Duration(time.Minute)}})
		b.Advance(time.Hour)
		b.expire(t)
		w := b.standing(t, "n")
		l := b.grant(t, w, 1)
		b.submit(t, l.Fence, job.Batch{Places: found(l.Tasks[0].ID, 1)})
		b.Advance(25 * time.Second)
		must[job.Order](t)(b.Store.Renew(t.Context(), l.Fence, time.Hour))
		b.expire(t)
		want(t, "state", b.head(t, j.ID).State, job.Running)
		b.Advance(36 * time.Second)
		want(t, "ended leases", b.expire(t), 1)
		got := b.head(t, j.ID)
		want(t, "state", got.State, job.Succeeded)
		want(t, "partial", got.Partial, true)
		want(t, "reason", strings.Contains(got.Reason, "max time"), true)
		want(t, "counts", got.Counts, job.Counts{Tasks: 2, Skipped: 2, Places: 1})
		want(t, "order", must[job.Order](t)(b.Store.Renew(t.Context(), l.Fence, ttl)), job.Cancel)
		_, err := b.Store.Submit(t.Context(), l.Fence, job.Batch{Tasks: done(l.Tasks[0].ID)})
		wantErr(t, err, store.ErrStaleFence)
		want(t, "state after Retry", must[job.Job](t)(b.Store.Retry(t.Context(), j.ID)).State, job.Running)
		b.grant(t, w, 1)
		b.expire(t)
		want(t, "state with its time anew", b.head(t, j.ID).State, job.Running)
	}},
	{"DeleteJob removes a terminal job and all of it, and no other", func(t *testing.T, b bench) {
		ctx := t.Context()
		j := b.create(t, shape{tasks: 2, key: "k", hash: "h"})
		other := b.create(t, shape{})
		wantErr(t, b.Store.DeleteJob(ctx, j.ID), store.ErrState)
		spawn := b.plan(t, store.Plan{New: 1})[0]
		l := b.grant(t, spawn.ID, 2)
		b.submit(t, l.Fence, job.Batch{Places: found(l.Tasks[0].ID, 1), Tasks: done(ids(l.Tasks)...)})
		wantErr(t, b.Store.SpawnEnded(ctx, spawn.ID, store.SpawnEnd{Outcome: job.Exited}), nil)
		wantErr(t, b.Store.DeleteJob(ctx, j.ID), nil)
		_, err := b.Store.Job(ctx, j.ID)
		wantErr(t, err, store.ErrNotFound)
		_, err = b.Store.Results(ctx, j.ID, store.ResultFilter{})
		wantErr(t, err, store.ErrNotFound)
		_, err = b.Store.Spawn(ctx, spawn.ID)
		wantErr(t, err, store.ErrNotFound)
		wantErr(t, b.Store.DeleteJob(ctx, j.ID), store.ErrNotFound)
		_, err = b.Store.Renew(ctx, l.Fence, ttl)
		wantErr(t, err, store.ErrStaleFence)
		_, err = b.Store.LeaseOwner(ctx, l.Fence)
		wantErr(t, err, store.ErrStaleFence)
		want(t, "the other's state", b.head(t, other.ID).State, job.Pending)
		want(t, "jobs", len(must[[]job.Job](t)(b.Store.Jobs(ctx, store.JobFilter{}))), 1)
		again := b.create(t, shape{key: "k", hash: "another"})
		want(t, "results of a later job", len(b.results(t, again.ID, store.ResultFilter{})), 0)
		next := b.grant(t, b.standing(t, "n"), 1)
		want(t, "a later fence is larger", next.Fence > l.Fence, true)
	}},
	{"a live worker outlasts its deleted job", func(t *testing.T, b bench) {
		ctx := t.Context()
		j := b.create(t, shape{})
		spawn := b.plan(t, store.Plan{})[0]
		must[job.Job](t)(b.Store.Cancel(ctx, j.ID))
		wantErr(t, b.Store.DeleteJob(ctx, j.ID), nil)
		b.create(t, shape{})
		want(t, "its job", b.spawn(t, spawn.ID).JobID, j.ID)
		_, err := b.Store.Grant(ctx, spawn.ID, 1, ttl)
		wantErr(t, err, store.ErrNoWork)
		want(t, "planned beside it under a cap of 1", len(b.plan(t, store.Plan{Cap: 1})), 0)
		wantErr(t, b.Store.SpawnEnded(ctx, spawn.ID, store.SpawnEnd{Outcome: job.Stopped}), nil)
	}},
	{"a worker that may still run outlasts its deleted job", func(t *testing.T, b bench) {
		ctx := t.Context()
		j := b.create(t, shape{})
		spawn := b.plan(t, store.Plan{})[0]
		joined := must[job.Spawn](t)(b.Store.Join(ctx, spawn.ID, "n"))
		must[job.Job](t)(b.Store.Cancel(ctx, j.ID))
		wantErr(t, b.Store.SpawnEnded(ctx, spawn.ID, store.SpawnEnd{Outcome: job.Stopped, MayRunUntil: joined.JoinedAt.Add(15 * time.Minute)}), nil)
		wantErr(t, b.Store.DeleteJob(ctx, j.ID), nil)
		b.create(t, shape{})
		want(t, "planned beside it under a cap of 1", len(b.plan(t, store.Plan{Cap: 1})), 0)
		b.Advance(15 * time.Minute)
		want(t, "planned once it is over", len(b.plan(t, store.Plan{Cap: 1})), 1)
	}},
}
