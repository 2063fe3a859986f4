package manager

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	"gmaps-scraper/job"
	"gmaps-scraper/store"
)

func reconcilerStore(t *testing.T, now func() time.Time) store.Store {
	t.Helper()
	return &rowStore{now: now, jobs: map[job.ID]*job.Job{}, spawns: map[job.SpawnID]*job.Spawn{}, events: map[job.ID][]string{}}
}

// rowStore keeps the rows that a reconciler touches, by the test's clock. Any other method panics.
type rowStore struct {
	store.Store
	now func() time.Time

	mu      sync.Mutex
	jobs    map[job.ID]*job.Job
	order   []job.ID
	spawns  map[job.SpawnID]*job.Spawn
	ends    map[job.SpawnID]store.SpawnEnd
	events  map[job.ID][]string
	peak    int      // most live spawns at any time
	planned []job.ID // jobs of planned spawns, in order
	expired int      // what Expire answers, once
	sweeps  []string
	fail    error // of every write
}

func (s *rowStore) CreateJob(_ context.Context, n store.NewJob) (job.Job, bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	j := &job.Job{ID: n.ID, Spec: n.Spec, State: job.Pending, CreatedAt: s.now(), Counts: job.Counts{Tasks: len(n.Tasks), Open: len(n.Tasks)}}
	s.jobs[j.ID] = j
	s.order = append(s.order, j.ID)
	return *j, true, nil
}

func (s *rowStore) Job(_ context.Context, id job.ID) (job.Job, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if j := s.jobs[id]; j != nil {
		return *j, nil
	}
	return job.Job{}, store.ErrNotFound
}

// setState is what users and workers bring about.
func (s *rowStore) setState(id job.ID, state job.State) {
	s.mu.Lock()
	defer s.mu.Unlock()
	j := s.jobs[id]
	j.State = state
	if state.Terminal() {
		j.Counts.Done, j.Counts.Open = j.Counts.Done+j.Counts.Open, 0
	}
}

func (s *rowStore) JobHead(ctx context.Context, id job.ID) (job.Job, error) { return s.Job(ctx, id) }

func (s *rowStore) JobStates(_ context.Context, ids ...job.ID) (map[job.ID]job.State, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	states := make(map[job.ID]job.State)
	for _, id := range ids {
		if j := s.jobs[id]; j != nil {
			states[id] = j.State
		}
	}
	return states, nil
}

func (s *rowStore) PlanSpawns(_ context.Context, p store.Plan) ([]job.Spawn, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fail != nil {
		return nil, s.fail
	}
	live, per := 0, map[job.ID]int{}
	for _, row := range s.spawns {
		if row.Backend == p.Backend && (row.Live() || row.MayRunUntil.After(s.now())) {
			live++
		}
		if row.Backend == p.Backend && row.Live() {
			per[row.JobID]++
		}
	}
	order := slices.Clone(s.order)
	slices.SortStableFunc(order, func(a, b job.ID) int { return cmp.Compare(s.jobs[b].Spec.Priority, s.jobs[a].Spec.Priority) })
	var planned []job.Spawn
	for _, id := range order {
		j := s.jobs[id]
		if j.State.Terminal() || j.State == job.Paused {
			continue
		}
		step := p.Concurrency * 8
		for want := min((j.Counts.Open+step-1)/step, max(1, j.Spec.MaxWorkers)); per[id] < want; per[id]++ {
			if p.Cap > 0 && live >= p.Cap || p.New > 0 && len(planned) >= p.New {
				break
			}
			row := job.Spawn{ID: job.NewSpawnID(), JobID: id, Backend: p.Backend, State: job.SpawnPending, Concurrency: p.Concurrency, CreatedAt: s.now()}
			s.spawns[row.ID] = &row
			s.planned = append(s.planned, id)
			planned = append(planned, row)
			live++
		}
	}
	s.peak = max(s.peak, live)
	return planned, nil
}

func (s *rowStore) JoinStanding(_ context.Context, nonce string, concurrency int) (job.Spawn, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	row := job.Spawn{ID: job.NewSpawnID(), Backend: standing, State: job.SpawnRunning, Nonce: nonce, Concurrency: concurrency, CreatedAt: s.now(), JoinedAt: s.now(), SeenAt: s.now()}
	s.spawns[row.ID] = &row
	return row, nil
}

func (s *rowStore) live(id job.SpawnID, change func(*job.Spawn)) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fail != nil {
		return s.fail
	}
	row := s.spawns[id]
	if row == nil || !row.Live() {
		return store.ErrUnknownSpawn
	}
	change(row)
	return nil
}

func (s *rowStore) Join(_ context.Context, id job.SpawnID, nonce string) (row job.Spawn, err error) {
	err = s.live(id, func(r *job.Spawn) {
		r.State, r.Nonce, r.JoinedAt, r.SeenAt = job.SpawnRunning, nonce, s.now(), s.now()
		row = *r
	})
	return row, err
}

func (s *rowStore) Touch(_ context.Context, id job.SpawnID) error {
	return s.live(id, func(r *job.Spawn) { r.SeenAt = s.now() })
}

func (s *rowStore) SpawnStarted(_ context.Context, id job.SpawnID, external string) error {
	return s.live(id, func(r *job.Spawn) {
		if r.State == job.SpawnPending {
			r.State, r.ExternalID, r.StartedAt = job.SpawnStarted, external, s.now()
		}
	})
}

func (s *rowStore) SpawnStopping(_ context.Context, id job.SpawnID, reason string) error {
	return s.live(id, func(r *job.Spawn) { r.State, r.Reason = job.SpawnStopping, reason })
}

func (s *rowStore) SpawnEnded(_ context.Context, id job.SpawnID, e store.SpawnEnd) error {
	err := s.live(id, func(r *job.Spawn) {
		r.State, r.Outcome, r.Reason, r.ExitCode, r.LogTail, r.EndedAt = job.SpawnEnded, e.Outcome, e.Reason, e.ExitCode, e.LogTail, s.now()
		r.MayRunUntil, r.CostUSD = e.MayRunUntil, e.CostUSD
		if s.ends == nil {
			s.ends = map[job.SpawnID]store.SpawnEnd{}
		}
		s.ends[id] = e
	})
	if errors.Is(err, store.ErrUnknownSpawn) {
		s.mu.Lock()
		defer s.mu.Unlock()
		if row := s.spawns[id]; row != nil { // it has ended, and its end is heard of late, or again
			if err = nil; e.MayRunUntil.IsZero() {
				row.MayRunUntil = time.Time{}
			}
		}
	}
	return err
}

func (s *rowStore) Spawn(_ context.Context, id job.SpawnID) (job.Spawn, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if row := s.spawns[id]; row != nil {
		return *row, nil
	}
	return job.Spawn{}, store.ErrNotFound
}

func (s *rowStore) Spawns(_ context.Context, f store.SpawnFilter) ([]job.Spawn, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var rows []job.Spawn
	for _, row := range s.spawns {
		if (f.JobID == "" || row.JobID == f.JobID) && (f.Backend == "" || row.Backend == f.Backend) && (!f.Live || row.Live()) && (!f.Counted || row.Live() || row.MayRunUntil.After(s.now())) && (f.Before == "" || row.ID < f.Before) {
			rows = append(rows, *row)
		}
	}
	slices.SortFunc(rows, func(a, b job.Spawn) int { return cmp.Compare(b.ID, a.ID) })
	return rows[:min(len(rows), f.Limit)], nil
}

func (s *rowStore) SetWaiting(_ context.Context, why string, jobs ...job.ID) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	served := map[job.ID]bool{}
	for _, row := range s.spawns {
		served[row.JobID] = served[row.JobID] || row.Live()
	}
	if len(jobs) == 0 {
		jobs = s.order
	}
	for _, id := range jobs {
		if j := s.jobs[id]; j.Waiting != why && (why == "" || !j.State.Terminal() && !served[id]) {
			j.Waiting = why
			s.events[id] = append(s.events[id], why)
		}
	}
	return nil
}

func (s *rowStore) Expire(context.Context) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fail != nil {
		return 0, s.fail
	}
	s.sweeps = append(s.sweeps, "expire")
	n := s.expired
	s.expired = 0
	return n, nil
}

func (s *rowStore) ExtendLeases(context.Context, time.Duration) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sweeps = append(s.sweeps, "extend")
	return s.fail
}

// rows returns the rowStore of a trial.
func (c *trial) rows() *rowStore { return c.store.(*rowStore) }

func (s *rowStore) set(change func(*rowStore)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change(s)
}
