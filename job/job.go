// Package job is the domain: jobs, tasks, leases, spawns, events, their states and the rules between them.
// It does no I/O.
package job

import (
	"encoding/json"
	"time"

	"github.com/google/uuid"

	"gmaps-scraper/gmaps"
)

// ID names a job. Ids made later sort after earlier ones (UUID version 7).
type ID string

// NewID returns an id never given before.
func NewID() ID { return ID(uuid.Must(uuid.NewV7()).String()) }

// State is where a job stands.
type State string

// The states of a job. Succeeded, Failed and Cancelled are terminal.
const (
	Pending   State = "pending" // no task was ever leased
	Running   State = "running"
	Paused    State = "paused"
	Succeeded State = "succeeded"
	Failed    State = "failed"
	Cancelled State = "cancelled"
)

// Terminal reports whether a job in state s will never change by itself again.
func (s State) Terminal() bool { return s == Succeeded || s == Failed || s == Cancelled }

// Spec is what a user asks for. Validate fills defaults and names what is wrong.
type Spec struct {
	Name string `json:"name,omitempty"`
	// Inputs are the searches: see Input.
	Inputs []Input `json:"inputs,omitempty"`
	// Lang is the language of the answers. Default "en".
	Lang    string `json:"lang,omitempty"`
	Country string `json:"country,omitempty"`
	Area    Area   `json:"area,omitzero"`
	// Depth bounds the result pages (20 places each) of one search. 0: until two pages bring nothing new.
	Depth int `json:"depth,omitempty"`
	// Detail says when a place's own payload is fetched. Default auto.
	Detail       gmaps.Detail      `json:"detail,omitempty"`
	ExtraReviews bool              `json:"extra_reviews,omitempty"`
	MaxReviews   int               `json:"max_reviews,omitempty"` // a place; 0 with ExtraReviews: all
	ReviewOrder  gmaps.ReviewOrder `json:"review_order,omitempty"`
	// Engine is how places are fetched. Default "http".
	Engine string `json:"engine,omitempty"`
	// Priority is 0 (last) to 10 (first). Default 0.
	Priority int `json:"priority,omitempty"`
	// MaxResults ends the job when it has so many places. 0: no limit.
	MaxResults int `json:"max_results,omitempty"`
	// MaxTime ends the job so long after its first lease, with what it has. 0: no limit.
	MaxTime Duration `json:"max_time,omitempty"`
	// MaxWorkers bounds the spawned workers of this job at one time. Default 1.
	MaxWorkers int `json:"max_workers,omitempty"`
	// MaxAttempts is how often one task is tried before it is dead. Default 3.
	MaxAttempts int `json:"max_attempts,omitempty"`
}

// Input is one line of a user's input: a keyword or a Google Maps URL, with an id of the user's own if it had one.
type Input struct {
	// Text is the keyword or URL, at most MaxKeywordBytes long.
	Text string `json:"text"`
	// ID comes back in the column input_id of each result.
	ID string `json:"id,omitempty"`
}

// Area says where to search. Either Center and RadiusMeters (a point with radius), or Box (cut into a grid), or
// neither: the whole earth, where the keywords name the place.
type Area struct {
	Center *gmaps.Point `json:"center,omitempty"`
	// RadiusMeters is the radius around Center. 0: what Zoom shows.
	RadiusMeters float64 `json:"radius_meters,omitempty"`
	// Zoom is the map's zoom, 1 to 21. It sets the viewport around Center, and the cell size of Box. Default 14 with a Box or Center.
	Zoom int  `json:"zoom,omitempty"`
	Box  *Box `json:"box,omitempty"`
	// CellMeters is the edge of a grid cell of Box. 0: what Zoom shows.
	CellMeters float64 `json:"cell_meters,omitempty"`
	// Strict drops places that lie outside the area.
	Strict bool `json:"strict,omitempty"`
}

// Box is a bounding box in degrees. MinLng > MaxLng crosses the antimeridian.
type Box struct {
	MinLat float64 `json:"min_lat"`
	MinLng float64 `json:"min_lng"`
	MaxLat float64 `json:"max_lat"`
	MaxLng float64 `json:"max_lng"`
}

// Job is a Spec and how far it has come. The counts are kept by the store with every change, never counted.
type Job struct {
	ID    ID    `json:"id"`
	Spec  Spec  `json:"spec"`
	State State `json:"state"`
	// Waiting says why a job that has open tasks has no worker, with the mend. Empty: it does not wait.
	Waiting string `json:"waiting,omitempty"`
	// Reason says why the job ended as it did, when that needs words.
	Reason string `json:"reason,omitempty"`
	// Partial is set on a terminal job that may lack places: failed tasks, a limit reached, cancelled.
	Partial bool   `json:"partial,omitempty"`
	Counts  Counts `json:"counts"`
	// CostUSD is the sum of its spawns' costs, as far as they have ended: an estimate.
	CostUSD float64 `json:"cost_usd,omitempty"`

	CreatedAt time.Time `json:"created_at"`
	StartedAt time.Time `json:"started_at,omitzero"` // first lease
	EndedAt   time.Time `json:"ended_at,omitzero"`
	UpdatedAt time.Time `json:"updated_at"`
}

// Counts are the tasks of a job by state and its results.
type Counts struct {
	Tasks   int `json:"tasks"` // all; grows when a cell is split
	Open    int `json:"open"`
	Leased  int `json:"leased"`
	Done    int `json:"done"`
	Dead    int `json:"dead"`    // failed in all their attempts
	Skipped int `json:"skipped"` // not tried: cancelled, or a limit was reached
	Places  int `json:"places"`  // distinct
	// Duplicates counts places that were found again.
	Duplicates int `json:"duplicates"`
	Spawns     int `json:"spawns"` // ever started
}

// Progress is the share of tasks that are over, 0 to 1.
func (c Counts) Progress() float64 {
	if c.Tasks == 0 {
		return 0
	}
	return float64(c.Done+c.Dead+c.Skipped) / float64(c.Tasks)
}

// TaskID numbers a task; ids grow in the order of creation.
type TaskID int64

// TaskState is where a task stands.
type TaskState string

// The states of a task. A dead task was tried MaxAttempts times; Retry opens it again.
const (
	TaskOpen    TaskState = "open"
	TaskLeased  TaskState = "leased"
	TaskDone    TaskState = "done"
	TaskDead    TaskState = "dead"
	TaskSkipped TaskState = "skipped"
)

// Task is one keyword in one grid cell: the unit that is leased, retried and resumed.
type Task struct {
	ID    TaskID      `json:"id"`
	JobID ID          `json:"job_id"`
	State TaskState   `json:"state"`
	Query gmaps.Query `json:"query"`
	// InputID is the id that the user gave with the input line.
	InputID string `json:"input_id,omitempty"`
	// Cell is the part of a grid that this task covers; nil outside grids. A saturated cell is split into four tasks.
	Cell *Box `json:"cell,omitempty"`
	// Cursor is where an earlier lease left off.
	Cursor   gmaps.Cursor `json:"cursor,omitempty"`
	Attempts int          `json:"attempts"` // charged so far, the running one included
	// Crashes counts the leases of this task that ended by the death of their worker: from the first on it is leased alone,
	// so that a poison task takes no other with it.
	Crashes   int       `json:"crashes,omitempty"`
	Error     string    `json:"error,omitempty"`     // of the last failed attempt
	NotBefore time.Time `json:"not_before,omitzero"` // backoff
	UpdatedAt time.Time `json:"updated_at,omitzero"`
}

// Fence is the id of a lease. It is larger than any granted before, so that a write under an older one is told apart.
type Fence int64

// Lease is a spawn's right to some tasks of one job until Expires, by the database's clock.
type Lease struct {
	Fence   Fence         `json:"fence"`
	JobID   ID            `json:"job_id"`
	Spec    Spec          `json:"spec"` // without Inputs
	Tasks   []Task        `json:"tasks"`
	TTL     time.Duration `json:"-"`
	Expires time.Time     `json:"expires"`
}

// Order is what a worker must do with a lease: told with every answer.
type Order string

// The orders. Drain: hand back what is not done and take no more. Cancel: stop at once, nothing more is wanted.
const (
	Continue Order = "continue"
	Drain    Order = "drain"
	Cancel   Order = "cancel"
)

// Batch is what a worker hands in under one fence: places and the tasks' standing together, in one transaction.
type Batch struct {
	Places []Found    `json:"places,omitempty"`
	Tasks  []TaskStep `json:"tasks,omitempty"`
}

// Found is a place and the task that found it.
type Found struct {
	TaskID TaskID      `json:"task_id"`
	Place  gmaps.Place `json:"place"`
	// JSON is Place as it came, where DecodeBatch found it fit to be kept so; else empty. It is worth nothing once Place was changed.
	JSON string `json:"-"`
}

// TaskStep moves a leased task: a new cursor, done, or failed.
type TaskStep struct {
	TaskID TaskID       `json:"task_id"`
	Cursor gmaps.Cursor `json:"cursor,omitempty"`
	Done   bool         `json:"done,omitempty"`
	// Saturated with Done: the viewport hid places, so a grid cell is split into four.
	Saturated bool `json:"saturated,omitempty"`
	// Error with Done unset ends the attempt: the task opens again after RetryAfter, or is dead after its last attempt.
	Error      string   `json:"error,omitempty"`
	RetryAfter Duration `json:"retry_after,omitempty"`
}

// Ack answers a Batch.
type Ack struct {
	New        int   `json:"new"`        // places stored
	Duplicates int   `json:"duplicates"` // places that the job had
	Order      Order `json:"order"`
}

// Result is a place of a job. Seq grows in the order of storing and is the key of paging.
type Result struct {
	Seq     int64       `json:"seq"`
	JobID   ID          `json:"job_id"`
	TaskID  TaskID      `json:"task_id"`
	InputID string      `json:"input_id,omitempty"`
	Place   gmaps.Place `json:"place"`
	FoundAt time.Time   `json:"found_at"`
}

// Event is one line of a job's timeline, for people.
type Event struct {
	ID    int64     `json:"id"`
	JobID ID        `json:"job_id"`
	At    time.Time `json:"at"`
	Kind  EventKind `json:"kind"`
	// Text is a sentence; Data the facts of it.
	Text string          `json:"text"`
	Data json.RawMessage `json:"data,omitempty"`
}

// EventKind classes events.
type EventKind string

// The kinds of events.
const (
	EventCreated     EventKind = "job_created"
	EventStarted     EventKind = "job_started"
	EventPaused      EventKind = "job_paused"
	EventResumed     EventKind = "job_resumed"
	EventRetried     EventKind = "job_retried"
	EventEnded       EventKind = "job_ended"
	EventWaiting     EventKind = "job_waiting"
	EventTaskDead    EventKind = "task_dead"
	EventTaskSplit   EventKind = "task_split"
	EventLeaseLost   EventKind = "lease_lost"
	EventSpawned     EventKind = "worker_spawned"
	EventSpawnEnded  EventKind = "worker_ended"
	EventSpawnFailed EventKind = "spawn_failed"
)

// Duration is a time.Duration that reads and writes JSON as Go's text form, "90s".
type Duration time.Duration

// MarshalText writes "1m30s".
func (d Duration) MarshalText() ([]byte, error) { return []byte(time.Duration(d).String()), nil }

// UnmarshalText reads "1m30s".
func (d *Duration) UnmarshalText(b []byte) error {
	v, err := time.ParseDuration(string(b))
	if err != nil {
		return err
	}
	*d = Duration(v)
	return nil
}
