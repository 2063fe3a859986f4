// Package store is the only source of truth: jobs, tasks, leases, spawns, results, events.
// One method is one transaction. The implementations are store/sqlite and store/postgres; store/storetest holds them to this text.
package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	"gmaps-scraper/job"
)

// The errors that callers decide on. Implementations wrap them.
var (
	ErrNotFound   = errors.New("not found")
	ErrNoWork     = errors.New("no work")
	ErrStaleFence = errors.New("stale fence: the lease has ended")
	// ErrOverdue is an ErrStaleFence of a lease whose time is over and that nobody has ended yet. Expire or ExtendLeases decides which it
	// is: while no Manager was there to renew leases, all of them ran out.
	ErrOverdue      = fmt.Errorf("%w by its time only", ErrStaleFence)
	ErrUnknownSpawn = errors.New("unknown or ended spawn")
	ErrSpawnTaken   = errors.New("another worker has joined as this spawn")
	ErrIdempotency  = errors.New("idempotency key was used for another request")
	// ErrState: the job's state does not allow this, e.g. to resume one that has ended.
	ErrState = errors.New("not possible in the job's state")
	// ErrUnavailable: the database cannot answer now; the same call may succeed later.
	ErrUnavailable = errors.New("store unavailable")
)

// Store keeps the truth. All methods may be called concurrently. Times of leases are the database's own clock.
type Store interface {
	// CreateJob stores the job, its tasks and an event. The same idempotency key with the same RequestHash returns
	// the job made then and created=false; with another hash ErrIdempotency.
	CreateJob(ctx context.Context, n NewJob) (j job.Job, created bool, err error)
	// Job returns one job. ErrNotFound.
	Job(ctx context.Context, id job.ID) (job.Job, error)
	// JobHead is Job without Spec.Inputs, which may be large: cheap enough to ask several times a second. ErrNotFound.
	JobHead(ctx context.Context, id job.ID) (job.Job, error)
	// JobStates returns the states of jobs. It has none of those that are not there.
	JobStates(ctx context.Context, ids ...job.ID) (map[job.ID]job.State, error)
	// Jobs lists jobs, newest first, without Spec.Inputs. It costs the same however many jobs there are.
	Jobs(ctx context.Context, f JobFilter) ([]job.Job, error)
	// Cancel and the three after it return the job without Spec.Inputs. Cancel ends a job: open tasks are skipped, live leases end with the order Cancel. On a terminal job it does nothing.
	Cancel(ctx context.Context, id job.ID) (job.Job, error)
	// Pause stops granting; live leases are told to Drain. ErrState on a terminal job.
	Pause(ctx context.Context, id job.ID) (job.Job, error)
	// Resume undoes Pause. ErrState on a terminal job; on a running one it does nothing.
	Resume(ctx context.Context, id job.ID) (job.Job, error)
	// Retry opens the dead and skipped tasks of a job again with fresh attempts, and the job with them. ErrState if there are none.
	Retry(ctx context.Context, id job.ID) (job.Job, error)
	// DeleteJob removes a terminal job and all that belongs to it. ErrState on any other.
	DeleteJob(ctx context.Context, id job.ID) error
	// Stats returns the sums over all jobs.
	Stats(ctx context.Context) (Stats, error)

	// Tasks lists a job's tasks in id order.
	Tasks(ctx context.Context, id job.ID, f TaskFilter) ([]job.Task, error)
	// Grant leases up to max open tasks of one job to spawn s until the database's now + ttl: of s's own job if it has one, else of the
	// job first in effective order (priority, ageing, age). A task is granted to one spawn at a time; the fence is larger than any granted
	// before. A task that has crashed a worker is granted alone and only to a spawn without other live leases; nothing more is granted beside it.
	// Grant charges each task an attempt. ErrNoWork if nothing is open now, ErrUnknownSpawn if s has ended or is stopping.
	Grant(ctx context.Context, s job.SpawnID, max int, ttl time.Duration) (job.Lease, error)
	// NextOpen says in how long an open task that waits for its backoff is due, by the store's clock: of s's job, else of any. some is
	// false if there is none.
	NextOpen(ctx context.Context, s job.SpawnID) (in time.Duration, some bool, err error)
	// Submit stores places and task steps under a fence, atomically; a replay of an acknowledged batch is a no-op as long as the lease lives.
	// ErrStaleFence and ErrOverdue write nothing. A lease whose tasks are all over has ended. A place beyond the job's MaxResults is not stored;
	// reaching the limit ends the job. A saturated cell is split into four open tasks. The last task over makes the job terminal.
	Submit(ctx context.Context, f job.Fence, b job.Batch) (job.Ack, error)
	// Renew extends a lease to the database's now + ttl and says what to do with it. ErrStaleFence, ErrOverdue.
	Renew(ctx context.Context, f job.Fence, ttl time.Duration) (job.Order, error)
	// LeaseOwner returns the spawn that a lease was granted to, also of one that has ended as long as it is known. ErrStaleFence.
	LeaseOwner(ctx context.Context, f job.Fence) (job.SpawnID, error)
	// HandBack opens a lease's remaining tasks again, with the cursors given, and gives their attempt back. Ended leases: no error.
	HandBack(ctx context.Context, f job.Fence, steps []job.TaskStep) error
	// Expire ends the leases whose time is over: their tasks open again with Crashes counted, or are dead after their last attempt.
	// It ends jobs whose MaxTime is over and returns how many leases it ended.
	Expire(ctx context.Context) (int, error)
	// ExtendLeases gives every lease that has not ended at least ttl from the database's now: for a Manager that was away and could renew none.
	ExtendLeases(ctx context.Context, ttl time.Duration) error

	// PlanSpawns inserts pending spawn rows for what lacks, under the cap, in ONE transaction, and returns them.
	PlanSpawns(ctx context.Context, p Plan) ([]job.Spawn, error)
	// JoinStanding inserts a running spawn of backend none for a worker that was started by hand; the same nonce returns the same spawn.
	JoinStanding(ctx context.Context, nonce string, concurrency int) (job.Spawn, error)
	// Join marks that the worker of spawn s has spoken. The first nonce wins; the same may repeat; another is ErrSpawnTaken. ErrUnknownSpawn if it has ended.
	Join(ctx context.Context, s job.SpawnID, nonce string) (job.Spawn, error)
	// Touch records that a spawn's worker is alive. ErrUnknownSpawn.
	Touch(ctx context.Context, s job.SpawnID) error
	// SpawnStarted records that the backend has the worker. A row that has moved on is left as it is.
	SpawnStarted(ctx context.Context, s job.SpawnID, externalID string) error
	// SpawnStopping records that the worker was told to stop.
	SpawnStopping(ctx context.Context, s job.SpawnID, reason string) error
	// SpawnEnded records how a spawn ended, once, with an event on its job. Live leases of it end: with GaveBack their tasks are not charged,
	// else they are opened as Expire does. A second call changes nothing, but that one without MayRunUntil says that the end has been seen
	// after all: the spawn no longer counts against the cap.
	SpawnEnded(ctx context.Context, s job.SpawnID, e SpawnEnd) error
	// Spawn returns one spawn. ErrNotFound.
	Spawn(ctx context.Context, s job.SpawnID) (job.Spawn, error)
	// Spawns lists spawns, newest first.
	Spawns(ctx context.Context, f SpawnFilter) ([]job.Spawn, error)
	// SetWaiting records why jobs that have open tasks and no live spawn wait; "" clears. No jobs: all of them.
	// It writes an event only when the text changes.
	SetWaiting(ctx context.Context, why string, jobs ...job.ID) error

	// Results lists a job's results in Seq order, after the cursor.
	Results(ctx context.Context, id job.ID, f ResultFilter) ([]job.Result, error)
	// Events lists a job's events in ID order, after the cursor.
	Events(ctx context.Context, id job.ID, after int64, limit int) ([]job.Event, error)

	// Setting returns a small value kept for this installation, and stores first if there is none: the same answer to all that ask at once.
	Setting(ctx context.Context, key, first string) (string, error)
	// Ping finds out whether the store answers.
	Ping(ctx context.Context) error
	Close() error
}

// NewJob is the input of CreateJob.
type NewJob struct {
	ID    job.ID
	Spec  job.Spec
	Tasks []job.Task // ID, JobID and State are the store's to set
	// IdempotencyKey may be empty. RequestHash tells a repeat from another request under the same key.
	IdempotencyKey string
	RequestHash    string
}

// JobFilter selects jobs. Before is the id of the last job seen (keyset paging). Limit 0: 50.
type JobFilter struct {
	States []job.State
	Search string // part of the name
	Before job.ID
	Limit  int
}

// TaskFilter selects tasks. Limit 0: 100.
type TaskFilter struct {
	States []job.TaskState
	After  job.TaskID
	Limit  int
}

// SpawnFilter selects spawns. Limit 0: 100.
type SpawnFilter struct {
	JobID   job.ID
	Backend string
	Live    bool // only those that have not ended
	// Counted selects those that count against the cap: the live ones, and ended ones that may still run.
	Counted bool
	// Ended selects those that ended at or after it.
	EndedSince time.Time
	Before     job.SpawnID
	Limit      int
}

// ResultFilter selects results. Limit 0: 100. All conditions are ANDed.
type ResultFilter struct {
	After     int64  // Seq of the last result seen
	Search    string // part of title, category, address, phone or website, case-folded
	Category  string
	MinRating float64
	City      string
	Country   string // ISO code
	Website   *bool  // has one, has none
	Phone     *bool
	Limit     int
}

// Plan is what PlanSpawns goes by.
type Plan struct {
	Backend string
	// Cap bounds the spawns of Backend that are live, or have ended and may still run. 0: none.
	Cap int
	// New bounds the rows of this call. 0: none.
	New int
	// Concurrency is how many tasks a worker runs at a time. A job wants min(⌈open ÷ (Concurrency × 8)⌉, its MaxWorkers) workers.
	Concurrency int
	// AgeingInterval raises a waiting job's effective priority by one for each interval since it was created, so that nothing starves. 0: 1 minute.
	AgeingInterval time.Duration
}

// SpawnEnd is how a spawn ended.
type SpawnEnd struct {
	Outcome  job.Outcome
	Reason   string
	ExitCode *int
	LogTail  string
	CostUSD  float64
	GaveBack bool
	// MayRunUntil is until when the worker may run although its spawn has ended, by the database's clock: it counts against the cap so
	// long. Zero: its end was seen.
	MayRunUntil time.Time
}

// Failure reports whether the worker ended otherwise than by its own success or our stop.
func (e SpawnEnd) Failure() bool {
	switch e.Outcome {
	case job.Stopped:
		return false
	case job.Exited:
		return e.ExitCode == nil || *e.ExitCode != 0
	default:
		return true
	}
}

// Stats are sums for metrics and the dashboard.
type Stats struct {
	Jobs    map[job.State]int
	Tasks   map[job.TaskState]int
	Spawns  map[job.SpawnState]int
	Results int64
	// OldestOpen is when the oldest job was created that has open tasks and no worker; of jobs whose Managers' clocks differ, one of the oldest.
	OldestOpen  time.Time
	LeaseAges   []time.Duration
	LiveLeases  int
	SpawnErrors map[job.Outcome]int
}
