package manager

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strconv"
	"strings"

	"golang.org/x/sync/errgroup"

	"gmaps-scraper/job"
	"gmaps-scraper/spawner"
	"gmaps-scraper/store"
)

// begin starts the worker of a pending row. All that one tick begins are of one generation, however soon the first of them fails.
func (r *reconciler) begin(ctx context.Context, row job.Spawn, generation int) {
	r.watch(row, r.now()).generation = generation // a row that waited out a backoff is a try of today
	r.do(ctx, createKey(row.ID), func(ctx context.Context) error { return r.create(ctx, row, generation) })
}

func (r *reconciler) create(ctx context.Context, row job.Spawn, generation int) error {
	j, err := r.store.JobHead(ctx, row.JobID)
	if err != nil {
		return fmt.Errorf("read job of spawn %s: %w", row.ID, err)
	}
	if j.State == job.Paused || j.State.Terminal() {
		return nil // the next tick ends the row
	}
	bounded, cancel := context.WithTimeout(ctx, createDeadline)
	defer cancel()
	var w spawner.Worker
	reach, err := r.cfg.Reach(bounded)
	if err == nil {
		r.reached.Store(&reach.ManagerURL)
		w, err = r.spawner.Create(bounded, r.spec(row, j, reach))
	}
	if err == nil {
		r.log.InfoContext(ctx, "worker started", "spawn", row.ID, "job", row.JobID)
		if err := r.store.SpawnStarted(ctx, row.ID, string(w.ID)); err != nil {
			return fmt.Errorf("record start of %s: %w", row.Name(), err)
		}
		return nil
	}
	if ctx.Err() != nil {
		return nil // we are stopping: the next Manager finds the row, and the worker if there is one
	}
	var refused *spawner.Error
	if !errors.As(err, &refused) || errors.Is(err, context.DeadlineExceeded) {
		// Nobody knows whether there is a worker now. The row stays: it is adopted, or created again under the same name.
		r.failed(ctx, generation, "timeout", fmt.Sprintf("backend %s did not finish a create: %v", r.backend, err))
		return nil
	}
	r.failed(ctx, generation, refused.Cause, refused.Error())
	if err := r.store.SpawnEnded(ctx, row.ID, store.SpawnEnd{Outcome: job.CreateError, Reason: refused.Error()}); err != nil {
		return fmt.Errorf("record refusal of %s: %w", row.Name(), err)
	}
	r.metrics.ended.WithLabelValues(string(job.CreateError)).Inc()
	return nil
}

// spec is what the worker of a row is told.
func (r *reconciler) spec(row job.Spawn, j job.Job, reach Reach) spawner.Spec {
	env := maps.Clone(reach.Env)
	if env == nil {
		env = make(map[string]string)
	}
	maps.Copy(env, map[string]string{
		"GMAPS_MANAGER_URL": reach.ManagerURL,
		"GMAPS_SPAWN_ID":    string(row.ID),
		"GMAPS_CONCURRENCY": strconv.Itoa(r.cfg.Concurrency),
		"JOB_ID":            string(row.JobID),
		"JOB_PRIORITY":      strconv.Itoa(j.Spec.Priority),
	})
	secrets := maps.Clone(reach.Secrets)
	if secrets == nil {
		secrets = make(map[string]string)
	}
	secrets["GMAPS_WORKER_TOKEN"] = r.cfg.Token(row.ID)
	return spawner.Spec{
		Name: row.Name(), SpawnID: string(row.ID), JobID: string(row.JobID), Priority: j.Spec.Priority,
		Env: env, Secrets: secrets, Args: append([]string{"-worker"}, r.cfg.Args...),
	}
}

// bury records how a worker ended, and only then removes its remains.
func (r *reconciler) bury(ctx context.Context, row job.Spawn, w spawner.Worker, seen watch) {
	r.do(ctx, endKey(row.ID), func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, endDeadline)
		defer cancel()
		seen.ended = true
		end, err := r.evidence(ctx, w)
		if err != nil && !errors.Is(err, errors.ErrUnsupported) && seen.collects < maxCollects {
			return err
		}
		switch {
		case seen.verdict != nil:
			end = judged(*seen.verdict, end)
		case row.State == job.SpawnStopping:
			end.Outcome, end.GaveBack = job.Stopped, true
		default:
			end.Outcome = job.Exited
			end.GaveBack = end.ExitCode != nil && *end.ExitCode == 0
		}
		if err := r.record(ctx, row, seen, end); err != nil {
			return err
		}
		return r.remove(ctx, w)
	})
}

// retire stops a worker that runs, and buries it with a verdict that is known before.
func (r *reconciler) retire(ctx context.Context, row job.Spawn, w spawner.Worker, end store.SpawnEnd) {
	r.watches[row.ID].verdict = &end
	seen := *r.watches[row.ID]
	r.do(ctx, endKey(row.ID), func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, endDeadline)
		defer cancel()
		return r.retireNow(ctx, row, w, seen, end)
	})
}

func (r *reconciler) retireNow(ctx context.Context, row job.Spawn, w spawner.Worker, seen watch, end store.SpawnEnd) error {
	if row.State != job.SpawnStopping {
		if err := r.store.SpawnStopping(ctx, row.ID, end.Reason); err != nil {
			return fmt.Errorf("record stop of %s: %w", row.Name(), err)
		}
	}
	err := r.spawner.Stop(ctx, w.ID, stopGrace)
	if errors.Is(err, errors.ErrUnsupported) && end.Outcome == job.Stopped && row.State != job.SpawnStopping {
		return nil // its next call is refused, and it ends; silence will tell
	}
	if err != nil && !errors.Is(err, errors.ErrUnsupported) {
		return fmt.Errorf("stop %s: %w", row.Name(), err)
	}
	stopped := err == nil
	found, err := r.evidence(ctx, w)
	switch {
	case err == nil:
		end = judged(end, found)
	case stopped && !errors.Is(err, errors.ErrUnsupported):
		return err // it is buried at the next look, with what can be read then
	}
	if err := r.record(ctx, row, seen, end); err != nil {
		return err
	}
	return r.remove(ctx, w)
}

// judged is the end of a worker that we stopped: our verdict, with what the backend found.
func judged(verdict, found store.SpawnEnd) store.SpawnEnd {
	found.Outcome, found.GaveBack = verdict.Outcome, verdict.GaveBack
	if verdict.Outcome != job.NeverLeased || found.ExitCode != nil || found.Reason == "" { // one that never ran could not speak: the backend knows why
		found.Reason = verdict.Reason // why it was stopped says more than how it took that
	}
	return found
}

// evidence is what the backend can tell of an ended worker.
func (r *reconciler) evidence(ctx context.Context, w spawner.Worker) (store.SpawnEnd, error) {
	exit, err := r.spawner.Collect(ctx, w.ID)
	if err != nil {
		return store.SpawnEnd{Reason: fmt.Sprintf("its exit code and log could not be read: %v", err)}, fmt.Errorf("collect %s: %w", w.Name, err)
	}
	end := store.SpawnEnd{Reason: exit.Detail, LogTail: exit.LogTail, CostUSD: exit.CostUSD}
	if exit.Code >= 0 {
		end.ExitCode = &exit.Code
	}
	return end, nil
}

// record ends a spawn's row, and tells the breaker of a start that led to nothing.
func (r *reconciler) record(ctx context.Context, row job.Spawn, seen watch, end store.SpawnEnd) error {
	fresh, err := r.store.Spawn(ctx, row.ID)
	if errors.Is(err, store.ErrNotFound) {
		return nil // its job was deleted
	}
	if err != nil {
		return fmt.Errorf("read spawn %s: %w", row.ID, err)
	}
	if fresh.State == job.SpawnEnded {
		return nil
	}
	failure := ""
	switch {
	case askedForWork(fresh):
		r.proved(seen.generation)
	case !fresh.JoinedAt.IsZero() && (end.Outcome != job.Exited || end.GaveBack):
		// It had no time to ask, or nothing to ask for: that says nothing of its like.
	case end.Outcome == job.NeverLeased:
		failure = "never_joined"
	case end.Outcome == job.Vanished:
		failure = "vanished"
	case end.Outcome == job.Exited:
		failure = "exit"
		end.Reason = endedUnheard(end, fresh)
	}
	if !seen.ended {
		end.MayRunUntil = r.mayRun(fresh)
	}
	if end.CostUSD == 0 && !fresh.JoinedAt.IsZero() {
		end.CostUSD = r.spawner.Limits().USDPerSecond * max(0, fresh.SeenAt.Sub(fresh.JoinedAt).Seconds())
	}
	if err := r.store.SpawnEnded(ctx, row.ID, end); err != nil {
		return fmt.Errorf("record end of %s: %w", row.Name(), err)
	}
	if failure != "" {
		r.failed(ctx, seen.generation, failure, end.Reason)
	}
	r.metrics.ended.WithLabelValues(string(end.Outcome)).Inc()
	code := -1
	if end.ExitCode != nil {
		code = *end.ExitCode
	}
	r.log.InfoContext(ctx, "worker ended", "spawn", row.ID, "job", row.JobID, "outcome", end.Outcome, "code", code, "reason", end.Reason)
	return nil
}

// endedUnheard says what is known of a worker that ended before it asked for work: its last words are the best hint to the mend.
func endedUnheard(end store.SpawnEnd, row job.Spawn) string {
	s := "worker ended before it spoke"
	if !row.JoinedAt.IsZero() {
		s = "worker ended before it asked for work"
	}
	if end.ExitCode != nil {
		s += ", exit code " + strconv.Itoa(*end.ExitCode)
	}
	if end.Reason != "" {
		s += ": " + end.Reason
	}
	lines := strings.Split(strings.TrimSpace(end.LogTail), "\n")
	if last := strings.TrimSpace(lines[len(lines)-1]); last != "" {
		if r := []rune(last); len(r) > 200 {
			last = string(r[:200]) + "…"
		}
		s += ": " + last
	}
	return s
}

// remove deletes an ended worker's remains, once they are stored.
func (r *reconciler) remove(ctx context.Context, w spawner.Worker) error {
	if !r.cfg.AutoRemove {
		return nil
	}
	if err := r.spawner.Remove(ctx, w.ID); err != nil && !errors.Is(err, errors.ErrUnsupported) {
		return fmt.Errorf("remove %s: %w", w.Name, err)
	}
	return nil
}

// failed tells the breaker of a start that failed. No task is charged for it.
func (r *reconciler) failed(ctx context.Context, generation int, cause, reason string) {
	if cause == "" {
		cause = "other"
	}
	r.count(cause)
	if r.breaker.fail(generation, r.now(), reason) {
		r.log.WarnContext(ctx, "breaker opened", "cause", cause, "reason", reason)
	}
}

// proved tells the breaker that a started worker has asked for work.
func (r *reconciler) proved(generation int) {
	if r.breaker.succeed(generation) {
		r.log.Info("breaker closed")
	}
}

// drain stops all workers of this backend: they hand back what they have, and nothing is left.
func (r *reconciler) drain(ctx context.Context) error {
	workers, listed, err := r.list(ctx)
	if err != nil || !listed {
		return err
	}
	rows, err := r.rows(ctx, r.backend)
	if err != nil {
		return err
	}
	now := r.now()
	own, strangers := pair(rows, workers)
	var g errgroup.Group
	for _, row := range rows {
		seen := *r.watch(row, now)
		end := store.SpawnEnd{Outcome: job.Stopped, Reason: "the Manager was stopped", GaveBack: true}
		w, there := own[row.ID]
		g.Go(func() error {
			if !there {
				return r.record(ctx, row, seen, end)
			}
			return r.retireNow(ctx, row, w, seen, end)
		})
	}
	for _, w := range strangers {
		g.Go(func() error { return errors.Join(r.spawner.Stop(ctx, w.ID, stopGrace), r.remove(ctx, w)) })
	}
	if err := g.Wait(); err != nil {
		return fmt.Errorf("stop workers: %w", err)
	}
	return nil
}
