package job

import (
	"time"

	"github.com/google/uuid"
)

// SpawnID names a spawn, and through it the worker: see Spawn.Name.
type SpawnID string

// NewSpawnID returns an id never given before.
func NewSpawnID() SpawnID { return SpawnID(uuid.Must(uuid.NewV7()).String()) }

// SpawnState is where a spawn stands. All but SpawnEnded count against the cap; see Spawn.MayRunUntil for the exception.
type SpawnState string

// The states of a spawn.
const (
	SpawnPending  SpawnState = "pending"  // the row is written, the backend may or may not have been called
	SpawnStarted  SpawnState = "started"  // the backend has a worker, which has not spoken yet
	SpawnRunning  SpawnState = "running"  // the worker has exchanged its token
	SpawnStopping SpawnState = "stopping" // told to stop
	SpawnEnded    SpawnState = "ended"
)

// Outcome says how a spawn ended.
type Outcome string

// The outcomes. Only Exited with code 0 is a success.
const (
	Exited      Outcome = "exited"       // by itself: see Spawn.ExitCode
	CreateError Outcome = "create_error" // the backend refused; Spawn.Reason has the mend
	NeverLeased Outcome = "never_leased" // started but did not speak within its deadline
	Vanished    Outcome = "vanished"     // the backend no longer knows it
	Stopped     Outcome = "stopped"      // we stopped it
	Silent      Outcome = "silent"       // a standing worker's heartbeats ceased
)

// Spawn is one worker that we started or that joined us. The row is written before the backend is called.
type Spawn struct {
	ID SpawnID `json:"id"`
	// JobID binds the worker to one job; empty for a standing worker, which takes any.
	JobID ID `json:"job_id,omitempty"`
	// Backend is process, docker, swarm, lambda, or none for a worker that was started by hand.
	Backend    string     `json:"backend"`
	ExternalID string     `json:"external_id,omitempty"` // the backend's own id
	State      SpawnState `json:"state"`
	Outcome    Outcome    `json:"outcome,omitempty"`
	// Reason explains a failure, with the mend.
	Reason   string `json:"reason,omitempty"`
	ExitCode *int   `json:"exit_code,omitempty"`
	LogTail  string `json:"log_tail,omitempty"`
	// Concurrency is how many tasks the worker runs at a time.
	Concurrency int `json:"concurrency"`
	// Nonce was chosen by the worker that exchanged this spawn's token: only it may repeat the exchange.
	Nonce     string    `json:"-"`
	CreatedAt time.Time `json:"created_at"`
	StartedAt time.Time `json:"started_at,omitzero"` // the backend's create returned
	JoinedAt  time.Time `json:"joined_at,omitzero"`  // the worker spoke first
	SeenAt    time.Time `json:"seen_at,omitzero"`    // the worker spoke last
	EndedAt   time.Time `json:"ended_at,omitzero"`
	// MayRunUntil is set on an ended spawn whose end nobody saw, on a backend that can neither list nor stop its workers: until then it
	// may still run, and counts against the cap.
	MayRunUntil time.Time `json:"may_run_until,omitzero"`
	// CostUSD is what the backend charges for this worker's time, where that is known: an estimate from list prices.
	CostUSD float64 `json:"cost_usd,omitempty"`
}

// Name is the worker's name on its backend: the same for the same spawn, so that a second create finds the first.
func (s Spawn) Name() string { return "gmaps-worker-" + string(s.ID) }

// Live reports whether the spawn counts against the cap.
func (s Spawn) Live() bool { return s.State != SpawnEnded }
