// Package storetest holds every store.Store to the text of its interface. It is the one suite: an implementation passes it or is none.
package storetest

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"gmaps-scraper/gmaps"
	"gmaps-scraper/job"
	"gmaps-scraper/store"
)

// Fixture is an empty store and its clock.
type Fixture struct {
	Store store.Store
	// Advance moves the clock that the store goes by, which else runs as usual.
	Advance func(time.Duration)
}

// Run holds the stores that open makes to the contract. open is called once for each claim, from tests that run in parallel.
func Run(t *testing.T, open func(t *testing.T) Fixture) {
	groups := []struct {
		name   string
		claims []claim
	}{
		{"Jobs", jobClaims},
		{"Control", controlClaims},
		{"Grant", grantClaims},
		{"Submit", submitClaims},
		{"Leases", leaseClaims},
		{"Spawns", spawnClaims},
		{"Plan", planClaims},
		{"Lists", listClaims},
	}
	for _, g := range groups {
		t.Run(g.name, func(t *testing.T) {
			t.Parallel()
			for _, c := range g.claims {
				t.Run(c.name, func(t *testing.T) {
					t.Parallel()
					c.holds(t, bench{Fixture: open(t)})
				})
			}
		})
	}
	t.Run("Model", func(t *testing.T) {
		t.Parallel()
		checkModel(t, open)
	})
}

// claim is one sentence of the contract.
type claim struct {
	name  string
	holds func(t *testing.T, b bench)
}

// bench is a store under test with the steps that tests are made of: each fails the test rather than returning an error.
type bench struct{ Fixture }

const ttl = 30 * time.Second

// shape is what a test wants of a job.
type shape struct {
	tasks int
	spec  job.Spec
	cell  *job.Box
	key   string
	hash  string
}

func (b bench) create(t *testing.T, s shape) job.Job {
	t.Helper()
	j, created, err := b.Store.CreateJob(t.Context(), newJob(s))
	if err != nil || !created {
		t.Fatalf("CreateJob: created %t, %v", created, err)
	}
	return j
}

func newJob(s shape) store.NewJob {
	n := store.NewJob{ID: job.NewID(), Spec: s.spec, IdempotencyKey: s.key, RequestHash: s.hash}
	for i := range max(1, s.tasks) {
		word := fmt.Sprintf("cafe %d", i)
		n.Spec.Inputs = append(n.Spec.Inputs, job.Input{Text: word, ID: fmt.Sprintf("line-%d", i)})
		n.Tasks = append(n.Tasks, job.Task{Query: gmaps.Query{Keyword: word, Lang: "en"}, InputID: fmt.Sprintf("line-%d", i), Cell: s.cell})
	}
	if n.Spec.MaxAttempts == 0 {
		n.Spec.MaxAttempts = 3
	}
	if n.Spec.MaxWorkers == 0 {
		n.Spec.MaxWorkers = 1
	}
	return n
}

func (b bench) standing(t *testing.T, nonce string) job.SpawnID {
	t.Helper()
	s, err := b.Store.JoinStanding(t.Context(), nonce, 4)
	if err != nil {
		t.Fatalf("JoinStanding: %v", err)
	}
	return s.ID
}

func (b bench) plan(t *testing.T, p store.Plan) []job.Spawn {
	t.Helper()
	if p.Backend == "" {
		p.Backend = "process"
	}
	if p.Concurrency == 0 {
		p.Concurrency = 1
	}
	spawns, err := b.Store.PlanSpawns(t.Context(), p)
	if err != nil {
		t.Fatalf("PlanSpawns: %v", err)
	}
	return spawns
}

func (b bench) grant(t *testing.T, s job.SpawnID, max int) job.Lease {
	t.Helper()
	l, err := b.Store.Grant(t.Context(), s, max, ttl)
	if err != nil {
		t.Fatalf("Grant: %v", err)
	}
	return l
}

func (b bench) submit(t *testing.T, f job.Fence, batch job.Batch) job.Ack {
	t.Helper()
	ack, err := b.Store.Submit(t.Context(), f, batch)
	if err != nil {
		t.Fatalf("Submit: %v", err)
	}
	return ack
}

func (b bench) expire(t *testing.T) int {
	t.Helper()
	n, err := b.Store.Expire(t.Context())
	if err != nil {
		t.Fatalf("Expire: %v", err)
	}
	return n
}

func (b bench) head(t *testing.T, id job.ID) job.Job {
	t.Helper()
	j, err := b.Store.JobHead(t.Context(), id)
	if err != nil {
		t.Fatalf("JobHead: %v", err)
	}
	return j
}

func (b bench) tasks(t *testing.T, id job.ID) []job.Task {
	t.Helper()
	tasks, err := b.Store.Tasks(t.Context(), id, store.TaskFilter{Limit: 1 << 20})
	if err != nil {
		t.Fatalf("Tasks: %v", err)
	}
	return tasks
}

func (b bench) results(t *testing.T, id job.ID, f store.ResultFilter) []job.Result {
	t.Helper()
	if f.Limit == 0 {
		f.Limit = 1 << 20
	}
	r, err := b.Store.Results(t.Context(), id, f)
	if err != nil {
		t.Fatalf("Results: %v", err)
	}
	return r
}

// events counts the events of a kind.
func (b bench) events(t *testing.T, id job.ID, kind job.EventKind) int {
	t.Helper()
	all, err := b.Store.Events(t.Context(), id, 0, 1<<20)
	if err != nil {
		t.Fatalf("Events: %v", err)
	}
	n := 0
	for _, e := range all {
		if e.Kind == kind {
			n++
		}
	}
	return n
}

func (b bench) spawn(t *testing.T, id job.SpawnID) job.Spawn {
	t.Helper()
	s, err := b.Store.Spawn(t.Context(), id)
	if err != nil {
		t.Fatalf("Spawn: %v", err)
	}
	return s
}

// place is the n-th of a town where no two are alike.
func place(n int) gmaps.Place {
	return gmaps.Place{DataID: fmt.Sprintf("0x%x:0x%x", n+1, n+1), Title: fmt.Sprintf("Place %d", n)}
}

func found(task job.TaskID, ns ...int) []job.Found {
	var all []job.Found
	for _, n := range ns {
		all = append(all, job.Found{TaskID: task, Place: place(n)})
	}
	return all
}

func done(ids ...job.TaskID) []job.TaskStep {
	var steps []job.TaskStep
	for _, id := range ids {
		steps = append(steps, job.TaskStep{TaskID: id, Done: true})
	}
	return steps
}

func ids(tasks []job.Task) []job.TaskID {
	var all []job.TaskID
	for _, t := range tasks {
		all = append(all, t.ID)
	}
	return all
}

func wantErr(t *testing.T, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Fatalf("got error %v, want %v", err, want)
	}
}

// wantEnded fails unless err is of a lease that somebody has ended.
func wantEnded(t *testing.T, err error) {
	t.Helper()
	if !errors.Is(err, store.ErrStaleFence) || errors.Is(err, store.ErrOverdue) {
		t.Fatalf("got error %v, want %v", err, store.ErrStaleFence)
	}
}

func want[T comparable](t *testing.T, what string, got, want T) {
	t.Helper()
	if got != want {
		t.Errorf("%s: got %v, want %v", what, got, want)
	}
}

func must[T any](t *testing.T) func(v T, err error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}
