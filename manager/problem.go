package manager

import (
	"context"
	"errors"
	"net/http"
	"strconv"

	"github.com/danielgtaylor/huma/v2"

	"gmaps-scraper/api"
	"gmaps-scraper/job"
	"gmaps-scraper/store"
)

// problemIdempotency is the type of a problem that clients have not decided on so far; those that they do are in package api.
const problemIdempotency = "urn:gmaps-scraper:problem:idempotency-key-reused"

// retryAfterSeconds is what a client is told to wait when the store cannot answer.
const retryAfterSeconds = 2

// fault is an error with its answer. The wrapped error goes to the log, never to the client.
type fault struct {
	huma.ErrorModel
	headers http.Header
	err     error
}

// GetHeaders are set on the answer.
func (f *fault) GetHeaders() http.Header { return f.headers }

func (f *fault) Unwrap() error { return f.err }

// newFault makes an answer of our own.
func newFault(status int, kind, detail string, fields ...*huma.ErrorDetail) *fault {
	return &fault{ErrorModel: huma.ErrorModel{Type: kind, Title: http.StatusText(status), Status: status, Detail: detail, Errors: fields}}
}

// invalid says which part of a request is wrong: "body.area.zoom", "query.search".
func invalid(location, why string) *fault {
	return newFault(http.StatusUnprocessableEntity, "", "the request is not valid", &huma.ErrorDetail{Location: location, Message: why})
}

// problem maps an error to its answer. It is the only place that does.
func problem(err error) *fault {
	var (
		f       *fault
		field   *job.FieldError
		line    *job.LineError
		tooMany *http.MaxBytesError
	)
	switch {
	case errors.As(err, &f):
		return f
	case errors.As(err, &field):
		return invalid("body."+field.Field, field.Why)
	case errors.As(err, &line):
		return invalid("body.lines", line.Error())
	case errors.As(err, &tooMany):
		return newFault(http.StatusRequestEntityTooLarge, "", "the request body has more than "+strconv.FormatInt(tooMany.Limit, 10)+" bytes")
	case errors.Is(err, store.ErrNotFound):
		return newFault(http.StatusNotFound, "", "there is nothing of this id")
	case errors.Is(err, store.ErrState):
		return newFault(http.StatusConflict, "", "not possible in the job's state")
	case errors.Is(err, store.ErrIdempotency):
		return newFault(http.StatusUnprocessableEntity, problemIdempotency,
			"the "+api.HeaderIdempotencyKey+" was used for another request before: choose a new one, or repeat the first request unchanged",
			&huma.ErrorDetail{Location: "header." + api.HeaderIdempotencyKey, Message: "was used for another request"})
	case errors.Is(err, store.ErrOverdue):
		// The sweep decides: after an absence of the Manager it gives all leases their time again.
		f = newFault(http.StatusServiceUnavailable, "", "the lease ran out and is about to be ended, or extended if the Manager was away: try again")
		f.headers = http.Header{"Retry-After": {strconv.Itoa(retryAfterSeconds)}}
	case errors.Is(err, store.ErrStaleFence):
		return newFault(http.StatusConflict, api.ProblemStaleFence, "the lease has ended: nothing was written")
	case errors.Is(err, store.ErrSpawnTaken):
		return newFault(http.StatusConflict, api.ProblemSpawnTaken, "another worker has joined as this spawn: exit")
	case errors.Is(err, store.ErrUnknownSpawn):
		return newFault(http.StatusGone, api.ProblemGone, "this spawn is unknown or has ended: exit")
	case errors.Is(err, store.ErrUnavailable), errors.Is(err, context.DeadlineExceeded):
		f = newFault(http.StatusServiceUnavailable, "", "the database cannot answer now: try again")
		f.headers = http.Header{"Retry-After": {strconv.Itoa(retryAfterSeconds)}}
	default:
		f = newFault(http.StatusInternalServerError, "", "an error of ours; the log has it under the request's id")
	}
	f.err = err
	return f
}

// stripProblem takes out of validation errors what a client has sent: a malformed body of megabytes comes not back with its error.
func stripProblem(_ huma.Context, _ string, v any) (any, error) {
	const most = 20
	m, ok := v.(*huma.ErrorModel)
	if !ok {
		return v, nil
	}
	if len(m.Errors) > most {
		m.Errors = m.Errors[:most]
	}
	for _, e := range m.Errors {
		if e != nil {
			e.Value = nil
		}
	}
	return m, nil
}
