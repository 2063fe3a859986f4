package storetest

import (
	"fmt"
	"testing"
	"time"

	"gmaps-scraper/job"
	"gmaps-scraper/store"
)

var leaseClaims = []claim{
	{"Renew extends a lease from now", func(t *testing.T, b bench) {
		b.create(t, shape{})
		l := b.grant(t, b.standing(t, "n"), 1)
		for range 3 {
			b.Advance(ttl - 5*time.Second)
			want(t, "order", must[job.Order](t)(b.Store.Renew(t.Context(), l.Fence, ttl)), job.Continue)
			want(t, "expired", b.expire(t), 0)
		}
		b.submit(t, l.Fence, job.Batch{Tasks: done(l.Tasks[0].ID)})
	}},
	{"a lease whose time is over cannot be renewed", func(t *testing.T, b bench) {
		b.create(t, shape{})
		l := b.grant(t, b.standing(t, "n"), 1)
		b.Advance(ttl + time.Second)
		_, err := b.Store.Renew(t.Context(), l.Fence, ttl)
		wantErr(t, err, store.ErrOverdue)
		b.expire(t)
		_, err = b.Store.Renew(t.Context(), l.Fence, ttl)
		wantEnded(t, err)
		_, err = b.Store.Renew(t.Context(), l.Fence+100, ttl)
		wantErr(t, err, store.ErrStaleFence)
	}},
	{"a stopping spawn is told to drain, and may submit", func(t *testing.T, b bench) {
		b.create(t, shape{})
		w := b.standing(t, "n")
		l := b.grant(t, w, 1)
		wantErr(t, b.Store.SpawnStopping(t.Context(), w, "scaling down"), nil)
		want(t, "order", must[job.Order](t)(b.Store.Renew(t.Context(), l.Fence, ttl)), job.Drain)
		want(t, "ack", b.submit(t, l.Fence, job.Batch{Places: found(l.Tasks[0].ID, 1)}), job.Ack{New: 1, Order: job.Drain})
	}},
	{"the owner of a lease is known, also when it has ended", func(t *testing.T, b bench) {
		b.create(t, shape{tasks: 2})
		w := b.standing(t, "n")
		l := b.grant(t, w, 1)
		want(t, "owner", must[job.SpawnID](t)(b.Store.LeaseOwner(t.Context(), l.Fence)), w)
		b.submit(t, l.Fence, job.Batch{Tasks: done(l.Tasks[0].ID)})
		want(t, "owner", must[job.SpawnID](t)(b.Store.LeaseOwner(t.Context(), l.Fence)), w)
		_, err := b.Store.LeaseOwner(t.Context(), l.Fence+100)
		wantErr(t, err, store.ErrStaleFence)
	}},
	{"tasks handed back are open with their cursors and not charged", func(t *testing.T, b bench) {
		ctx := t.Context()
		j := b.create(t, shape{tasks: 3})
		w := b.standing(t, "n")
		l := b.grant(t, w, 3)
		b.submit(t, l.Fence, job.Batch{Tasks: done(l.Tasks[0].ID)})
		wantErr(t, b.Store.HandBack(ctx, l.Fence, []job.TaskStep{{TaskID: l.Tasks[1].ID, Cursor: "page 2"}, {TaskID: l.Tasks[0].ID, Cursor: "x"}}), nil)
		want(t, "counts", b.head(t, j.ID).Counts, job.Counts{Tasks: 3, Open: 2, Done: 1})
		tasks := b.tasks(t, j.ID)
		want(t, "cursor of a done task", string(tasks[0].Cursor), "")
		want(t, "attempts", tasks[1].Attempts, 0)
		want(t, "crashes", tasks[1].Crashes, 0)
		wantErr(t, b.Store.HandBack(ctx, l.Fence, nil), nil)
		_, err := b.Store.Submit(ctx, l.Fence, job.Batch{Places: found(l.Tasks[1].ID, 1)})
		wantErr(t, err, store.ErrStaleFence)
		next := b.grant(t, w, 3)
		want(t, "cursor", string(next.Tasks[0].Cursor), "page 2")
		want(t, "attempts", next.Tasks[0].Attempts, 1)
		wantErr(t, b.Store.HandBack(ctx, l.Fence, []job.TaskStep{{TaskID: l.Tasks[1].ID, Cursor: "stale"}}), nil)
		want(t, "counts", b.head(t, j.ID).Counts, job.Counts{Tasks: 3, Leased: 2, Done: 1})
		want(t, "cursor", string(b.tasks(t, j.ID)[1].Cursor), "page 2")
	}},
	{"a lease whose time is over is not handed back but expires", func(t *testing.T, b bench) {
		j := b.create(t, shape{})
		l := b.grant(t, b.standing(t, "n"), 1)
		b.Advance(ttl + time.Second)
		wantErr(t, b.Store.HandBack(t.Context(), l.Fence, []job.TaskStep{{TaskID: l.Tasks[0].ID, Cursor: "late"}}), nil)
		want(t, "expired", b.expire(t), 1)
		task := b.tasks(t, j.ID)[0]
		want(t, "attempts", task.Attempts, 1)
		want(t, "cursor", string(task.Cursor), "")
	}},
	{"an expired lease opens its tasks at once, charged and with a crash counted", func(t *testing.T, b bench) {
		j := b.create(t, shape{tasks: 2})
		w := b.standing(t, "n")
		l := b.grant(t, w, 2)
		b.submit(t, l.Fence, job.Batch{Tasks: []job.TaskStep{{TaskID: l.Tasks[0].ID, Done: true}, {TaskID: l.Tasks[1].ID, Cursor: "page 2"}}})
		want(t, "expired", b.expire(t), 0)
		b.Advance(ttl + time.Second)
		want(t, "expired", b.expire(t), 1)
		want(t, "expired again", b.expire(t), 0)
		want(t, "counts", b.head(t, j.ID).Counts, job.Counts{Tasks: 2, Open: 1, Done: 1})
		want(t, "events", b.events(t, j.ID, job.EventLeaseLost), 1)
		next := b.grant(t, w, 1)
		want(t, "task", next.Tasks[0].ID, l.Tasks[1].ID)
		want(t, "cursor", string(next.Tasks[0].Cursor), "page 2")
		want(t, "attempts", next.Tasks[0].Attempts, 2)
		want(t, "crashes", next.Tasks[0].Crashes, 1)
		want(t, "fence", next.Fence > l.Fence, true)
	}},
	{"a task that kills its worker every time is dead, and takes no other with it", func(t *testing.T, b bench) {
		j := b.create(t, shape{tasks: 4, spec: job.Spec{MaxAttempts: 3}})
		poison := b.tasks(t, j.ID)[1].ID
		for i := 0; !b.head(t, j.ID).State.Terminal(); i++ {
			if i > 20 {
				t.Fatalf("not over after %d leases: %+v", i, b.head(t, j.ID).Counts)
			}
			l := b.grant(t, b.standing(t, fmt.Sprint(i)), 4)
			clean := true
			for _, task := range l.Tasks {
				clean = clean && task.ID != poison
			}
			if clean {
				b.submit(t, l.Fence, job.Batch{Tasks: done(ids(l.Tasks)...)})
				continue
			}
			b.Advance(ttl + time.Second)
			b.expire(t)
		}
		got := b.head(t, j.ID)
		want(t, "state", got.State, job.Succeeded)
		want(t, "partial", got.Partial, true)
		want(t, "counts", got.Counts, job.Counts{Tasks: 4, Done: 3, Dead: 1})
		task := b.tasks(t, j.ID)[1]
		want(t, "error", task.Error, "its worker died 3 times")
		want(t, "crashes", task.Crashes, 3)
	}},
	{"ExtendLeases gives every lease time, also one that ran out while the Manager was away", func(t *testing.T, b bench) {
		b.create(t, shape{tasks: 3})
		w := b.standing(t, "n")
		long, short := must[job.Lease](t)(b.Store.Grant(t.Context(), w, 1, time.Hour)), b.grant(t, w, 1)
		b.Advance(10 * time.Minute)
		wantErr(t, b.Store.ExtendLeases(t.Context(), ttl), nil)
		want(t, "expired", b.expire(t), 0)
		b.submit(t, short.Fence, job.Batch{Places: found(short.Tasks[0].ID, 1)})
		b.Advance(ttl + time.Second)
		want(t, "expired", b.expire(t), 1)
		b.submit(t, long.Fence, job.Batch{Places: found(long.Tasks[0].ID, 2)})
	}},
}
