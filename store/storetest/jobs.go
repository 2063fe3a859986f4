package storetest

import (
	"context"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"gmaps-scraper/job"
	"gmaps-scraper/store"
)

var jobClaims = []claim{
	{"a created job has its tasks, its inputs and an event", func(t *testing.T, b bench) {
		n := newJob(shape{tasks: 3, spec: job.Spec{Name: "Cafés", Priority: 7, MaxResults: 9, MaxTime: job.Duration(time.Hour)}})
		before := time.Now().Add(-time.Second)
		j, created, err := b.Store.CreateJob(t.Context(), n)
		if err != nil || !created {
			t.Fatalf("CreateJob: created %t, %v", created, err)
		}
		want(t, "state", j.State, job.Pending)
		want(t, "id", j.ID, n.ID)
		want(t, "counts", j.Counts, job.Counts{Tasks: 3, Open: 3})
		if diff := cmp.Diff(n.Spec, j.Spec); diff != "" {
			t.Errorf("spec (-want +got):\n%s", diff)
		}
		if j.CreatedAt.Before(before) || !j.StartedAt.IsZero() || !j.EndedAt.IsZero() {
			t.Errorf("times: created %s, started %s, ended %s", j.CreatedAt, j.StartedAt, j.EndedAt)
		}
		again := must[job.Job](t)(b.Store.Job(t.Context(), j.ID))
		if diff := cmp.Diff(j, again); diff != "" {
			t.Errorf("Job (-created +read):\n%s", diff)
		}
		tasks := b.tasks(t, j.ID)
		want(t, "tasks", len(tasks), 3)
		for i, task := range tasks {
			if diff := cmp.Diff(n.Tasks[i].Query, task.Query); diff != "" {
				t.Errorf("query (-created +read):\n%s", diff)
			}
			want(t, "input id", task.InputID, n.Tasks[i].InputID)
			want(t, "state", task.State, job.TaskOpen)
			want(t, "job", task.JobID, j.ID)
		}
		want(t, "created events", b.events(t, j.ID, job.EventCreated), 1)
	}},
	{"all but Job and CreateJob leave the inputs out", func(t *testing.T, b bench) {
		j := b.create(t, shape{tasks: 2})
		want(t, "inputs of the head", len(b.head(t, j.ID).Spec.Inputs), 0)
		list := must[[]job.Job](t)(b.Store.Jobs(t.Context(), store.JobFilter{}))
		want(t, "jobs", len(list), 1)
		want(t, "inputs in the list", len(list[0].Spec.Inputs), 0)
		for _, change := range []func(context.Context, job.ID) (job.Job, error){b.Store.Pause, b.Store.Resume, b.Store.Cancel, b.Store.Retry} {
			changed := must[job.Job](t)(change(t.Context(), j.ID))
			want(t, "inputs of a job that was changed", len(changed.Spec.Inputs), 0)
			want(t, "attempts in its spec", changed.Spec.MaxAttempts, j.Spec.MaxAttempts)
		}
	}},
	{"JobStates knows of each job that there is", func(t *testing.T, b bench) {
		open, over, gone := b.create(t, shape{tasks: 1}), b.create(t, shape{tasks: 1}), b.create(t, shape{tasks: 1})
		for _, id := range []job.ID{over.ID, gone.ID} {
			must[job.Job](t)(b.Store.Cancel(t.Context(), id))
		}
		wantErr(t, b.Store.DeleteJob(t.Context(), gone.ID), nil)
		got := must[map[job.ID]job.State](t)(b.Store.JobStates(t.Context(), open.ID, gone.ID, over.ID, open.ID, job.NewID(), ""))
		want(t, "states as they are", maps.Equal(got, map[job.ID]job.State{open.ID: job.Pending, over.ID: job.Cancelled}), true)
		none := must[map[job.ID]job.State](t)(b.Store.JobStates(t.Context()))
		want(t, "states of no jobs", len(none), 0)
	}},
	{"an unknown job is not found", func(t *testing.T, b bench) {
		ctx, id := t.Context(), job.NewID()
		_, err := b.Store.Job(ctx, id)
		wantErr(t, err, store.ErrNotFound)
		_, err = b.Store.JobHead(ctx, id)
		wantErr(t, err, store.ErrNotFound)
		for _, change := range []func() (job.Job, error){
			func() (job.Job, error) { return b.Store.Cancel(ctx, id) },
			func() (job.Job, error) { return b.Store.Pause(ctx, id) },
			func() (job.Job, error) { return b.Store.Resume(ctx, id) },
			func() (job.Job, error) { return b.Store.Retry(ctx, id) },
		} {
			_, err := change()
			wantErr(t, err, store.ErrNotFound)
		}
		wantErr(t, b.Store.DeleteJob(ctx, id), store.ErrNotFound)
		_, err = b.Store.Tasks(ctx, id, store.TaskFilter{})
		wantErr(t, err, store.ErrNotFound)
		_, err = b.Store.Results(ctx, id, store.ResultFilter{})
		wantErr(t, err, store.ErrNotFound)
		_, err = b.Store.Events(ctx, id, 0, 0)
		wantErr(t, err, store.ErrNotFound)
	}},
	{"the same idempotency key and request give the same job", func(t *testing.T, b bench) {
		first := b.create(t, shape{key: "k", hash: "h"})
		second, created, err := b.Store.CreateJob(t.Context(), newJob(shape{key: "k", hash: "h"}))
		if err != nil {
			t.Fatal(err)
		}
		want(t, "created", created, false)
		want(t, "id", second.ID, first.ID)
		want(t, "inputs", len(second.Spec.Inputs), 1)
		b.Advance(23 * time.Hour)
		_, created, err = b.Store.CreateJob(t.Context(), newJob(shape{key: "k", hash: "h"}))
		want(t, "created after 23 hours", created, false)
		wantErr(t, err, nil)
		want(t, "jobs", len(must[[]job.Job](t)(b.Store.Jobs(t.Context(), store.JobFilter{}))), 1)
	}},
	{"an idempotency key for another request is refused", func(t *testing.T, b bench) {
		b.create(t, shape{key: "k", hash: "h"})
		_, _, err := b.Store.CreateJob(t.Context(), newJob(shape{key: "k", hash: "other"}))
		wantErr(t, err, store.ErrIdempotency)
		want(t, "jobs", len(must[[]job.Job](t)(b.Store.Jobs(t.Context(), store.JobFilter{}))), 1)
	}},
	{"one idempotency key makes one job however many ask at once", func(t *testing.T, b bench) {
		made := atOnce(8, func(int) bool {
			_, created, err := b.Store.CreateJob(t.Context(), newJob(shape{key: "k", hash: "h"}))
			return err == nil && created
		})
		want(t, "created", len(slices.DeleteFunc(made, func(c bool) bool { return !c })), 1)
	}},
	{"jobs without a key are never the same", func(t *testing.T, b bench) {
		want(t, "same", b.create(t, shape{}).ID == b.create(t, shape{}).ID, false)
	}},
	{"a setting is kept as it was first, for all that ask at once", func(t *testing.T, b bench) {
		got := atOnce(8, func(i int) string {
			v, err := b.Store.Setting(t.Context(), "instance", string(rune('a'+i)))
			if err != nil {
				t.Error(err)
			}
			return v
		})
		want(t, "answers", len(slices.Compact(slices.Sorted(slices.Values(got)))), 1)
		want(t, "later", must[string](t)(b.Store.Setting(t.Context(), "instance", "z")), got[0])
		want(t, "another key", must[string](t)(b.Store.Setting(t.Context(), "other", "z")), "z")
	}},
	{"Ping answers, and after Close nothing does", func(t *testing.T, b bench) {
		j := b.create(t, shape{})
		wantErr(t, b.Store.Ping(t.Context()), nil)
		wantErr(t, b.Store.Close(), nil)
		wantErr(t, b.Store.Close(), nil)
		wantErr(t, b.Store.Ping(t.Context()), store.ErrUnavailable)
		_, err := b.Store.Job(t.Context(), j.ID)
		wantErr(t, err, store.ErrUnavailable)
		_, err = b.Store.Cancel(t.Context(), j.ID)
		wantErr(t, err, store.ErrUnavailable)
	}},
	{"the sums over all jobs follow their changes", func(t *testing.T, b bench) {
		first := b.create(t, shape{tasks: 3, spec: job.Spec{MaxAttempts: 1}})
		b.Advance(time.Second)
		second := b.create(t, shape{tasks: 2})
		st := must[store.Stats](t)(b.Store.Stats(t.Context()))
		want(t, "pending", st.Jobs[job.Pending], 2)
		want(t, "open", st.Tasks[job.TaskOpen], 5)
		want(t, "oldest open", st.OldestOpen, first.CreatedAt)

		w := b.standing(t, "n")
		l := b.grant(t, w, 10)
		b.submit(t, l.Fence, job.Batch{Places: found(l.Tasks[0].ID, 1, 2), Tasks: []job.TaskStep{
			{TaskID: l.Tasks[0].ID, Done: true}, {TaskID: l.Tasks[1].ID, Error: "broken"},
		}})
		b.Advance(2 * time.Second)
		st = must[store.Stats](t)(b.Store.Stats(t.Context()))
		want(t, "running", st.Jobs[job.Running], 1)
		want(t, "open", st.Tasks[job.TaskOpen], 2)
		want(t, "leased", st.Tasks[job.TaskLeased], 1)
		want(t, "done", st.Tasks[job.TaskDone], 1)
		want(t, "dead", st.Tasks[job.TaskDead], 1)
		want(t, "results", st.Results, 2)
		want(t, "live leases", st.LiveLeases, 1)
		want(t, "oldest open", st.OldestOpen, second.CreatedAt)
		if len(st.LeaseAges) != 1 || st.LeaseAges[0] < 2*time.Second || st.LeaseAges[0] > time.Minute {
			t.Errorf("lease ages %v", st.LeaseAges)
		}
		want(t, "live spawns", st.Spawns[job.SpawnRunning], 1)
		code := 1
		wantErr(t, b.Store.SpawnEnded(t.Context(), w, store.SpawnEnd{Outcome: job.Exited, ExitCode: &code}), nil)
		must[job.Job](t)(b.Store.Cancel(t.Context(), first.ID))
		must[job.Job](t)(b.Store.Cancel(t.Context(), second.ID))
		wantErr(t, b.Store.DeleteJob(t.Context(), first.ID), nil)
		st = must[store.Stats](t)(b.Store.Stats(t.Context()))
		want(t, "cancelled", st.Jobs[job.Cancelled], 1)
		want(t, "skipped", st.Tasks[job.TaskSkipped], 2)
		want(t, "open", st.Tasks[job.TaskOpen], 0)
		want(t, "results", st.Results, 0)
		want(t, "ended spawns", st.Spawns[job.SpawnEnded], 1)
		want(t, "failures", st.SpawnErrors[job.Exited], 1)
		want(t, "live leases", st.LiveLeases, 0)
		want(t, "oldest open", st.OldestOpen, time.Time{})
	}},
}
