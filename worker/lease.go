package worker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"gmaps-scraper/api"
	"gmaps-scraper/gmaps"
	"gmaps-scraper/job"
)

// lease is the run of the tasks of one lease: a fetch for each, one sender, one heartbeat.
type lease struct {
	w     *Worker
	lease job.Lease
	ttl   time.Duration
	log   *slog.Logger
	box   *outbox

	mu    sync.Mutex
	tasks map[job.TaskID]*standing
	stop  context.CancelCauseFunc // ends the fetches
	over  error                   // set: nothing more may be written, and why
}

// standing is how far the Manager has acknowledged a task.
type standing struct {
	cursor gmaps.Cursor
	ended  bool
	stop   context.CancelCauseFunc // ends its fetch
}

func newLease(w *Worker, l job.Lease, ttl time.Duration) *lease {
	log := w.log.With("job", l.JobID, "fence", l.Fence)
	onFull := func(err error) { log.Warn("spool took no more, fetching pauses when memory is full", "err", err) }
	r := &lease{
		w: w, lease: l, ttl: ttl, log: log, box: newOutbox(w.config, w.budget, onFull),
		tasks: make(map[job.TaskID]*standing, len(l.Tasks)),
	}
	for _, t := range l.Tasks {
		r.tasks[t.ID] = &standing{cursor: t.Cursor}
	}
	w.sums.add(func(s *Summary) { s.Leases++ })
	return r
}

// run ends when all tasks are over, handed back or no longer ours. Calls are made under calls; fetches end with fetching.
// An error means that this worker can do no work at all.
func (l *lease) run(calls, fetching context.Context) error {
	fetching, stop := context.WithCancelCause(fetching)
	defer stop(nil)
	beating, stopBeat := context.WithCancel(calls)
	defer stopBeat()
	l.stop = stop
	tasks := make([]context.Context, len(l.lease.Tasks))
	for i, t := range l.lease.Tasks {
		tasks[i], l.tasks[t.ID].stop = context.WithCancelCause(fetching)
	}

	var beat, fetches, send errgroup.Group
	for i, t := range l.lease.Tasks {
		fetches.Go(func() error {
			defer l.tasks[t.ID].stop(nil)
			defer l.w.slots.give(1)
			l.fetch(tasks[i], t)
			return nil
		})
	}
	beat.Go(func() error { l.beat(beating); return nil })
	send.Go(func() error {
		err := l.send(calls)
		if err != nil {
			stop(err)
		}
		return err
	})

	_ = fetches.Wait() // a fetch that fails is a step of its task
	l.box.close()
	err := send.Wait()
	l.box.drop()
	if err == nil || errors.Is(err, errSpool) {
		err = l.handBack(calls)
	}
	stopBeat()
	_ = beat.Wait()
	if errors.Is(err, errStale) || errors.Is(err, errCancelled) {
		l.lost(err)
		return nil
	}
	return err
}

// beat renews the lease until ctx ends, and passes the Manager's orders on.
func (l *lease) beat(ctx context.Context) {
	every := max(l.ttl/3, time.Millisecond)
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		call, cancel := context.WithTimeout(ctx, every) // a call that hangs must not stand in the way of the next
		answer, err := l.w.config.Source.Renew(call, l.lease.Fence)
		cancel()
		switch {
		case ctx.Err() != nil:
			return
		case err == nil:
			l.w.link.answered(time.Now())
			l.obey(answer.Order)
		case notOurs(err):
			l.end(errStale)
			return
		default:
			// The Manager extends leases after its own absence: only its word ends one.
			l.log.Debug("heartbeat was not answered", "err", err)
		}
	}
}

// notOurs says that nothing can be written under the lease any more: it or its spawn has ended, or the Manager no longer knows this
// worker, which then is told so when it asks for the next.
func notOurs(err error) bool { return api.IsStale(err) || api.IsGone(err) || api.IsUnauthorized(err) }

func (l *lease) obey(o job.Order) {
	switch o {
	case job.Drain:
		l.stop(errDraining)
	case job.Cancel:
		l.end(errCancelled)
	case job.Continue:
	}
}

// end stops the fetches at once and all writes after the one that is under way.
func (l *lease) end(why error) {
	l.mu.Lock()
	if l.over == nil {
		l.over = why
	}
	l.mu.Unlock()
	l.stop(why)
}

func (l *lease) ended() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.over
}

// errSpool ends a lease whose pages on disk cannot be read back: its tasks go on elsewhere from what was acknowledged.
var errSpool = errors.New("spool cannot be read")

// send submits what the fetches bring, in order, until they have ended and everything is acknowledged.
func (l *lease) send(ctx context.Context) error {
	for {
		pages, held, err := l.box.next(ctx)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err != nil {
			l.box.done(held)
			l.log.Error("results were lost from the spool, their tasks are handed back", "err", err)
			return fmt.Errorf("%w: %w", errSpool, err)
		}
		if len(pages) == 0 {
			return l.ended()
		}
		batch := compose(pages, l.taskEnded)
		if len(batch.Tasks) > 0 {
			err = l.submit(ctx, batch)
		}
		l.box.done(held)
		if err != nil {
			return err
		}
	}
}

// submit hands a batch in, in parts if it is too large, until it is acknowledged or refused for good.
func (l *lease) submit(ctx context.Context, b job.Batch) error {
	var ack job.Ack
	err := l.w.persist(ctx, "submit", func() (err error) {
		if over := l.ended(); over != nil {
			return over
		}
		ack, err = l.w.config.Source.Submit(ctx, l.lease.Fence, b)
		return err
	})
	switch {
	case err == nil:
		l.acknowledge(b, ack)
		l.mark(ctx, b.Places)
		return l.ended()
	case ctx.Err() != nil || errors.Is(err, errGaveUp):
		return err
	case l.ended() != nil:
		return l.ended() // the heartbeat learned it first: whatever this call was answered says nothing of the worker
	case notOurs(err):
		l.end(errStale)
		return errStale
	case api.IsTooLarge(err) && len(b.Places) > 0:
		return l.submitParts(ctx, b)
	default:
		return l.refuse(ctx, b, err)
	}
}

// submitParts halves a batch. The steps go with the last part: a cursor never runs ahead of its places.
func (l *lease) submitParts(ctx context.Context, b job.Batch) error {
	if n := len(b.Places); n > 1 {
		if err := l.submit(ctx, job.Batch{Places: b.Places[:n/2]}); err != nil {
			return err
		}
		return l.submit(ctx, job.Batch{Places: b.Places[n/2:], Tasks: b.Tasks})
	}
	p := &b.Places[0].Place
	switch {
	case len(p.ExtraReviews) > 0:
		p.ExtraReviews = p.ExtraReviews[:len(p.ExtraReviews)/2]
	case len(p.Reviews) > 0 || len(p.Images) > 0:
		p.Reviews, p.Images = nil, nil
	default:
		l.log.Error("place was left out: it is larger than the manager takes", "task", b.Places[0].TaskID, "place", p.DataID)
		b.Places = nil
		return l.submit(ctx, b)
	}
	l.log.Warn("reviews of a place were cut: it is larger than the manager takes", "task", b.Places[0].TaskID, "place", p.DataID, "left", len(p.ExtraReviews))
	return l.submit(ctx, b)
}

// refuse fails the tasks of a batch that the Manager does not take as it is. What it does not take even so ends the worker.
func (l *lease) refuse(ctx context.Context, b job.Batch, why error) error {
	if len(b.Places) == 0 {
		return fmt.Errorf("submit: %w", why)
	}
	l.log.Error("manager refused results", "places", len(b.Places), "err", why)
	failed := job.Batch{}
	seen := map[job.TaskID]bool{}
	add := func(id job.TaskID) {
		if s := l.tasks[id]; s != nil && !seen[id] {
			seen[id] = true
			s.stop(errRefused)
			failed.Tasks = append(failed.Tasks, job.TaskStep{TaskID: id, Cursor: s.cursor, Error: errorText(fmt.Errorf("%w: %w", errRefused, why))})
		}
	}
	for _, p := range b.Places {
		add(p.TaskID)
	}
	for _, s := range b.Tasks {
		add(s.TaskID)
	}
	return l.submit(ctx, failed)
}

func (l *lease) acknowledge(b job.Batch, ack job.Ack) {
	l.w.sums.acknowledged(b, ack)
	l.mu.Lock()
	for _, step := range b.Tasks {
		s := l.tasks[step.TaskID]
		s.ended = step.Done || step.Error != ""
		if step.Cursor != "" {
			s.cursor = step.Cursor
		}
	}
	l.mu.Unlock()
	l.obey(ack.Order)
}

// mark tells the other tasks and workers of the job what is stored. Only what is acknowledged may be marked: the worker that dies before
// leaves no mark behind that would hide a place.
func (l *lease) mark(ctx context.Context, places []job.Found) {
	if l.w.config.Seen == nil || len(places) == 0 {
		return
	}
	keys := make([]string, len(places))
	for i := range places {
		keys[i] = places[i].Place.Key()
	}
	l.w.config.Seen.Mark(ctx, string(l.lease.JobID), keys)
}

func (l *lease) taskEnded(id job.TaskID) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.tasks[id].ended
}

// handBack opens again what is not over, from the last acknowledged cursors.
func (l *lease) handBack(ctx context.Context) error {
	rest := l.rest()
	if len(rest) == 0 {
		return nil
	}
	err := l.w.persist(ctx, "hand back", func() error {
		if over := l.ended(); over != nil {
			return over
		}
		return l.w.config.Source.HandBack(ctx, l.lease.Fence, api.HandBack{Steps: rest})
	})
	switch {
	case err == nil:
		l.w.sums.add(func(s *Summary) { s.HandedBack += len(rest) })
		l.log.Info("tasks handed back", "tasks", len(rest))
	case notOurs(err):
		return errStale
	case ctx.Err() != nil || errors.Is(err, errGaveUp):
		return err
	case l.ended() != nil:
		return l.ended()
	default:
		return fmt.Errorf("hand back: %w", err)
	}
	return nil
}

// rest are the tasks that are not over.
func (l *lease) rest() []job.TaskStep {
	l.mu.Lock()
	defer l.mu.Unlock()
	var steps []job.TaskStep
	for _, t := range l.lease.Tasks {
		if s := l.tasks[t.ID]; !s.ended {
			steps = append(steps, job.TaskStep{TaskID: t.ID, Cursor: s.cursor})
		}
	}
	return steps
}

// lost counts the tasks that ended with their lease.
func (l *lease) lost(why error) {
	n := len(l.rest())
	if n == 0 {
		return
	}
	l.w.sums.add(func(s *Summary) { s.Lost += n })
	l.log.Info("lease ended before its tasks", "tasks", n, "why", why.Error())
}
