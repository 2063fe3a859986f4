package storetest

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"gmaps-scraper/gmaps"
	"gmaps-scraper/job"
	"gmaps-scraper/store"
)

var submitClaims = []claim{
	{"places and steps are stored together, and the place as it was found", func(t *testing.T, b bench) {
		j := b.create(t, shape{tasks: 2})
		l := b.grant(t, b.standing(t, "n"), 2)
		p := place(1)
		p.Categories, p.Rating, p.Location = []string{"Café"}, 4.5, &gmaps.Point{Lat: 34.7, Lng: 33.05}
		ack := b.submit(t, l.Fence, job.Batch{Places: []job.Found{{TaskID: l.Tasks[1].ID, Place: p}}, Tasks: []job.TaskStep{
			{TaskID: l.Tasks[0].ID, Done: true}, {TaskID: l.Tasks[1].ID, Cursor: "page 2"},
		}})
		want(t, "ack", ack, job.Ack{New: 1, Order: job.Continue})
		got := b.results(t, j.ID, store.ResultFilter{})
		want(t, "results", len(got), 1)
		if diff := cmp.Diff(p, got[0].Place); diff != "" {
			t.Errorf("place (-want +got):\n%s", diff)
		}
		want(t, "task", got[0].TaskID, l.Tasks[1].ID)
		want(t, "input id", got[0].InputID, "line-1")
		want(t, "job", got[0].JobID, j.ID)
		want(t, "found", got[0].FoundAt.IsZero(), false)
		want(t, "counts", b.head(t, j.ID).Counts, job.Counts{Tasks: 2, Leased: 1, Done: 1, Places: 1})
		want(t, "cursor", string(b.tasks(t, j.ID)[1].Cursor), "page 2")
	}},
	{"a place is stored once in a job, and again in another", func(t *testing.T, b bench) {
		first, second := b.create(t, shape{tasks: 2}), b.create(t, shape{})
		w := b.standing(t, "n")
		l := b.grant(t, w, 2)
		want(t, "ack", b.submit(t, l.Fence, job.Batch{Places: found(l.Tasks[0].ID, 1, 2, 1)}), job.Ack{New: 2, Duplicates: 1, Order: job.Continue})
		want(t, "ack", b.submit(t, l.Fence, job.Batch{Places: found(l.Tasks[1].ID, 2, 3)}), job.Ack{New: 1, Duplicates: 1, Order: job.Continue})
		want(t, "places", b.head(t, first.ID).Counts.Places, 3)
		want(t, "duplicates", b.head(t, first.ID).Counts.Duplicates, 2)
		l = b.grant(t, w, 1)
		want(t, "job", l.JobID, second.ID)
		want(t, "new", b.submit(t, l.Fence, job.Batch{Places: found(l.Tasks[0].ID, 1)}).New, 1)
	}},
	{"a replay of an acknowledged batch gets the same answer and changes nothing", func(t *testing.T, b bench) {
		j := b.create(t, shape{tasks: 3})
		l := b.grant(t, b.standing(t, "n"), 3)
		batch := job.Batch{Places: found(l.Tasks[0].ID, 1, 2, 2), Tasks: []job.TaskStep{
			{TaskID: l.Tasks[0].ID, Done: true}, {TaskID: l.Tasks[1].ID, Error: "busy"},
		}}
		first := b.submit(t, l.Fence, batch)
		before := b.head(t, j.ID)
		want(t, "ack", b.submit(t, l.Fence, batch), first)
		if diff := cmp.Diff(before, b.head(t, j.ID)); diff != "" {
			t.Errorf("job (-before +after the replay):\n%s", diff)
		}
	}},
	{"a replay of the last batch is answered although it ended the lease", func(t *testing.T, b bench) {
		j := b.create(t, shape{tasks: 2})
		l := b.grant(t, b.standing(t, "n"), 1)
		batch := job.Batch{Places: found(l.Tasks[0].ID, 1), Tasks: done(l.Tasks[0].ID)}
		first := b.submit(t, l.Fence, batch)
		want(t, "ack", b.submit(t, l.Fence, batch), first)
		want(t, "counts", b.head(t, j.ID).Counts, job.Counts{Tasks: 2, Open: 1, Done: 1, Places: 1})
		_, err := b.Store.Submit(t.Context(), l.Fence, job.Batch{Places: found(l.Tasks[0].ID, 2)})
		wantErr(t, err, store.ErrStaleFence)
	}},
	{"a replay of the batch that ended the job is answered with Cancel", func(t *testing.T, b bench) {
		b.create(t, shape{})
		l := b.grant(t, b.standing(t, "n"), 1)
		batch := job.Batch{Places: found(l.Tasks[0].ID, 1), Tasks: done(l.Tasks[0].ID)}
		want(t, "ack", b.submit(t, l.Fence, batch), job.Ack{New: 1, Order: job.Cancel})
		want(t, "replay", b.submit(t, l.Fence, batch), job.Ack{New: 1, Order: job.Cancel})
	}},
	{"a batch that ran out of time writes nothing, before and after its tasks went to another", func(t *testing.T, b bench) {
		j := b.create(t, shape{})
		zombie := b.grant(t, b.standing(t, "zombie"), 1)
		b.Advance(ttl + time.Second)
		late := job.Batch{Places: found(zombie.Tasks[0].ID, 1), Tasks: done(zombie.Tasks[0].ID)}
		refused := func(wantErr func(*testing.T, error)) {
			t.Helper()
			_, err := b.Store.Submit(t.Context(), zombie.Fence, late)
			wantErr(t, err)
			want(t, "places", b.head(t, j.ID).Counts.Places, 0)
			want(t, "done", b.head(t, j.ID).Counts.Done, 0)
		}
		refused(func(t *testing.T, err error) { wantErr(t, err, store.ErrOverdue) })
		b.expire(t)
		refused(wantEnded)
		l := b.grant(t, b.standing(t, "heir"), 1)
		refused(wantEnded)
		want(t, "heir's", b.submit(t, l.Fence, job.Batch{Places: found(l.Tasks[0].ID, 1), Tasks: done(l.Tasks[0].ID)}).New, 1)
		refusedAfter := func() {
			_, err := b.Store.Submit(t.Context(), zombie.Fence, late)
			wantErr(t, err, store.ErrStaleFence)
		}
		refusedAfter()
		want(t, "places", b.head(t, j.ID).Counts.Places, 1)
	}},
	{"a fence that was never granted is stale", func(t *testing.T, b bench) {
		_, err := b.Store.Submit(t.Context(), 999, job.Batch{})
		wantErr(t, err, store.ErrStaleFence)
	}},
	{"a place of a task of another job is refused, and all that came with it", func(t *testing.T, b bench) {
		j := b.create(t, shape{})
		other := b.create(t, shape{})
		w := b.standing(t, "n")
		l := b.grant(t, w, 1)
		foreign := b.tasks(t, other.ID)[0].ID
		_, err := b.Store.Submit(t.Context(), l.Fence, job.Batch{Places: append(found(l.Tasks[0].ID, 1), found(foreign, 2)...), Tasks: done(l.Tasks[0].ID)})
		wantErr(t, err, store.ErrStaleFence)
		want(t, "counts", b.head(t, j.ID).Counts, job.Counts{Tasks: 1, Leased: 1})
	}},
	{"a step of a task that the lease does not hold changes nothing", func(t *testing.T, b bench) {
		j := b.create(t, shape{tasks: 3})
		l := b.grant(t, b.standing(t, "n"), 2)
		open := b.tasks(t, j.ID)[2].ID
		b.submit(t, l.Fence, job.Batch{Tasks: []job.TaskStep{{TaskID: l.Tasks[0].ID, Error: "busy"}, {TaskID: open, Done: true}}})
		heir := b.grant(t, b.standing(t, "heir"), 2)
		want(t, "the failed task again", slices.Contains(ids(heir.Tasks), l.Tasks[0].ID), true)
		b.submit(t, l.Fence, job.Batch{Tasks: done(l.Tasks[0].ID)})
		want(t, "counts", b.head(t, j.ID).Counts, job.Counts{Tasks: 3, Leased: 3})
	}},
	{"a lease whose tasks are all over has ended", func(t *testing.T, b bench) {
		b.create(t, shape{tasks: 3})
		l := b.grant(t, b.standing(t, "n"), 2)
		b.submit(t, l.Fence, job.Batch{Tasks: []job.TaskStep{{TaskID: l.Tasks[0].ID, Done: true}, {TaskID: l.Tasks[1].ID, Error: "busy"}}})
		_, err := b.Store.Renew(t.Context(), l.Fence, ttl)
		wantErr(t, err, store.ErrStaleFence)
		want(t, "live leases", must[store.Stats](t)(b.Store.Stats(t.Context())).LiveLeases, 0)
	}},
	{"the last task over makes the job succeed", func(t *testing.T, b bench) {
		j := b.create(t, shape{tasks: 2})
		w := b.standing(t, "n")
		for range 2 {
			l := b.grant(t, w, 1)
			want(t, "state", b.head(t, j.ID).State, job.Running)
			b.submit(t, l.Fence, job.Batch{Tasks: done(l.Tasks[0].ID)})
		}
		got := b.head(t, j.ID)
		want(t, "state", got.State, job.Succeeded)
		want(t, "partial", got.Partial, false)
		want(t, "reason", got.Reason, "")
		want(t, "ended", got.EndedAt.IsZero(), false)
		want(t, "events", b.events(t, j.ID, job.EventEnded), 1)
	}},
	{"a task that fails in all its attempts is dead", func(t *testing.T, b bench) {
		j := b.create(t, shape{spec: job.Spec{MaxAttempts: 2}})
		w := b.standing(t, "n")
		for i := range 2 {
			l := b.grant(t, w, 1)
			want(t, "state", b.tasks(t, j.ID)[0].State, job.TaskLeased)
			b.submit(t, l.Fence, job.Batch{Tasks: []job.TaskStep{{TaskID: l.Tasks[0].ID, Error: fmt.Sprintf("refused %d", i)}}})
		}
		task := b.tasks(t, j.ID)[0]
		want(t, "state", task.State, job.TaskDead)
		want(t, "error", task.Error, "refused 1")
		want(t, "attempts", task.Attempts, 2)
		want(t, "events", b.events(t, j.ID, job.EventTaskDead), 1)
		want(t, "job", b.head(t, j.ID).State, job.Failed)
	}},
	{"a failing step keeps its cursor, and an empty cursor keeps the one before", func(t *testing.T, b bench) {
		j := b.create(t, shape{})
		w := b.standing(t, "n")
		l := b.grant(t, w, 1)
		b.submit(t, l.Fence, job.Batch{Tasks: []job.TaskStep{{TaskID: l.Tasks[0].ID, Cursor: "page 3"}}})
		b.submit(t, l.Fence, job.Batch{Tasks: []job.TaskStep{{TaskID: l.Tasks[0].ID, Error: "busy"}}})
		want(t, "cursor", string(b.tasks(t, j.ID)[0].Cursor), "page 3")
		want(t, "cursor in the next lease", string(b.grant(t, w, 1).Tasks[0].Cursor), "page 3")
	}},
	{"MaxResults is exact and ends the job", func(t *testing.T, b bench) {
		j := b.create(t, shape{tasks: 3, spec: job.Spec{MaxResults: 3}})
		w := b.standing(t, "n")
		l, beside := b.grant(t, w, 1), b.grant(t, b.standing(t, "beside"), 1)
		want(t, "ack", b.submit(t, l.Fence, job.Batch{Places: found(l.Tasks[0].ID, 1, 2)}).Order, job.Continue)
		ack := b.submit(t, l.Fence, job.Batch{Places: found(l.Tasks[0].ID, 2, 3, 4, 5)})
		want(t, "ack", ack, job.Ack{New: 1, Duplicates: 1, Order: job.Cancel})
		got := b.head(t, j.ID)
		want(t, "state", got.State, job.Succeeded)
		want(t, "partial", got.Partial, true)
		want(t, "reason", got.Reason, "max results reached")
		want(t, "counts", got.Counts, job.Counts{Tasks: 3, Skipped: 3, Places: 3, Duplicates: 1})
		want(t, "results", len(b.results(t, j.ID, store.ResultFilter{})), 3)
		want(t, "order beside", must[job.Order](t)(b.Store.Renew(t.Context(), beside.Fence, ttl)), job.Cancel)
		_, err := b.Store.Submit(t.Context(), beside.Fence, job.Batch{Places: found(beside.Tasks[0].ID, 9)})
		wantErr(t, err, store.ErrStaleFence)
	}},
	{"MaxResults is exact however many submit at once", func(t *testing.T, b bench) {
		j := b.create(t, shape{tasks: 8, spec: job.Spec{MaxResults: 10}})
		leases := make([]job.Lease, 8)
		for i := range leases {
			leases[i] = b.grant(t, b.standing(t, fmt.Sprint(i)), 1)
		}
		atOnce(len(leases), func(i int) error {
			_, err := b.Store.Submit(t.Context(), leases[i].Fence, job.Batch{Places: found(leases[i].Tasks[0].ID, 4*i, 4*i+1, 4*i+2, 4*i+3)})
			return err
		})
		want(t, "places", b.head(t, j.ID).Counts.Places, 10)
		want(t, "results", len(b.results(t, j.ID, store.ResultFilter{})), 10)
	}},
	{"a saturated cell is split into four open tasks, once", func(t *testing.T, b bench) {
		j := b.create(t, shape{cell: &job.Box{MinLat: 34.6, MinLng: 33.0, MaxLat: 34.7, MaxLng: 33.1}})
		w := b.standing(t, "n")
		l := b.grant(t, w, 1)
		batch := job.Batch{Tasks: []job.TaskStep{{TaskID: l.Tasks[0].ID, Done: true, Saturated: true}}}
		want(t, "order", b.submit(t, l.Fence, batch).Order, job.Continue)
		b.submit(t, l.Fence, batch)
		got := b.head(t, j.ID)
		want(t, "state", got.State, job.Running)
		want(t, "counts", got.Counts, job.Counts{Tasks: 5, Open: 4, Done: 1})
		want(t, "events", b.events(t, j.ID, job.EventTaskSplit), 1)
		children := b.grant(t, w, 10).Tasks
		for i, child := range job.SplitTask(l.Tasks[0]) {
			want(t, "cell", *children[i].Cell, *child.Cell)
			want(t, "viewport", *children[i].Query.Viewport, *child.Query.Viewport)
			want(t, "input id", children[i].InputID, l.Tasks[0].InputID)
		}
	}},
	{"a saturated cell too small to cut, or a task without one, is simply done", func(t *testing.T, b bench) {
		j := b.create(t, shape{cell: &job.Box{MinLat: 34.6, MinLng: 33.0, MaxLat: 34.6005, MaxLng: 33.0005}})
		l := b.grant(t, b.standing(t, "n"), 1)
		b.submit(t, l.Fence, job.Batch{Tasks: []job.TaskStep{{TaskID: l.Tasks[0].ID, Done: true, Saturated: true}}})
		want(t, "state", b.head(t, j.ID).State, job.Succeeded)
	}},
}
