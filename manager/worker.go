package manager

import (
	"context"
	"errors"
	"net/http"
	"sync"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"gmaps-scraper/api"
	"gmaps-scraper/job"
	"gmaps-scraper/store"
)

const (
	// maxWait is the longest poll for a lease.
	maxWait = 30 * time.Second
	// pollTick is how often a poll looks without having been woken: a lost ring costs so much.
	pollTick = 2 * time.Second
	// backoffWorthWaiting is how long a spawned worker stays for a task that waits for its backoff; for a later one it is spawned again.
	backoffWorthWaiting = 10 * time.Second
	// askAgain is the pause between two polls, and while the Manager stops.
	askAgain         = 100 * time.Millisecond
	askAgainStopping = time.Second
	// touchEvery bounds how often a worker's calls are written down.
	touchEvery = 5 * time.Second
)

func (m *Manager) registerWorker(a huma.API) {
	op := func(id, path, summary string) huma.Operation {
		o := operation("worker", id, http.MethodPost, path, summary)
		o.Security = []map[string][]string{{"worker": {}}}
		return o
	}
	handle(m, a, op("joinWorker", api.PathWorkerJoin, "Exchange a spawn's token, or an API key, for a session"), m.join)

	lease := op("lease", api.PathLeases, "Ask for tasks, and wait for some")
	lease.Metadata[metaTime] = pollTime
	handle(m, a, lease, m.lease)

	handle(m, a, op("renewLease", api.PathRenew, "Keep a lease alive, and learn what to do with it"), m.renew)

	submit := op("submitResults", api.PathSubmit, "Hand in places and the standing of tasks, all or nothing; may be gzipped")
	submit.Metadata[metaBody] = int64(api.MaxSubmitBytes)
	submit.SkipValidateBody = true // decoding says what matters, at half the cost
	handle(m, a, submit, m.submit)

	back := op("handBack", api.PathHandBack, "Open a lease's remaining tasks again")
	back.DefaultStatus = http.StatusNoContent
	handle(m, a, back, m.handBack)

	leave := op("leave", api.PathLeave, "Say goodbye: for a worker whose backend cannot list it")
	leave.DefaultStatus = http.StatusNoContent
	handle(m, a, leave, m.leave)
}

type joinInput struct{ Body api.Join }

type joinAnswer struct{ Body api.Joined }

func (m *Manager) join(ctx context.Context, in *joinInput) (*joinAnswer, error) {
	s, err := m.joinSpawn(ctx, callerOf(ctx), in.Body)
	if err != nil {
		return nil, err
	}
	m.log.InfoContext(ctx, "worker joined", "spawn", s.ID, "job", s.JobID, "backend", s.Backend, "version", in.Body.Version)
	return &joinAnswer{api.Joined{
		Session: m.auth.sign.session(s.ID), SpawnID: s.ID, JobID: s.JobID, LeaseTTL: job.Duration(m.cfg.LeaseTTL),
	}}, nil
}

func (m *Manager) joinSpawn(ctx context.Context, c caller, j api.Join) (job.Spawn, error) {
	switch {
	case !plainText(j.Nonce):
		return job.Spawn{}, invalid("body.nonce", "holds a NUL or another control character")
	case c.kind == user && j.SpawnID == "":
		return m.store.JoinStanding(ctx, j.Nonce, j.Concurrency)
	case c.kind == user:
		return job.Spawn{}, newFault(http.StatusForbidden, "", "a spawned worker joins with its own token")
	case !m.auth.sign.isSpawnToken(c.token, j.SpawnID):
		return job.Spawn{}, newFault(http.StatusForbidden, "", "the token is not that of this spawn")
	}
	before, err := m.store.Spawn(ctx, j.SpawnID)
	if errors.Is(err, store.ErrNotFound) {
		return job.Spawn{}, store.ErrUnknownSpawn
	}
	if err != nil {
		return job.Spawn{}, err
	}
	s, err := m.store.Join(ctx, j.SpawnID, j.Nonce)
	if err == nil && before.JoinedAt.IsZero() {
		m.metrics.firstByte.WithLabelValues(s.Backend).Observe(s.JoinedAt.Sub(s.CreatedAt).Seconds())
	}
	return s, err
}

type leaseInput struct{ Body api.LeaseRequest }

type leaseAnswer struct{ Body api.LeaseAnswer }

func (m *Manager) lease(ctx context.Context, in *leaseInput) (*leaseAnswer, error) {
	spawn := callerOf(ctx).spawn
	if err := m.touch(ctx, spawn); err != nil {
		return nil, err
	}
	wait := min(max(time.Duration(in.Body.Wait), 0), maxWait)
	over := time.NewTimer(wait)
	defer over.Stop()
	for {
		ring := m.bell.Next() // before the look, so that no ring falls between
		if m.isStopping() {
			return retryIn(askAgainStopping), nil
		}
		l, err := m.store.Grant(ctx, spawn, in.Body.Max, m.cfg.LeaseTTL)
		if err == nil && ctx.Err() != nil { // the worker hung up meanwhile: nobody would work on this lease
			return nil, errors.Join(context.Cause(ctx), m.store.HandBack(context.WithoutCancel(ctx), l.Fence, nil))
		}
		if err == nil {
			return &leaseAnswer{api.LeaseAnswer{Lease: &l, TTL: job.Duration(m.cfg.LeaseTTL)}}, nil
		}
		if !errors.Is(err, store.ErrNoWork) {
			return nil, err
		}
		due, some, err := m.store.NextOpen(ctx, spawn)
		if err != nil {
			return nil, err
		}
		s, err := m.store.Spawn(ctx, spawn)
		if err != nil {
			return nil, err
		}
		if s.JobID != "" {
			return stayOrGo(due, some), nil
		}
		next := pollTick
		if some {
			next = min(next, max(due, askAgain))
		}
		if again := m.waitForWork(ctx, ring, next, over.C); !again {
			return retryIn(askAgain), nil
		}
	}
}

// stayOrGo is what a spawned worker does when its job has nothing open now. It holds no slot to wait: another is spawned when there is work.
func stayOrGo(due time.Duration, some bool) *leaseAnswer {
	if !some || due > backoffWorthWaiting {
		return &leaseAnswer{api.LeaseAnswer{Exit: true}}
	}
	return retryIn(max(due, askAgain))
}

func retryIn(d time.Duration) *leaseAnswer {
	return &leaseAnswer{api.LeaseAnswer{RetryIn: job.Duration(d.Round(time.Millisecond))}}
}

// waitForWork waits for next, or until it may be worth to look again sooner; false when the poll is over.
func (m *Manager) waitForWork(ctx context.Context, ring <-chan struct{}, next time.Duration, over <-chan time.Time) bool {
	tick := time.NewTimer(next)
	defer tick.Stop()
	select {
	case <-ring:
		return true
	case <-tick.C:
		return true
	case <-m.stopping:
		return true // the next look says so
	case <-over:
		return false
	case <-ctx.Done():
		return false
	}
}

func (m *Manager) isStopping() bool {
	select {
	case <-m.stopping:
		return true
	default:
		return false
	}
}

// FencePath is the input of operations under a lease. It is exported for the reason of JobPath.
type FencePath struct {
	Fence int64 `path:"fence" minimum:"1" doc:"the lease's fence"`
}

type orderAnswer struct{ Body api.OrderAnswer }

func (m *Manager) renew(ctx context.Context, in *FencePath) (*orderAnswer, error) {
	f, err := m.own(ctx, in.Fence)
	if err != nil {
		return nil, err
	}
	order, err := m.store.Renew(ctx, f, m.cfg.LeaseTTL)
	if err != nil {
		return nil, err
	}
	return &orderAnswer{api.OrderAnswer{Order: order}}, nil
}

type submitInput struct {
	FencePath
	Body job.Batch
}

type ackAnswer struct{ Body job.Ack }

func (m *Manager) submit(ctx context.Context, in *submitInput) (*ackAnswer, error) {
	f, err := m.own(ctx, in.Fence)
	if err != nil {
		return nil, err
	}
	ack, err := m.store.Submit(ctx, f, in.Body)
	if err != nil {
		return nil, err
	}
	m.metrics.results.Add(float64(ack.New))
	m.metrics.duplicates.Add(float64(ack.Duplicates))
	// A cursor that moves changes nothing for others; a task that ends may open others, free this worker or end the job.
	for _, t := range in.Body.Tasks {
		if t.Done || t.Error != "" {
			m.ring(ctx, "tasks ended", "")
			return &ackAnswer{ack}, nil
		}
	}
	if ack.Order != job.Continue {
		m.ring(ctx, "job stops", "")
	}
	return &ackAnswer{ack}, nil
}

type handBackInput struct {
	FencePath
	Body api.HandBack
}

func (m *Manager) handBack(ctx context.Context, in *handBackInput) (*struct{}, error) {
	f, err := m.own(ctx, in.Fence)
	if errors.Is(err, store.ErrStaleFence) {
		return nil, nil // it has ended: nothing is left to hand back
	}
	if err != nil {
		return nil, err
	}
	if err := m.store.HandBack(ctx, f, in.Body.Steps); err != nil {
		return nil, err
	}
	m.ring(ctx, "tasks handed back", "")
	return nil, nil
}

type leaveInput struct{ Body api.Leave }

// leave ends the spawn of a worker that says goodbye, unless its backend is going to tell of its end, and more of it.
func (m *Manager) leave(ctx context.Context, in *leaveInput) (*struct{}, error) {
	if !plainText(in.Body.Reason) {
		return nil, invalid("body.reason", "holds a NUL or another control character")
	}
	row, err := m.store.Spawn(ctx, callerOf(ctx).spawn)
	switch {
	case errors.Is(err, store.ErrNotFound), err == nil && !row.Live() && row.MayRunUntil.IsZero():
		return nil, store.ErrUnknownSpawn
	case err != nil:
		return nil, err
	case !row.Live(): // it was given up, and is heard of after all: its place is free
		if err := m.store.SpawnEnded(ctx, row.ID, store.SpawnEnd{Outcome: row.Outcome}); err != nil {
			return nil, err
		}
		m.ring(ctx, "worker left late", row.JobID)
		return nil, nil
	}
	end, tells := m.rec.goodbye(ctx, row, in.Body)
	if tells {
		return nil, nil
	}
	if err := m.store.SpawnEnded(ctx, row.ID, end); err != nil {
		return nil, err
	}
	m.rec.metrics.ended.WithLabelValues(string(end.Outcome)).Inc()
	m.log.InfoContext(ctx, "worker left", "spawn", row.ID, "job", row.JobID, "code", in.Body.ExitCode, "ran", time.Duration(in.Body.Ran), "reason", end.Reason)
	m.ring(ctx, "worker left", row.JobID)
	return nil, nil
}

// own returns the fence if its lease was granted to the worker that calls, and notes that this worker lives.
func (m *Manager) own(ctx context.Context, fence int64) (job.Fence, error) {
	spawn := callerOf(ctx).spawn
	owner, known := m.owners.of(job.Fence(fence))
	if !known {
		var err error
		if owner, err = m.store.LeaseOwner(ctx, job.Fence(fence)); err != nil {
			return 0, err
		}
		m.owners.put(job.Fence(fence), owner)
	}
	if owner != spawn {
		return 0, newFault(http.StatusForbidden, "", "this lease was granted to another worker")
	}
	// A worker whose spawn has ended learns it from its fence, which then is stale.
	if err := m.touch(ctx, spawn); err != nil && !errors.Is(err, store.ErrUnknownSpawn) {
		return 0, err
	}
	return job.Fence(fence), nil
}

// owners remembers whose leases are, which never changes, to spare the store. Whether a lease lives only the store knows.
type owners struct {
	mu    sync.Mutex
	spawn map[job.Fence]job.SpawnID
}

const maxOwners = 4096

func (o *owners) of(f job.Fence) (s job.SpawnID, known bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	s, known = o.spawn[f]
	return s, known
}

func (o *owners) put(f job.Fence, s job.SpawnID) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.spawn == nil || len(o.spawn) >= maxOwners {
		o.spawn = make(map[job.Fence]job.SpawnID)
	}
	o.spawn[f] = s
}

// touch notes that a worker lives, if that was not done just now.
func (m *Manager) touch(ctx context.Context, s job.SpawnID) error {
	if !m.touches.due(s, time.Now()) {
		return nil
	}
	if err := m.store.Touch(ctx, s); err != nil {
		m.touches.forget(s)
		return err
	}
	return nil
}

// touches remembers when spawns were last touched, to spare the store. To forget one costs one write.
type touches struct {
	mu   sync.Mutex
	last map[job.SpawnID]time.Time
}

const maxTouches = 4096

func newTouches() *touches { return &touches{last: make(map[job.SpawnID]time.Time)} }

func (t *touches) due(s job.SpawnID, now time.Time) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if now.Sub(t.last[s]) < touchEvery {
		return false
	}
	if len(t.last) >= maxTouches {
		for id, at := range t.last {
			if now.Sub(at) >= touchEvery {
				delete(t.last, id)
			}
		}
	}
	t.last[s] = now
	return true
}

func (t *touches) forget(s job.SpawnID) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.last, s)
}
