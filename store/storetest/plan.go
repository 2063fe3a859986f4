package storetest

import (
	"fmt"
	"testing"
	"time"

	"gmaps-scraper/job"
	"gmaps-scraper/store"
)

// jobsOf counts planned spawns by job.
func jobsOf(spawns []job.Spawn) map[job.ID]int {
	n := make(map[job.ID]int)
	for _, s := range spawns {
		n[s.JobID]++
	}
	return n
}

var planClaims = []claim{
	{"a job gets as many workers as its open tasks want, up to its most, once", func(t *testing.T, b bench) {
		small := b.create(t, shape{tasks: 1, spec: job.Spec{MaxWorkers: 10}})
		middle := b.create(t, shape{tasks: 33, spec: job.Spec{MaxWorkers: 10}})
		large := b.create(t, shape{tasks: 200, spec: job.Spec{MaxWorkers: 2}})
		planned := b.plan(t, store.Plan{Concurrency: 2})
		n := jobsOf(planned)
		want(t, "small", n[small.ID], 1)
		want(t, "33 tasks of 2 × 8", n[middle.ID], 3)
		want(t, "large", n[large.ID], 2)
		for _, s := range planned {
			want(t, "state", s.State, job.SpawnPending)
			want(t, "row", b.spawn(t, s.ID).JobID, s.JobID)
		}
		want(t, "counted", b.head(t, middle.ID).Counts.Spawns, 3)
		want(t, "events", b.events(t, middle.ID, job.EventSpawned), 3)
		want(t, "again", len(b.plan(t, store.Plan{Concurrency: 2})), 0)
	}},
	{"a worker that has ended makes room for another", func(t *testing.T, b bench) {
		b.create(t, shape{})
		s := b.plan(t, store.Plan{})[0]
		wantErr(t, b.Store.SpawnStopping(t.Context(), s.ID, "enough"), nil)
		want(t, "beside a stopping one", len(b.plan(t, store.Plan{})), 0)
		wantErr(t, b.Store.SpawnEnded(t.Context(), s.ID, store.SpawnEnd{Outcome: job.Stopped}), nil)
		want(t, "after it", len(b.plan(t, store.Plan{})), 1)
	}},
	{"a worker whose end nobody saw counts against the cap until it cannot run any more, and its job gets another meanwhile", func(t *testing.T, b bench) {
		b.create(t, shape{})
		s := b.plan(t, store.Plan{Cap: 2})[0]
		joined := must[job.Spawn](t)(b.Store.Join(t.Context(), s.ID, "n"))
		until := joined.JoinedAt.Add(15 * time.Minute)
		wantErr(t, b.Store.SpawnEnded(t.Context(), s.ID, store.SpawnEnd{Outcome: job.Silent, MayRunUntil: until}), nil)
		want(t, "until", b.spawn(t, s.ID).MayRunUntil, until)
		want(t, "its job's next", len(b.plan(t, store.Plan{Cap: 2})), 1)
		b.create(t, shape{})
		want(t, "another job at the cap", len(b.plan(t, store.Plan{Cap: 2})), 0)
		want(t, "counted", len(must[[]job.Spawn](t)(b.Store.Spawns(t.Context(), store.SpawnFilter{Backend: "process", Counted: true}))), 2)
		want(t, "of another backend", len(b.plan(t, store.Plan{Cap: 2, Backend: "docker"})), 1)
		b.Advance(15 * time.Minute)
		want(t, "counted once it is over", len(must[[]job.Spawn](t)(b.Store.Spawns(t.Context(), store.SpawnFilter{Backend: "process", Counted: true}))), 1)
		b.create(t, shape{})
		want(t, "planned once it is over", len(b.plan(t, store.Plan{Cap: 2})), 1)
	}},
	{"a worker whose end is heard of late no longer counts against the cap", func(t *testing.T, b bench) {
		j := b.create(t, shape{})
		s := b.plan(t, store.Plan{Cap: 1})[0]
		joined := must[job.Spawn](t)(b.Store.Join(t.Context(), s.ID, "n"))
		unseen := store.SpawnEnd{Outcome: job.Silent, Reason: "silent", MayRunUntil: joined.JoinedAt.Add(15 * time.Minute), CostUSD: 1}
		wantErr(t, b.Store.SpawnEnded(t.Context(), s.ID, unseen), nil)
		wantErr(t, b.Store.SpawnEnded(t.Context(), s.ID, unseen), nil)
		want(t, "planned while it may run", len(b.plan(t, store.Plan{Cap: 1})), 0)
		wantErr(t, b.Store.SpawnEnded(t.Context(), s.ID, store.SpawnEnd{Outcome: job.Exited, Reason: "goodbye", CostUSD: 2}), nil)
		got := b.spawn(t, s.ID)
		want(t, "until", got.MayRunUntil, time.Time{})
		want(t, "outcome", got.Outcome, job.Silent)
		want(t, "reason", got.Reason, "silent")
		want(t, "cost", b.head(t, j.ID).CostUSD, 1)
		want(t, "ends told", b.events(t, j.ID, job.EventSpawnEnded), 1)
		want(t, "planned once its end was heard of", len(b.plan(t, store.Plan{Cap: 1})), 1)
	}},
	{"leased tasks want no worker", func(t *testing.T, b bench) {
		b.create(t, shape{tasks: 2})
		l := b.grant(t, b.standing(t, "n"), 2)
		want(t, "planned", len(b.plan(t, store.Plan{})), 0)
		wantErr(t, b.Store.HandBack(t.Context(), l.Fence, nil), nil)
		want(t, "planned once they are open", len(b.plan(t, store.Plan{})), 1)
	}},
	{"the cap holds, by priority, whoever plans at once", func(t *testing.T, b bench) {
		for i := range 10 {
			b.create(t, shape{tasks: 20, spec: job.Spec{Priority: i, MaxWorkers: 2}})
		}
		plans := atOnce(16, func(int) []job.Spawn {
			spawns, err := b.Store.PlanSpawns(t.Context(), store.Plan{Backend: "process", Cap: 5, Concurrency: 1})
			if err != nil {
				t.Error(err)
			}
			return spawns
		})
		n := make(map[int]int)
		total := 0
		for _, spawns := range plans {
			total += len(spawns)
			for _, s := range spawns {
				n[b.head(t, s.JobID).Spec.Priority]++
			}
		}
		want(t, "planned", total, 5)
		want(t, "of priority 9, 8, 7", fmt.Sprint(n[9], n[8], n[7]), "2 2 1")
		live := must[[]job.Spawn](t)(b.Store.Spawns(t.Context(), store.SpawnFilter{Live: true}))
		want(t, "live", len(live), 5)
	}},
	{"the cap counts every state but ended, of its own backend", func(t *testing.T, b bench) {
		ctx := t.Context()
		for range 6 {
			b.create(t, shape{})
		}
		b.standing(t, "n")
		b.plan(t, store.Plan{Backend: "docker", New: 1})
		s := b.plan(t, store.Plan{Cap: 4})
		want(t, "planned", len(s), 4)
		wantErr(t, b.Store.SpawnStarted(ctx, s[1].ID, "x"), nil)
		must[job.Spawn](t)(b.Store.Join(ctx, s[2].ID, "n"))
		wantErr(t, b.Store.SpawnStopping(ctx, s[3].ID, "enough"), nil)
		want(t, "at the cap", len(b.plan(t, store.Plan{Cap: 4})), 0)
		wantErr(t, b.Store.SpawnEnded(ctx, s[2].ID, store.SpawnEnd{Outcome: job.Exited}), nil)
		want(t, "with room for one", len(b.plan(t, store.Plan{Cap: 4})), 1)
		want(t, "under a cap below what lives", len(b.plan(t, store.Plan{Cap: 2})), 0)
	}},
	{"New bounds one call", func(t *testing.T, b bench) {
		for range 100 {
			b.create(t, shape{})
		}
		want(t, "first", len(b.plan(t, store.Plan{New: 3})), 3)
		want(t, "second", len(b.plan(t, store.Plan{New: 3})), 3)
		want(t, "without bounds", len(b.plan(t, store.Plan{})), 94)
	}},
	{"a job gains one priority for each interval that it waits", func(t *testing.T, b bench) {
		old := b.create(t, shape{})
		b.Advance(150 * time.Second)
		urgent := b.create(t, shape{spec: job.Spec{Priority: 4}})
		want(t, "by the usual minute", b.plan(t, store.Plan{New: 1})[0].JobID, urgent.ID)
		b.create(t, shape{spec: job.Spec{Priority: 4}})
		want(t, "by half a minute", b.plan(t, store.Plan{New: 1, AgeingInterval: 30 * time.Second})[0].JobID, old.ID)
	}},
	{"a job that is over gets no worker", func(t *testing.T, b bench) {
		j := b.create(t, shape{})
		must[job.Job](t)(b.Store.Cancel(t.Context(), j.ID))
		want(t, "planned", len(b.plan(t, store.Plan{})), 0)
	}},
	{"why a job waits is told once, and cleared", func(t *testing.T, b bench) {
		ctx := t.Context()
		j, other := b.create(t, shape{}), b.create(t, shape{})
		for range 2 {
			wantErr(t, b.Store.SetWaiting(ctx, "image not found: build it", j.ID), nil)
		}
		want(t, "waiting", b.head(t, j.ID).Waiting, "image not found: build it")
		want(t, "the other", b.head(t, other.ID).Waiting, "")
		want(t, "events", b.events(t, j.ID, job.EventWaiting), 1)
		wantErr(t, b.Store.SetWaiting(ctx, "cap reached", j.ID), nil)
		want(t, "events", b.events(t, j.ID, job.EventWaiting), 2)
		wantErr(t, b.Store.SetWaiting(ctx, "", j.ID, other.ID), nil)
		want(t, "waiting", b.head(t, j.ID).Waiting, "")
		want(t, "events of the other", b.events(t, other.ID, job.EventWaiting), 0)
	}},
	{"a job with a worker, or without open tasks, does not wait", func(t *testing.T, b bench) {
		ctx := t.Context()
		spawned := b.create(t, shape{})
		b.plan(t, store.Plan{})
		over := b.create(t, shape{})
		must[job.Job](t)(b.Store.Cancel(ctx, over.ID))
		waits := b.create(t, shape{})
		wantErr(t, b.Store.SetWaiting(ctx, "cap reached", spawned.ID, over.ID, waits.ID), nil)
		want(t, "spawned", b.head(t, spawned.ID).Waiting, "")
		want(t, "over", b.head(t, over.ID).Waiting, "")
		want(t, "waits", b.head(t, waits.ID).Waiting, "cap reached")
		b.grant(t, b.standing(t, "n"), 1)
		b.grant(t, b.standing(t, "n"), 1)
		want(t, "once it is leased", b.head(t, waits.ID).Waiting, "")
	}},
}
