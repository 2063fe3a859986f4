package storetest

import (
	"testing"
	"time"

	"gmaps-scraper/job"
	"gmaps-scraper/store"
)

var spawnClaims = []claim{
	{"a standing worker joins as a running spawn of no job, the same nonce as the same", func(t *testing.T, b bench) {
		s := must[job.Spawn](t)(b.Store.JoinStanding(t.Context(), "n", 7))
		want(t, "backend", s.Backend, "none")
		want(t, "state", s.State, job.SpawnRunning)
		want(t, "job", s.JobID, "")
		want(t, "concurrency", s.Concurrency, 7)
		want(t, "again", must[job.Spawn](t)(b.Store.JoinStanding(t.Context(), "n", 7)).ID, s.ID)
		want(t, "another", must[job.Spawn](t)(b.Store.JoinStanding(t.Context(), "m", 7)).ID == s.ID, false)
		wantErr(t, b.Store.SpawnEnded(t.Context(), s.ID, store.SpawnEnd{Outcome: job.Silent}), nil)
		want(t, "after its end", must[job.Spawn](t)(b.Store.JoinStanding(t.Context(), "n", 7)).ID == s.ID, false)
	}},
	{"one nonce makes one standing spawn however often it asks at once", func(t *testing.T, b bench) {
		got := atOnce(8, func(int) job.SpawnID {
			s, err := b.Store.JoinStanding(t.Context(), "n", 1)
			if err != nil {
				t.Error(err)
			}
			return s.ID
		})
		for _, id := range got {
			want(t, "spawn", id, got[0])
		}
	}},
	{"a spawn goes from pending to started to running to stopping to ended", func(t *testing.T, b bench) {
		ctx := t.Context()
		b.create(t, shape{})
		s := b.plan(t, store.Plan{Concurrency: 3})[0]
		want(t, "state", b.spawn(t, s.ID).State, job.SpawnPending)
		want(t, "concurrency", b.spawn(t, s.ID).Concurrency, 3)
		wantErr(t, b.Store.SpawnStarted(ctx, s.ID, "pid 7"), nil)
		got := b.spawn(t, s.ID)
		want(t, "state", got.State, job.SpawnStarted)
		want(t, "external id", got.ExternalID, "pid 7")
		want(t, "started", got.StartedAt.IsZero(), false)
		joined := must[job.Spawn](t)(b.Store.Join(ctx, s.ID, "n"))
		want(t, "state", joined.State, job.SpawnRunning)
		want(t, "joined", joined.JoinedAt.IsZero(), false)
		wantErr(t, b.Store.SpawnStopping(ctx, s.ID, "cancelled"), nil)
		want(t, "reason", b.spawn(t, s.ID).Reason, "cancelled")
		must[job.Spawn](t)(b.Store.Join(ctx, s.ID, "n"))
		want(t, "state", b.spawn(t, s.ID).State, job.SpawnStopping)
		code := 3
		wantErr(t, b.Store.SpawnEnded(ctx, s.ID, store.SpawnEnd{Outcome: job.Exited, ExitCode: &code, LogTail: "bye", CostUSD: 0.5}), nil)
		got = b.spawn(t, s.ID)
		want(t, "state", got.State, job.SpawnEnded)
		want(t, "outcome", got.Outcome, job.Exited)
		want(t, "exit code", *got.ExitCode, 3)
		want(t, "log", got.LogTail, "bye")
		want(t, "cost", got.CostUSD, 0.5)
		want(t, "its job's cost", b.head(t, s.JobID).CostUSD, 0.5)
		want(t, "reason", got.Reason, "cancelled")
		want(t, "ended", got.EndedAt.IsZero(), false)
	}},
	{"the end of a spawn is recorded once, with one event", func(t *testing.T, b bench) {
		ctx := t.Context()
		j := b.create(t, shape{})
		s := b.plan(t, store.Plan{})[0]
		wantErr(t, b.Store.SpawnEnded(ctx, s.ID, store.SpawnEnd{Outcome: job.CreateError, Reason: "image not found"}), nil)
		wantErr(t, b.Store.SpawnEnded(ctx, s.ID, store.SpawnEnd{Outcome: job.Exited}), nil)
		wantErr(t, b.Store.SpawnStopping(ctx, s.ID, "late"), nil)
		wantErr(t, b.Store.SpawnStarted(ctx, s.ID, "late"), nil)
		got := b.spawn(t, s.ID)
		want(t, "outcome", got.Outcome, job.CreateError)
		want(t, "reason", got.Reason, "image not found")
		want(t, "external id", got.ExternalID, "")
		want(t, "failed events", b.events(t, j.ID, job.EventSpawnFailed), 1)
		want(t, "ended events", b.events(t, j.ID, job.EventSpawnEnded), 0)
		want(t, "failures", must[store.Stats](t)(b.Store.Stats(ctx)).SpawnErrors[job.CreateError], 1)
	}},
	{"the first nonce wins", func(t *testing.T, b bench) {
		b.create(t, shape{})
		s := b.plan(t, store.Plan{})[0]
		won := atOnce(8, func(i int) error {
			_, err := b.Store.Join(t.Context(), s.ID, string(rune('a'+i)))
			return err
		})
		winners := 0
		for _, err := range won {
			if err == nil {
				winners++
				continue
			}
			wantErr(t, err, store.ErrSpawnTaken)
		}
		want(t, "winners", winners, 1)
		nonce := b.spawn(t, s.ID).Nonce
		must[job.Spawn](t)(b.Store.Join(t.Context(), s.ID, nonce))
	}},
	{"nobody joins or speaks as a spawn that is unknown or has ended", func(t *testing.T, b bench) {
		ctx := t.Context()
		b.create(t, shape{})
		s := b.plan(t, store.Plan{})[0]
		wantErr(t, b.Store.SpawnEnded(ctx, s.ID, store.SpawnEnd{Outcome: job.NeverLeased}), nil)
		for _, id := range []job.SpawnID{s.ID, job.NewSpawnID()} {
			_, err := b.Store.Join(ctx, id, "n")
			wantErr(t, err, store.ErrUnknownSpawn)
			wantErr(t, b.Store.Touch(ctx, id), store.ErrUnknownSpawn)
		}
		_, err := b.Store.Spawn(ctx, job.NewSpawnID())
		wantErr(t, err, store.ErrNotFound)
		wantErr(t, b.Store.SpawnStarted(ctx, job.NewSpawnID(), "x"), store.ErrUnknownSpawn)
		wantErr(t, b.Store.SpawnStopping(ctx, job.NewSpawnID(), "x"), store.ErrUnknownSpawn)
		wantErr(t, b.Store.SpawnEnded(ctx, job.NewSpawnID(), store.SpawnEnd{}), store.ErrUnknownSpawn)
	}},
	{"Touch records when a worker spoke last", func(t *testing.T, b bench) {
		w := b.standing(t, "n")
		before := b.spawn(t, w).SeenAt
		b.Advance(time.Minute)
		wantErr(t, b.Store.Touch(t.Context(), w), nil)
		if got := b.spawn(t, w).SeenAt.Sub(before); got < time.Minute {
			t.Errorf("seen %s later, want a minute", got)
		}
	}},
	{"a worker that spoke before its create returned stays running, with the backend's id", func(t *testing.T, b bench) {
		b.create(t, shape{})
		s := b.plan(t, store.Plan{})[0]
		must[job.Spawn](t)(b.Store.Join(t.Context(), s.ID, "n"))
		wantErr(t, b.Store.SpawnStarted(t.Context(), s.ID, "pid 7"), nil)
		want(t, "state", b.spawn(t, s.ID).State, job.SpawnRunning)
		want(t, "external id", b.spawn(t, s.ID).ExternalID, "pid 7")
		wantErr(t, b.Store.SpawnStarted(t.Context(), s.ID, "pid 8"), nil)
		want(t, "external id", b.spawn(t, s.ID).ExternalID, "pid 7")
	}},
	{"the leases of a worker that died open as if expired", func(t *testing.T, b bench) {
		j := b.create(t, shape{tasks: 2, spec: job.Spec{MaxAttempts: 1}})
		w := b.standing(t, "n")
		l := b.grant(t, w, 1)
		wantErr(t, b.Store.SpawnEnded(t.Context(), w, store.SpawnEnd{Outcome: job.Vanished}), nil)
		want(t, "counts", b.head(t, j.ID).Counts, job.Counts{Tasks: 2, Open: 1, Dead: 1})
		want(t, "lost events", b.events(t, j.ID, job.EventLeaseLost), 1)
		_, err := b.Store.Submit(t.Context(), l.Fence, job.Batch{Places: found(l.Tasks[0].ID, 1)})
		wantErr(t, err, store.ErrStaleFence)
	}},
	{"the leases of a worker that gave back are not charged", func(t *testing.T, b bench) {
		j := b.create(t, shape{tasks: 2, spec: job.Spec{MaxAttempts: 1}})
		w := b.standing(t, "n")
		b.grant(t, w, 1)
		b.grant(t, w, 1)
		wantErr(t, b.Store.SpawnEnded(t.Context(), w, store.SpawnEnd{Outcome: job.Stopped, GaveBack: true}), nil)
		want(t, "counts", b.head(t, j.ID).Counts, job.Counts{Tasks: 2, Open: 2})
		for _, task := range b.tasks(t, j.ID) {
			want(t, "attempts", task.Attempts, 0)
			want(t, "crashes", task.Crashes, 0)
		}
		want(t, "failures", len(must[store.Stats](t)(b.Store.Stats(t.Context())).SpawnErrors), 0)
	}},
}
