// Package spawnertest holds every backend to the text of spawner.Spawner.
package spawnertest

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"gmaps-scraper/spawner"
)

// Backend is an implementation on trial, with an installation of its own for each test. Its workers must run Main.
type Backend struct {
	// Open returns a Spawner over this installation. Each call stands for a Manager that starts after the last was killed.
	Open func(t *testing.T) spawner.Spawner
	// Other returns a Spawner of another instance on the same backend.
	Other func(t *testing.T) spawner.Spawner
	// Broken returns one that lacks what a worker is made of: the binary, the image.
	Broken func(t *testing.T) spawner.Spawner
	// Kill ends a running worker from outside, as the kernel does when memory is short.
	Kill func(t *testing.T, w spawner.Worker)
	// Log returns what a worker has written so far, running or not.
	Log func(w spawner.Worker) (string, error)
	// Patience bounds each wait for the backend. 0: 20 s.
	Patience time.Duration
}

// Run runs the suite. open is called once a test.
func Run(t *testing.T, open func(t *testing.T) Backend) {
	for name, test := range map[string]func(*testing.T, *bench){
		"CreateStartsAWorker":             createStartsAWorker,
		"CreateIsIdempotent":              createIsIdempotent,
		"CreateRacesStartOneWorker":       createRacesStartOneWorker,
		"CreateFindsAnEndedWorker":        createFindsAnEndedWorker,
		"CreateAfterRestartFindsTheFirst": createAfterRestartFindsTheFirst,
		"ListSurvivesTheManager":          listSurvivesTheManager,
		"ListKnowsOnlyItsInstance":        listKnowsOnlyItsInstance,
		"StopLetsTheWorkerFinish":         stopLetsTheWorkerFinish,
		"StopKillsAfterGrace":             stopKillsAfterGrace,
		"StopOfAnAdoptedWorker":           stopOfAnAdoptedWorker,
		"StopTwiceAndOfTheGone":           stopTwiceAndOfTheGone,
		"CollectTellsCodeAndTail":         collectTellsCodeAndTail,
		"CollectTellsOfAKill":             collectTellsOfAKill,
		"CollectChangesNothing":           collectChangesNothing,
		"LongLogsKeepTheirEnd":            longLogsKeepTheirEnd,
		"RemoveForgets":                   removeForgets,
		"RemoveSparesTheRunning":          removeSparesTheRunning,
		"EnvironmentIsOnlyWhatWasGiven":   environmentIsOnlyWhatWasGiven,
		"BrokenSaysTheMend":               brokenSaysTheMend,
		"CheckPasses":                     checkPasses,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := &bench{Backend: open(t)}
			if b.Patience == 0 {
				b.Patience = 20 * time.Second
			}
			b.s = b.Open(t)
			t.Cleanup(func() { b.clear(t) })
			test(t, b)
		})
	}
}

// bench is one test's installation.
type bench struct {
	Backend
	s spawner.Spawner
}

func createStartsAWorker(t *testing.T, b *bench) {
	w := b.create(t, b.s, spec("a", "wait"))
	if !w.Running || w.Name != "gmaps-worker-a" || w.SpawnID != "a" || w.JobID != "job-a" || w.ID == "" {
		t.Errorf("create: got %+v, want a running gmaps-worker-a of spawn a and job job-a", w)
	}
	b.started(t, w)
	if age := time.Since(w.CreatedAt); age > time.Minute || age < -time.Minute {
		t.Errorf("created at %v: want now", w.CreatedAt)
	}
}

func createIsIdempotent(t *testing.T, b *bench) {
	first := b.create(t, b.s, spec("a", "wait"))
	b.started(t, first)
	again := b.create(t, b.s, spec("a", "wait"))
	if diff := cmp.Diff(first, again); diff != "" {
		t.Errorf("second create (-first +again):\n%s", diff)
	}
	b.wantOneStart(t, first)
}

func createRacesStartOneWorker(t *testing.T, b *bench) {
	managers := []spawner.Spawner{b.s, b.Open(t)}
	ids := make([]spawner.ID, 16)
	var wg sync.WaitGroup
	for i := range ids {
		wg.Go(func() {
			w, err := managers[i%2].Create(t.Context(), spec("a", "wait"))
			if err != nil {
				t.Errorf("create %d: %v", i, err)
			}
			ids[i] = w.ID
		})
	}
	wg.Wait()
	for i, id := range ids {
		if id != ids[0] {
			t.Errorf("create %d returned worker %s, another %s", i, id, ids[0])
		}
	}
	list := b.list(t, b.s)
	if len(list) != 1 {
		t.Fatalf("list: got %d workers, want 1: %+v", len(list), list)
	}
	b.started(t, list[0])
	b.wantOneStart(t, list[0])
}

func createFindsAnEndedWorker(t *testing.T, b *bench) {
	w := b.create(t, b.s, spec("a", "exit 0"))
	b.ended(t, b.s, w)
	again := b.create(t, b.s, spec("a", "exit 0"))
	if again.ID != w.ID || again.Running {
		t.Errorf("create of an ended name: got %+v, want the ended %s", again, w.ID)
	}
	b.wantOneStart(t, w)
}

func createAfterRestartFindsTheFirst(t *testing.T, b *bench) {
	w := b.create(t, b.s, spec("a", "wait"))
	next := b.Open(t)
	again := b.create(t, next, spec("a", "wait"))
	if diff := cmp.Diff(w, again); diff != "" {
		t.Errorf("create by the next manager (-first +again):\n%s", diff)
	}
	b.started(t, w)
	b.wantOneStart(t, w)
}

func listSurvivesTheManager(t *testing.T, b *bench) {
	a := b.create(t, b.s, spec("a", "wait"))
	c := b.create(t, b.s, spec("c", "exit 7"))
	b.ended(t, b.s, c)
	next := b.Open(t)
	got := map[string]spawner.Worker{}
	for _, w := range b.list(t, next) {
		got[w.SpawnID] = w
	}
	c.Running = false
	if diff := cmp.Diff(map[string]spawner.Worker{"a": a, "c": c}, got); diff != "" {
		t.Errorf("list by the next manager (-want +got):\n%s", diff)
	}
	if exit := b.collect(t, next, c); exit.Code != 7 {
		t.Errorf("exit code by the next manager: got %d, want 7", exit.Code)
	}
}

func listKnowsOnlyItsInstance(t *testing.T, b *bench) {
	b.create(t, b.s, spec("a", "wait"))
	if got := b.list(t, b.Other(t)); len(got) != 0 {
		t.Errorf("another instance lists %+v", got)
	}
}

func stopLetsTheWorkerFinish(t *testing.T, b *bench) {
	w := b.create(t, b.s, spec("a", "wait"))
	b.started(t, w)
	b.stop(t, b.s, w, b.Patience)
	b.ended(t, b.s, w)
	exit := b.collect(t, b.s, w)
	if exit.Code != 0 || !strings.Contains(exit.LogTail, "asked to stop") {
		t.Errorf("got code %d, log %q; want 0 and a worker that heard SIGTERM", exit.Code, exit.LogTail)
	}
}

func stopKillsAfterGrace(t *testing.T, b *bench) {
	w := b.create(t, b.s, spec("a", "stubborn"))
	b.started(t, w)
	b.stop(t, b.s, w, 200*time.Millisecond)
	b.ended(t, b.s, w)
	exit := b.collect(t, b.s, w)
	if exit.Code != 137 || exit.Detail == "" {
		t.Errorf("got code %d, detail %q; want 137 and words", exit.Code, exit.Detail)
	}
}

func stopOfAnAdoptedWorker(t *testing.T, b *bench) {
	w := b.create(t, b.s, spec("a", "wait"))
	b.started(t, w)
	next := b.Open(t)
	b.stop(t, next, w, b.Patience)
	b.ended(t, next, w)
	if exit := b.collect(t, next, w); exit.Code != 0 {
		t.Errorf("exit code: got %d (%s), want 0", exit.Code, exit.Detail)
	}
}

func stopTwiceAndOfTheGone(t *testing.T, b *bench) {
	w := b.create(t, b.s, spec("a", "wait"))
	b.started(t, w)
	for range 2 {
		b.stop(t, b.s, w, b.Patience)
	}
	b.ended(t, b.s, w)
	b.remove(t, b.s, w)
	b.stop(t, b.s, w, b.Patience)
}

func collectTellsCodeAndTail(t *testing.T, b *bench) {
	before := time.Now().Add(-time.Minute)
	w := b.create(t, b.s, spec("a", "exit 3"))
	b.ended(t, b.s, w)
	exit := b.collect(t, b.s, w)
	if exit.Code != 3 || exit.Detail != "" {
		t.Errorf("got code %d, detail %q; want 3 and no detail", exit.Code, exit.Detail)
	}
	if !strings.Contains(exit.LogTail, "to stdout") || !strings.Contains(exit.LogTail, "to stderr") {
		t.Errorf("log tail %q lacks stdout or stderr", exit.LogTail)
	}
	if exit.EndedAt.Before(before) || exit.EndedAt.After(time.Now().Add(time.Minute)) {
		t.Errorf("ended at %v: want now", exit.EndedAt)
	}
}

func collectTellsOfAKill(t *testing.T, b *bench) {
	w := b.create(t, b.s, spec("a", "wait"))
	b.started(t, w)
	next := b.Open(t) // not the parent, if there is such a thing
	b.Kill(t, w)
	b.ended(t, next, w)
	exit := b.collect(t, next, w)
	if exit.Code != 137 || exit.Detail == "" {
		t.Errorf("got code %d, detail %q; want 137 and words", exit.Code, exit.Detail)
	}
}

func collectChangesNothing(t *testing.T, b *bench) {
	w := b.create(t, b.s, spec("a", "exit 1"))
	b.ended(t, b.s, w)
	first := b.collect(t, b.s, w)
	if diff := cmp.Diff(first, b.collect(t, b.s, w)); diff != "" {
		t.Errorf("second collect (-first +second):\n%s", diff)
	}
	if len(b.list(t, b.s)) != 1 {
		t.Error("the worker is gone after collect")
	}
}

func longLogsKeepTheirEnd(t *testing.T, b *bench) {
	w := b.create(t, b.s, spec("a", "flood"))
	b.ended(t, b.s, w)
	tail := b.collect(t, b.s, w).LogTail
	if len(tail) > 64<<10 || !strings.Contains(tail, "flood is over") {
		t.Errorf("tail of %d bytes, ends with %q: want at most 64 KiB, with the last line", len(tail), tail[max(0, len(tail)-40):])
	}
}

func removeForgets(t *testing.T, b *bench) {
	w := b.create(t, b.s, spec("a", "exit 0"))
	b.ended(t, b.s, w)
	for range 2 {
		b.remove(t, b.s, w)
	}
	if got := b.list(t, b.s); len(got) != 0 {
		t.Errorf("after remove: list has %+v", got)
	}
}

func removeSparesTheRunning(t *testing.T, b *bench) {
	w := b.create(t, b.s, spec("a", "wait"))
	b.started(t, w)
	if err := b.s.Remove(t.Context(), w.ID); err == nil {
		t.Error("remove of a running worker: no error")
	}
	if got := b.list(t, b.s); len(got) != 1 || !got[0].Running {
		t.Errorf("after remove: %+v, want the worker running", got)
	}
}

func environmentIsOnlyWhatWasGiven(t *testing.T, b *bench) {
	s := spec("a", "env")
	s.Env["GMAPS_LOG_LEVEL"] = "debug info"
	s.Secrets = map[string]string{"GMAPS_WORKER_TOKEN": "t0ken with spaces=and 'quotes'", "GMAPS_RABBITMQ_URL": "amqp://u:p%40ss@h/v"}
	s.Args = []string{"-worker", "two words", "$HOME", ""}
	w := b.create(t, b.s, s)
	b.ended(t, b.s, w)
	tail := b.collect(t, b.s, w).LogTail
	for _, want := range []string{
		`GMAPS_LOG_LEVEL=debug info`,
		`GMAPS_WORKER_TOKEN=t0ken with spaces=and 'quotes'`,
		`GMAPS_RABBITMQ_URL=amqp://u:p%40ss@h/v`,
		`args ["-worker" "two words" "$HOME" ""]`,
	} {
		if !strings.Contains(tail, want) {
			t.Errorf("the worker does not see %s; it prints:\n%s", want, tail)
		}
	}
	if strings.Contains(tail, ManagerOnly) {
		t.Errorf("%s of the manager reached the worker", ManagerOnly)
	}
}

func brokenSaysTheMend(t *testing.T, b *bench) {
	s := b.Broken(t)
	_, create := s.Create(t.Context(), spec("a", "wait"))
	for op, err := range map[string]error{"create": create, "check": s.Check(t.Context())} {
		var refused *spawner.Error
		if !errors.As(err, &refused) || refused.Mend == "" || refused.Cause == "" || refused.Op != op {
			t.Errorf("%s: got %#v, want a *spawner.Error with op, cause and mend", op, err)
		}
	}
	list, err := s.List(t.Context())
	if err != nil || len(list) != 0 {
		t.Errorf("after a refused create: list %+v, %v; want nothing", list, err)
	}
}

func checkPasses(t *testing.T, b *bench) {
	if err := b.s.Check(t.Context()); err != nil {
		t.Errorf("check: %v", err)
	}
	if b.s.Backend() == "" {
		t.Error("backend has no name")
	}
	l := b.s.Limits()
	if l.Creates <= 0 || l.JoinDeadline <= 0 || l.MaxWorkers < 0 {
		t.Errorf("limits %+v: want creates and a join deadline", l)
	}
}

// spec is a worker that does what Main knows as do.
func spec(id, do string) spawner.Spec {
	return spawner.Spec{
		Name: "gmaps-worker-" + id, SpawnID: id, JobID: "job-" + id, Priority: 5,
		Env: map[string]string{EnvDo: do}, Args: []string{"-worker"},
	}
}

func (b *bench) create(t *testing.T, s spawner.Spawner, sp spawner.Spec) spawner.Worker {
	t.Helper()
	w, err := s.Create(t.Context(), sp)
	if err != nil {
		t.Fatalf("create %s: %v", sp.Name, err)
	}
	return w
}

func (b *bench) list(t *testing.T, s spawner.Spawner) []spawner.Worker {
	t.Helper()
	list, err := s.List(t.Context())
	if err != nil {
		t.Fatalf("list: %v", err)
	}
	return list
}

func (b *bench) stop(t *testing.T, s spawner.Spawner, w spawner.Worker, grace time.Duration) {
	t.Helper()
	if err := s.Stop(t.Context(), w.ID, grace); err != nil {
		t.Fatalf("stop %s: %v", w.Name, err)
	}
}

func (b *bench) collect(t *testing.T, s spawner.Spawner, w spawner.Worker) spawner.Exit {
	t.Helper()
	exit, err := s.Collect(t.Context(), w.ID)
	if err != nil {
		t.Fatalf("collect %s: %v", w.Name, err)
	}
	return exit
}

func (b *bench) remove(t *testing.T, s spawner.Spawner, w spawner.Worker) {
	t.Helper()
	if err := s.Remove(t.Context(), w.ID); err != nil {
		t.Fatalf("remove %s: %v", w.Name, err)
	}
}

// ended waits until s lists the worker as ended.
func (b *bench) ended(t *testing.T, s spawner.Spawner, w spawner.Worker) {
	t.Helper()
	b.wait(t, w.Name+" ended", func() bool {
		for _, got := range b.list(t, s) {
			if got.ID == w.ID {
				return !got.Running
			}
		}
		return false
	})
}

// started waits until a worker that shall go on has said its first line: its signal handlers are in place.
func (b *bench) started(t *testing.T, w spawner.Worker) {
	t.Helper()
	b.wait(t, w.Name+" started", func() bool { return b.starts(t, w) > 0 })
}

func (b *bench) wait(t *testing.T, what string, done func() bool) {
	t.Helper()
	for began := time.Now(); !done(); {
		waited := time.Since(began)
		if waited > b.Patience {
			t.Fatalf("waited %v in vain: %s", b.Patience, what)
		}
		time.Sleep(min(max(waited/10, 10*time.Millisecond), 200*time.Millisecond)) // an engine that is asked all the time has none for its work
	}
}

// clear stops and removes all that a test left behind, and fails it if something stays.
func (b *bench) clear(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), b.Patience)
	defer cancel()
	list, err := b.s.List(ctx)
	for _, w := range list {
		err = errors.Join(err, b.s.Stop(ctx, w.ID, 0), b.s.Remove(ctx, w.ID))
	}
	if err != nil {
		t.Errorf("clear: %v", err)
	}
	if list, err = b.s.List(ctx); err != nil || len(list) != 0 {
		t.Errorf("left behind: %+v, %v", list, err)
	}
}

// wantOneStart fails unless the worker's program was started once.
func (b *bench) wantOneStart(t *testing.T, w spawner.Worker) {
	t.Helper()
	if got := b.starts(t, w); got != 1 {
		t.Errorf("%s was started %d times, want once", w.Name, got)
	}
}

func (b *bench) starts(t *testing.T, w spawner.Worker) int {
	t.Helper()
	log, err := b.Log(w)
	if err != nil {
		t.Fatalf("log of %s: %v", w.Name, err)
	}
	return strings.Count(log, saysStarted)
}
