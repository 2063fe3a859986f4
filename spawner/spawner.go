// Package spawner starts, observes and ends workers on a backend: child processes, containers, services, functions.
// It knows nothing of jobs; the Manager's reconciler decides what must run.
package spawner

import (
	"context"
	"fmt"
	"time"
)

// Spawner starts, observes and ends workers on one backend. An operation that the backend can never do returns errors.ErrUnsupported, every time.
// All methods may be called concurrently.
type Spawner interface {
	// Backend is the name under which spawns are recorded: process, docker, swarm, lambda.
	Backend() string
	// Create starts one worker. Idempotent by spec.Name: a second call returns the worker that is there, ended or not.
	// Its error is an *Error, which says whether to retry and the mend.
	Create(ctx context.Context, spec Spec) (Worker, error)
	// List returns all workers of this instance that the backend knows, ended ones included.
	List(ctx context.Context) ([]Worker, error)
	// Stop sends SIGTERM, then kills after grace. Gone already is no error.
	Stop(ctx context.Context, id ID, grace time.Duration) error
	// Collect returns exit code and log tail of an ended worker. It changes nothing. A backend that cannot list answers at once with what it
	// has seen: nothing but a pointer to evidence, and no EndedAt, if it has not seen the end.
	Collect(ctx context.Context, id ID) (Exit, error)
	// Remove deletes an ended worker's remains. Separate from Collect, so that evidence is stored before it is destroyed. Gone already is no error.
	Remove(ctx context.Context, id ID) error
	// Check finds out whether a Create could succeed, without one: the binary, image, network or permission that is needed. Its error is an *Error.
	Check(ctx context.Context) error
	// Limits are facts of the backend that the reconciler plans by.
	Limits() Limits
}

// Watcher is a Spawner that tells at once when one of its workers has changed, instead of at the next look.
type Watcher interface {
	// Watch calls changed after each change of a worker of this instance, until ctx ends or the backend breaks off; then it returns.
	// Changes may be told late, twice or not at all: a hint to look, no more. changed must return soon.
	Watch(ctx context.Context, changed func()) error
}

// ID is the backend's own name of a worker.
type ID string

// Spec is one worker to start.
type Spec struct {
	// Name is deterministic: gmaps-worker-<spawn id>.
	Name     string
	SpawnID  string
	JobID    string
	Priority int
	// Env is what the worker reads: GMAPS_MANAGER_URL, GMAPS_SPAWN_ID, JOB_ID, …
	Env map[string]string
	// Secrets are variables as those of Env that nobody else should see: GMAPS_WORKER_TOKEN, GMAPS_RABBITMQ_URL, … A backend that can keep
	// secrets puts them into a file of lines NAME=VALUE and names it in GMAPS_SECRETS_FILE; the others put them into the environment.
	// They never travel in arguments. Values hold no line breaks.
	Secrets map[string]string
	// Args follow the binary's name.
	Args []string
}

// Worker is a worker as its backend sees it.
type Worker struct {
	ID      ID
	Name    string
	SpawnID string
	JobID   string
	Running bool // false: ended, its remains are there
	// CreatedAt by the backend's clock.
	CreatedAt time.Time
}

// Exit is how a worker ended. Code is -1 if the backend cannot tell.
type Exit struct {
	Code    int
	LogTail string // the last 16 KiB or so
	// Detail explains a code that was not the worker's own: "out of memory", "killed by signal 9".
	Detail string
	// EndedAt is zero if the backend has not seen the end.
	EndedAt time.Time
	// CostUSD is what the backend charges for the worker's time, if it says so. 0: see Limits.USDPerSecond.
	CostUSD float64
}

// Limits are facts of a backend. Zero fields mean: no limit of its own.
type Limits struct {
	// MaxWorkers is a ceiling that holds even when the operator set none.
	MaxWorkers int
	// Flag names the operator's own setting that MaxWorkers is. Then -spawner-max-workers can only lower it. Empty: it is the backend's.
	Flag string
	// Creates is how many Create calls may run at once with profit.
	Creates int
	// JoinDeadline is how long after Create a worker that has not spoken is given up.
	JoinDeadline time.Duration
	// Lifetime is after how long the backend itself ends a worker. It is that of a backend that can neither list nor stop workers: one that
	// is silent may run for so long.
	Lifetime time.Duration
	// USDPerSecond is about what a worker costs for each second that it runs. 0: not known.
	USDPerSecond float64
}

// Error is a refusal of a backend in words for the person who runs it.
type Error struct {
	Op     string // "create", "list", …
	Reason string // "image gmaps-scraper:latest not found on this engine"
	Mend   string // "build it: make image"
	// Retry: the same call may succeed later without anybody's help.
	Retry bool
	// Cause is a short fixed word for metrics: "image", "network", "socket", "resources", "name", "throttled", "other".
	Cause string
	Err   error
}

func (e *Error) Error() string {
	s := e.Reason
	if s == "" && e.Err != nil {
		s = e.Err.Error()
	}
	if e.Mend != "" {
		s = fmt.Sprintf("%s; %s", s, e.Mend)
	}
	return s
}

func (e *Error) Unwrap() error { return e.Err }
