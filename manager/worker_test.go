package manager_test

import (
	"context"
	"errors"
	"net/http"
	"testing"
	"time"

	"gmaps-scraper/api"
	"gmaps-scraper/job"
	"gmaps-scraper/manager"
	"gmaps-scraper/store"
	"gmaps-scraper/wakeup"
)

func TestSpawnedWorkerDoesItsJobAndMayGo(t *testing.T) {
	t.Parallel()
	r := newRig(t, openStore(t))
	j := r.createJob("coffee", "tea")
	w, s := r.joinSpawned()
	if s.JobID != j.ID {
		t.Fatalf("the spawn is of job %q, want %q", s.JobID, j.ID)
	}
	l := r.mustLease(w, 10)
	if len(l.Tasks) != 2 || l.JobID != j.ID || len(l.Spec.Inputs) != 0 {
		t.Fatalf("lease %+v", l)
	}
	if o, err := w.Renew(t.Context(), l.Fence); err != nil || o.Order != job.Continue {
		t.Errorf("renew: %+v, %v", o, err)
	}
	batch := job.Batch{
		Places: []job.Found{{TaskID: l.Tasks[0].ID, Place: place(1)}, {TaskID: l.Tasks[0].ID, Place: place(2)}},
		Tasks:  []job.TaskStep{{TaskID: l.Tasks[0].ID, Done: true}},
	}
	ack, err := w.Submit(t.Context(), l.Fence, batch)
	if err != nil || ack.New != 2 {
		t.Errorf("submit: %+v, %v", ack, err)
	}
	if _, err = w.Submit(t.Context(), l.Fence, batch); err != nil {
		t.Errorf("submit again, as if the answer had been lost: %v", err)
	}
	if err := w.HandBack(t.Context(), l.Fence, api.HandBack{}); err != nil {
		t.Errorf("hand back: %v", err)
	}
	if err := w.HandBack(t.Context(), l.Fence, api.HandBack{}); err != nil {
		t.Errorf("hand back an ended lease: %v", err)
	}
	if _, err := w.Renew(t.Context(), l.Fence); !api.IsStale(err) {
		t.Errorf("renew an ended lease: %v", err)
	}
	late := job.Batch{Places: []job.Found{{TaskID: l.Tasks[1].ID, Place: place(3)}}}
	if _, err := w.Submit(t.Context(), l.Fence, late); !api.IsStale(err) {
		t.Errorf("submit under an ended lease: %v", err)
	}
	if _, err := w.Renew(t.Context(), 1<<40); !api.IsStale(err) {
		t.Errorf("renew a lease that never was: %v", err)
	}
	r.work(w, 1)
	a, err := w.Lease(t.Context(), api.LeaseRequest{Max: 1, Wait: job.Duration(30 * time.Second)})
	if err != nil || !a.Exit {
		t.Errorf("with nothing left: %+v, %v; want exit at once", a, err)
	}
	got, err := r.client(testKey).Job(t.Context(), j.ID)
	if err != nil || got.State != job.Succeeded || got.Counts.Places != 3 {
		t.Errorf("job %+v, %v", got, err)
	}
}

func TestSpawnedWorkerWaitsForABackoffThatIsNear(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		backoff time.Duration
		exit    bool
	}{"near": {5 * time.Second, false}, "far": {time.Hour, true}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, openStore(t))
			r.createJob("coffee")
			w, _ := r.joinSpawned()
			l := r.mustLease(w, 1)
			step := job.TaskStep{TaskID: l.Tasks[0].ID, Error: "blocked", RetryAfter: job.Duration(c.backoff)}
			if _, err := w.Submit(t.Context(), l.Fence, job.Batch{Tasks: []job.TaskStep{step}}); err != nil {
				t.Fatal(err)
			}
			a, err := w.Lease(t.Context(), api.LeaseRequest{Max: 1})
			if err != nil || a.Lease != nil || a.Exit != c.exit || (a.RetryIn > 0) == c.exit {
				t.Errorf("got %+v, %v; want exit %v", a, err, c.exit)
			}
		})
	}
}

func TestOneWorkerOfASpawn(t *testing.T) {
	t.Parallel()
	r := newRig(t, openStore(t))
	r.createJob("coffee")
	s := r.planSpawn()
	token := r.manager.SpawnToken(s.ID)
	join := func(nonce string) error {
		_, err := r.client(token).Join(t.Context(), api.Join{SpawnID: s.ID, Nonce: nonce, Concurrency: 1})
		return err
	}
	if err := join("0123456789abcdef"); err != nil {
		t.Fatal(err)
	}
	if err := join("0123456789abcdef"); err != nil {
		t.Errorf("the same worker's repeat: %v", err)
	}
	if err := join("another-0123456789"); !api.IsSpawnTaken(err) {
		t.Errorf("a second worker: %v", err)
	}
	if err := r.store.SpawnEnded(t.Context(), s.ID, store.SpawnEnd{Outcome: job.Vanished}); err != nil {
		t.Fatal(err)
	}
	if err := join("0123456789abcdef"); !api.IsGone(err) {
		t.Errorf("after its end: %v", err)
	}
}

func TestSessionOfAnEndedSpawnIsGone(t *testing.T) {
	t.Parallel()
	r := newRig(t, openStore(t))
	r.createJob("coffee")
	w, s := r.joinSpawned()
	if err := r.store.SpawnEnded(t.Context(), s.ID, store.SpawnEnd{Outcome: job.Vanished}); err != nil {
		t.Fatal(err)
	}
	if a, err := w.Lease(t.Context(), api.LeaseRequest{Max: 1}); !api.IsGone(err) {
		t.Errorf("lease: %+v, %v; want gone", a, err)
	}
}

func TestWorkerTouchesOnlyItsOwnLeases(t *testing.T) {
	t.Parallel()
	r := newRig(t, openStore(t))
	r.createJob("coffee")
	owner, _ := r.joinSpawned()
	l := r.mustLease(owner, 1)
	r.createJob("tea")
	other, _ := r.joinSpawned()

	var p *api.Problem
	if _, err := other.Renew(t.Context(), l.Fence); !errors.As(err, &p) || p.Status != http.StatusForbidden {
		t.Errorf("renew: %v", err)
	}
	steal := job.Batch{Places: []job.Found{{TaskID: l.Tasks[0].ID, Place: place(1)}}}
	if _, err := other.Submit(t.Context(), l.Fence, steal); !errors.As(err, &p) || p.Status != http.StatusForbidden {
		t.Errorf("submit: %v", err)
	}
	if err := other.HandBack(t.Context(), l.Fence, api.HandBack{}); !errors.As(err, &p) || p.Status != http.StatusForbidden {
		t.Errorf("hand back: %v", err)
	}
	if o, err := owner.Renew(t.Context(), l.Fence); err != nil || o.Order != job.Continue {
		t.Errorf("the owner's lease: %+v, %v", o, err)
	}
	stats, err := r.store.Stats(t.Context())
	if err != nil || stats.Results != 0 {
		t.Errorf("%d results were stored, err %v", stats.Results, err)
	}
}

func TestCancelReachesTheWorker(t *testing.T) {
	t.Parallel()
	r := newRig(t, openStore(t))
	j := r.createJob("coffee")
	w, _ := r.joinSpawned()
	l := r.mustLease(w, 1)
	if _, err := r.client(testKey).Cancel(t.Context(), j.ID); err != nil {
		t.Fatal(err)
	}
	o, err := w.Renew(t.Context(), l.Fence)
	if !api.IsStale(err) && (err != nil || o.Order != job.Cancel) {
		t.Errorf("renew: %+v, %v; want the order to cancel", o, err)
	}
}

// countingBell tells when somebody waits.
type countingBell struct {
	wakeup.Memory
	waits chan struct{}
}

func (b *countingBell) Next() <-chan struct{} {
	c := b.Memory.Next()
	select {
	case b.waits <- struct{}{}:
	default:
	}
	return c
}

func TestLongPollWakesOnARing(t *testing.T) {
	t.Parallel()
	bell := &countingBell{waits: make(chan struct{}, 1)}
	r := newRig(t, openStore(t), func(c *manager.Config) { c.Bell = bell })
	w := r.joinStanding("standing-worker-1")
	got := make(chan api.LeaseAnswer, 1)
	failed := make(chan error, 1)
	go func() {
		a, err := w.Lease(t.Context(), api.LeaseRequest{Max: 1, Wait: job.Duration(30 * time.Second)})
		if err != nil {
			failed <- err
			return
		}
		got <- a
	}()
	<-bell.waits
	j := r.createJob("coffee")
	select {
	case a := <-got:
		if a.Lease == nil || a.Lease.JobID != j.ID {
			t.Errorf("answer %+v, want a lease of %s", a, j.ID)
		}
	case err := <-failed:
		t.Error(err)
	case <-time.After(20 * time.Second):
		t.Error("the poll slept on")
	}
}

func TestPollRunsOut(t *testing.T) {
	t.Parallel()
	r := newRig(t, openStore(t))
	a, err := r.joinStanding("standing-worker-1").Lease(t.Context(), api.LeaseRequest{Max: 1})
	if err != nil || a.Lease != nil || a.Exit || a.RetryIn <= 0 {
		t.Errorf("got %+v, %v; want to be asked again", a, err)
	}
}

func TestSessionsOutliveARestart(t *testing.T) {
	t.Parallel()
	s := openStore(t)
	before := newRig(t, s)
	before.createJob("coffee")
	spawn := before.planSpawn()
	joined, err := before.client(before.manager.SpawnToken(spawn.ID)).Join(t.Context(), api.Join{SpawnID: spawn.ID, Nonce: "0123456789abcdef", Concurrency: 1})
	if err != nil {
		t.Fatal(err)
	}
	after := newRig(t, s)
	if got, want := after.manager.SpawnToken(spawn.ID), before.manager.SpawnToken(spawn.ID); got != want {
		t.Error("the spawn's token is another after the restart")
	}
	a := after.do("POST", api.PathLeases, `{"max":1}`, bearer(joined.Session))
	if a.status != http.StatusOK {
		t.Errorf("status %d, body %s", a.status, a.body)
	}
}

func TestGoodbyeEndsTheSpawnOnceAndOpensWhatWasLeft(t *testing.T) {
	t.Parallel()
	s := openStore(t)
	r := newRig(t, s)
	c := r.client(testKey)
	joined, err := c.Join(t.Context(), api.Join{Nonce: "0123456789abcdef", Concurrency: 1})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Leave(t.Context(), api.Leave{}); err != nil {
		t.Fatal(err)
	}
	row, err := s.Spawn(t.Context(), joined.SpawnID)
	if err != nil || row.State != job.SpawnEnded || row.Outcome != job.Exited || row.ExitCode == nil || *row.ExitCode != 0 {
		t.Errorf("spawn %+v, %v; want exited with 0", row, err)
	}
	if err := c.Leave(t.Context(), api.Leave{}); !api.IsGone(err) {
		t.Errorf("a second goodbye: %v, want gone", err)
	}
	if err := r.client(testKey).Leave(t.Context(), api.Leave{}); err == nil {
		t.Error("somebody who never joined said goodbye")
	}
}

// overdueStore says of every lease that its time is over, as while no Manager was there to renew any.
type overdueStore struct{ store.Store }

func (overdueStore) Renew(context.Context, job.Fence, time.Duration) (job.Order, error) {
	return "", store.ErrOverdue
}

func (overdueStore) Submit(context.Context, job.Fence, job.Batch) (job.Ack, error) {
	return job.Ack{}, store.ErrOverdue
}

func TestWorkerOfAnOverdueLeaseIsToldToComeAgain(t *testing.T) {
	t.Parallel()
	r := newRig(t, overdueStore{openStore(t)})
	r.createJob("coffee")
	w, _ := r.joinSpawned()
	l := r.mustLease(w, 1)
	if _, err := w.Renew(t.Context(), l.Fence); api.IsStale(err) || !api.Retryable(err) || api.RetryAfter(err) == 0 {
		t.Errorf("renew: got %v, want to be told when to come again", err)
	}
	late := job.Batch{Places: []job.Found{{TaskID: l.Tasks[0].ID, Place: place(1)}}}
	if _, err := w.Submit(t.Context(), l.Fence, late); api.IsStale(err) || !api.Retryable(err) {
		t.Errorf("submit: got %v, want to be told to come again", err)
	}
}
