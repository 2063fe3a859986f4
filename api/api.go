// Package api is the wire between the Manager and those who talk to it: request and response bodies, problems, and the Client.
// All bodies are JSON; errors are application/problem+json (RFC 9457).
package api

import (
	"time"

	"gmaps-scraper/gmaps"
	"gmaps-scraper/job"
)

// Paths of the API. {…} as in net/http patterns.
const (
	Prefix = "/api/v1"

	PathJobs    = Prefix + "/jobs"
	PathJob     = Prefix + "/jobs/{id}"
	PathCancel  = Prefix + "/jobs/{id}/cancel"
	PathPause   = Prefix + "/jobs/{id}/pause"
	PathResume  = Prefix + "/jobs/{id}/resume"
	PathRetry   = Prefix + "/jobs/{id}/retry"
	PathTasks   = Prefix + "/jobs/{id}/tasks"
	PathEvents  = Prefix + "/jobs/{id}/events"
	PathStream  = Prefix + "/jobs/{id}/stream" // text/event-stream
	PathResults = Prefix + "/jobs/{id}/results"
	PathExport  = Prefix + "/jobs/{id}/export" // ?format=csv|json|ndjson|xlsx|parquet|geojson&columns=
	PathSpawns  = Prefix + "/spawns"           // ?job=
	PathSpawn   = Prefix + "/spawns/{id}"
	PathStats   = Prefix + "/stats"

	PrefixWorker   = Prefix + "/worker/"
	PathWorkerJoin = PrefixWorker + "join"                   // token exchange
	PathLeases     = PrefixWorker + "leases"                 // POST: long poll for work
	PathRenew      = PrefixWorker + "leases/{fence}/renew"   // heartbeat
	PathSubmit     = PrefixWorker + "leases/{fence}/results" // gzip accepted
	PathHandBack   = PrefixWorker + "leases/{fence}/handback"
	PathLeave      = PrefixWorker + "leave" // a worker's goodbye
)

// HeaderIdempotencyKey names a create so that its repeat makes no second job.
const HeaderIdempotencyKey = "Idempotency-Key"

// NewJob is the body of POST /jobs.
type NewJob struct {
	Name string `json:"name,omitempty" maxLength:"200" doc:"for people; default: the first input"`
	// Inputs as objects, or Lines as text: one a line, '#' begins a comment, 'query #!#id' carries an id. Both may be given.
	Inputs []job.Input `json:"inputs,omitempty" doc:"searches or Google Maps URLs"`
	Lines  string      `json:"lines,omitempty" doc:"searches or Google Maps URLs, one a line; 'query #!#id' carries an id"`

	Lang         string            `json:"lang,omitempty" doc:"language of the answers" default:"en"`
	Country      string            `json:"country,omitempty" doc:"ISO 3166-1 alpha-2"`
	Area         *job.Area         `json:"area,omitempty"`
	Depth        int               `json:"depth,omitempty" minimum:"0" maximum:"500" doc:"pages of 20 places a search; 0: until two pages bring nothing new"`
	Detail       gmaps.Detail      `json:"detail,omitempty" enum:"auto,always,never"`
	ExtraReviews bool              `json:"extra_reviews,omitempty"`
	MaxReviews   int               `json:"max_reviews,omitempty" minimum:"0"`
	ReviewOrder  gmaps.ReviewOrder `json:"review_order,omitempty" enum:"relevant,newest,highest,lowest"`
	Engine       string            `json:"engine,omitempty" enum:"http"`
	Priority     int               `json:"priority,omitempty" minimum:"0" maximum:"10"`
	MaxResults   int               `json:"max_results,omitempty" minimum:"0"`
	MaxTime      string            `json:"max_time,omitempty" doc:"Go duration, 10m" example:"10m"`
	MaxWorkers   int               `json:"max_workers,omitempty" minimum:"0" doc:"spawned workers at one time; default 1"`
	MaxAttempts  int               `json:"max_attempts,omitempty" minimum:"0" doc:"tries a task; default 3"`
}

// JobPage is a page of jobs, newest first. Next is the value of ?before= for the page after it; empty at the end.
type JobPage struct {
	Jobs []job.Job `json:"jobs"`
	Next string    `json:"next,omitempty"`
}

// TaskPage is a page of tasks. Next is the value of ?after=.
type TaskPage struct {
	Tasks []job.Task `json:"tasks"`
	Next  string     `json:"next,omitempty"`
}

// EventPage is a page of a job's timeline. Next is the value of ?after=.
type EventPage struct {
	Events []job.Event `json:"events"`
	Next   string      `json:"next,omitempty"`
}

// SpawnPage is a page of spawns, newest first. Next is the value of ?before=.
type SpawnPage struct {
	Spawns []job.Spawn `json:"spawns"`
	Next   string      `json:"next,omitempty"`
}

// ResultPage is a page of results. Next is the value of ?after=.
type ResultPage struct {
	Results []job.Result `json:"results"`
	Next    string       `json:"next,omitempty"`
}

// Join is what a worker says first. A spawned worker authenticates it with its one-time token, a standing one with an API key.
type Join struct {
	// SpawnID is empty for a standing worker.
	SpawnID job.SpawnID `json:"spawn_id,omitempty"`
	// Nonce is chosen by the worker at random, so that the same process may repeat a join whose answer was lost.
	Nonce       string `json:"nonce" minLength:"16" maxLength:"64"`
	Concurrency int    `json:"concurrency" minimum:"1" maximum:"1024"`
	Version     string `json:"version,omitempty"`
}

// Joined answers a Join. Session authenticates all further calls of this worker, as a bearer token.
type Joined struct {
	Session string      `json:"session"`
	SpawnID job.SpawnID `json:"spawn_id"`
	JobID   job.ID      `json:"job_id,omitempty"`
	// LeaseTTL is how long a lease lives without a renewal; renew every third of it.
	LeaseTTL job.Duration `json:"lease_ttl"`
}

// LeaseRequest asks for up to Max tasks and waits up to Wait for some.
type LeaseRequest struct {
	Max  int          `json:"max" minimum:"1" maximum:"1024"`
	Wait job.Duration `json:"wait,omitempty" doc:"at most 30s"`
}

// LeaseAnswer brings a lease, or says what else to do.
type LeaseAnswer struct {
	Lease *job.Lease `json:"lease,omitempty"`
	// TTL of the lease: durations need no common clock.
	TTL job.Duration `json:"ttl,omitempty"`
	// Exit: there is no more for this worker, it may go.
	Exit bool `json:"exit,omitempty"`
	// RetryIn: ask again then (a task waits for its backoff, or a long poll ran out).
	RetryIn job.Duration `json:"retry_in,omitempty"`
}

// OrderAnswer answers a renewal.
type OrderAnswer struct {
	Order job.Order `json:"order"`
}

// HandBack opens a lease's remaining tasks again; Steps carry cursors.
type HandBack struct {
	Steps []job.TaskStep `json:"steps,omitempty"`
}

// Leave is a worker's goodbye: it ends of itself within moments. Only a backend that cannot list its workers needs to be told.
type Leave struct {
	// ExitCode is 0 for a worker that did what there was, or handed back what it left.
	ExitCode int `json:"exit_code" minimum:"0" maximum:"255"`
	// Reason says why it ends with another code.
	Reason string `json:"reason,omitempty" maxLength:"2000"`
	// Ran is for how long it was paid for.
	Ran job.Duration `json:"ran,omitempty"`
}

// Stats is the body of GET /stats.
type Stats struct {
	Jobs    map[job.State]int      `json:"jobs"`
	Tasks   map[job.TaskState]int  `json:"tasks"`
	Spawns  map[job.SpawnState]int `json:"spawns"`
	Results int64                  `json:"results"`
	Backend string                 `json:"backend"`
	// Breaker says why no worker is spawned at present; empty: they are.
	Breaker string    `json:"breaker,omitempty"`
	Version string    `json:"version"`
	Since   time.Time `json:"since"` // start of this Manager
}

// Progress is the data of each event "progress" of the SSE stream.
type Progress struct {
	State   job.State  `json:"state"`
	Counts  job.Counts `json:"counts"`
	Waiting string     `json:"waiting,omitempty"`
	Partial bool       `json:"partial,omitempty"`
	Reason  string     `json:"reason,omitempty"`
}

// Problem is an RFC 9457 error. Errors name the field of each violation.
type Problem struct {
	Type   string         `json:"type,omitempty"`
	Title  string         `json:"title"`
	Status int            `json:"status"`
	Detail string         `json:"detail,omitempty"`
	Errors []ProblemField `json:"errors,omitempty"`
	// RetryAfter is the header of that name; 0 if there was none.
	RetryAfter time.Duration `json:"-"`
}

// ProblemField is one violation: where ("body.area.zoom") and what.
type ProblemField struct {
	Message  string `json:"message"`
	Location string `json:"location,omitempty"`
}

func (p *Problem) Error() string {
	s := p.Detail
	if s == "" {
		s = p.Title
	}
	for _, f := range p.Errors {
		s += "; " + f.Location + ": " + f.Message
	}
	return s
}
