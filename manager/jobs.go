package manager

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/danielgtaylor/huma/v2"

	"gmaps-scraper/api"
	"gmaps-scraper/job"
	"gmaps-scraper/store"
)

// JobPath is the input of operations on one job. It is exported because huma looks into exported embedded fields alone.
type JobPath struct {
	ID string `path:"id" maxLength:"64" pattern:"^[0-9A-Za-z-]+$" doc:"the job's id"`
}

type showJob struct {
	JobPath
	Inputs bool `query:"inputs" doc:"with spec.inputs, which may be a million lines"`
}

type jobAnswer struct{ Body job.Job }

func (m *Manager) registerJobs(a huma.API) {
	create := operation("jobs", "createJob", http.MethodPost, api.PathJobs, "Create a job")
	create.DefaultStatus = http.StatusCreated
	create.Description = "The job is stored when the answer comes. A repeat with the same " + api.HeaderIdempotencyKey + " and body answers 200 with the job made then. The body may be gzipped. The answer is without the inputs."
	create.Metadata[metaBody] = int64(createBody)
	create.Metadata[metaTime] = wholeJobTime
	handle(m, a, create, m.createJob)

	handle(m, a, operation("jobs", "getJob", http.MethodGet, api.PathJob, "Show a job"), func(ctx context.Context, in *showJob) (*jobAnswer, error) {
		if in.Inputs {
			return oneJob(m.store.Job(ctx, job.ID(in.ID)))
		}
		return oneJob(m.store.JobHead(ctx, job.ID(in.ID)))
	})
	m.registerAction(a, "cancelJob", api.PathCancel, "Cancel a job: its workers are stopped, what was found is kept", store.Store.Cancel)
	m.registerAction(a, "pauseJob", api.PathPause, "Pause a job: no more of it is leased", store.Store.Pause)
	m.registerAction(a, "resumeJob", api.PathResume, "Resume a paused job", store.Store.Resume)
	m.registerAction(a, "retryJob", api.PathRetry, "Try a job's dead and skipped tasks again", store.Store.Retry)

	remove := operation("jobs", "deleteJob", http.MethodDelete, api.PathJob, "Delete a job that has ended, and its results")
	remove.DefaultStatus = http.StatusNoContent
	handle(m, a, remove, func(ctx context.Context, in *JobPath) (*struct{}, error) {
		if err := m.store.DeleteJob(ctx, job.ID(in.ID)); err != nil {
			return nil, err
		}
		m.log.InfoContext(ctx, "job deleted", "job", in.ID)
		return nil, nil
	})
}

// registerAction adds an operation that moves a job and may change what is open or free.
func (m *Manager) registerAction(a huma.API, id, path, summary string, act func(store.Store, context.Context, job.ID) (job.Job, error)) {
	op := operation("jobs", id, http.MethodPost, path, summary)
	op.Metadata[metaTime] = wholeJobTime
	handle(m, a, op, func(ctx context.Context, in *JobPath) (*jobAnswer, error) {
		out, err := oneJob(act(m.store, ctx, job.ID(in.ID)))
		if err != nil {
			return nil, err
		}
		m.log.InfoContext(ctx, "job changed", "job", in.ID, "by", id, "state", out.Body.State)
		m.ring(ctx, id, out.Body.ID)
		return out, nil
	})
}

func oneJob(j job.Job, err error) (*jobAnswer, error) {
	if err != nil {
		return nil, err
	}
	return &jobAnswer{j}, nil
}

type createInput struct {
	IdempotencyKey string `header:"Idempotency-Key" maxLength:"255" pattern:"^[!-~]*$" doc:"chosen by the client, new for each job it wants"`
	Body           api.NewJob
}

type createAnswer struct {
	Status   int
	Location string `header:"Location"`
	Replayed string `header:"Idempotency-Replayed" doc:"true: the job was made by an earlier request of this key"`
	Body     job.Job
}

func (m *Manager) createJob(ctx context.Context, in *createInput) (*createAnswer, error) {
	hash, err := requestHash(in.Body)
	if err != nil {
		return nil, err
	}
	spec, err := newSpec(in.Body)
	if err != nil {
		return nil, err
	}
	tasks, err := spec.Tasks()
	if err != nil {
		return nil, err
	}
	j, created, err := m.store.CreateJob(ctx, store.NewJob{
		ID: job.NewID(), Spec: *spec, Tasks: tasks, IdempotencyKey: in.IdempotencyKey, RequestHash: hash,
	})
	if err != nil {
		return nil, err
	}
	j.Spec.Inputs = nil // up to a million, which the client has
	out := &createAnswer{Status: http.StatusCreated, Location: strings.Replace(api.PathJob, "{id}", string(j.ID), 1), Body: j}
	if !created {
		out.Status, out.Replayed = http.StatusOK, "true"
		return out, nil
	}
	m.log.InfoContext(ctx, "job created", "job", j.ID, "tasks", len(tasks))
	m.ring(ctx, "job created", j.ID)
	return out, nil
}

// requestHash is the same for bodies that ask for the same, however they are written.
func requestHash(n api.NewJob) (string, error) {
	b, err := json.Marshal(n)
	if err != nil {
		return "", fmt.Errorf("hash request: %w", err)
	}
	h := sha256.Sum256(b)
	return hex.EncodeToString(h[:]), nil
}

// newSpec turns a request into a validated Spec.
func newSpec(n api.NewJob) (*job.Spec, error) {
	lines, err := job.ReadInputs(strings.NewReader(n.Lines))
	if err != nil {
		return nil, err
	}
	s := &job.Spec{
		Name: strings.TrimSpace(n.Name), Inputs: append(n.Inputs, lines...), Lang: n.Lang, Country: n.Country, Depth: n.Depth, Detail: n.Detail,
		ExtraReviews: n.ExtraReviews, MaxReviews: n.MaxReviews, ReviewOrder: n.ReviewOrder, Engine: n.Engine, Priority: n.Priority,
		MaxResults: n.MaxResults, MaxWorkers: n.MaxWorkers, MaxAttempts: n.MaxAttempts,
	}
	if n.Area != nil {
		s.Area = *n.Area
	}
	if !plainText(s.Name) {
		return nil, &job.FieldError{Field: "name", Why: "holds a NUL or another control character"}
	}
	if n.MaxTime != "" {
		d, err := time.ParseDuration(n.MaxTime)
		if err != nil {
			return nil, &job.FieldError{Field: "max_time", Why: fmt.Sprintf("%q is no duration such as 10m or 1h30m", n.MaxTime)}
		}
		s.MaxTime = job.Duration(d)
	}
	return s, s.Validate()
}

// plainText reports whether s can be stored and shown: valid UTF-8 without control characters.
func plainText(s string) bool {
	return utf8.ValidString(s) && !strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r == 0x7f })
}
