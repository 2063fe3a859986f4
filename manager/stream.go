package manager

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"reflect"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"gmaps-scraper/api"
	"gmaps-scraper/job"
)

const (
	// streamPause is the least time between two looks at a job: at most four events a second.
	streamPause = 250 * time.Millisecond
	// streamTick is the most: counts move without a ring.
	streamTick = time.Second
	// heartbeat keeps proxies from closing a quiet stream, and finds out that nobody listens.
	heartbeat = 15 * time.Second
)

func (m *Manager) registerStream(a huma.API) {
	op := operation("jobs", "streamJob", http.MethodGet, api.PathStream, "Follow a job's progress")
	op.Description = "Events `progress` come when something has changed, at most four a second; the event `end` is the last. Reconnect when the stream ends without it."
	delete(op.Metadata, metaTime)
	progress := a.OpenAPI().Components.Schemas.Schema(reflect.TypeFor[api.Progress](), true, "Progress")
	op.Responses = map[string]*huma.Response{"200": {
		Description: "server-sent events; the data of each is a Progress",
		Content:     map[string]*huma.MediaType{"text/event-stream": {Schema: progress}},
	}}
	handle(m, a, op, func(ctx context.Context, in *JobPath) (*huma.StreamResponse, error) {
		j, err := m.store.JobHead(ctx, job.ID(in.ID))
		if err != nil {
			return nil, err
		}
		return &huma.StreamResponse{Body: func(c huma.Context) {
			c.SetHeader("Content-Type", "text/event-stream")
			c.SetHeader("X-Accel-Buffering", "no") // nginx would gather events
			_, w := humago.Unwrap(c)
			if err := m.follow(c.Context(), &eventWriter{out: newSteadyWriter(w)}, j); err != nil && c.Context().Err() == nil {
				m.log.DebugContext(c.Context(), "stream broke off", "job", j.ID, "request", requestID(c.Context()), "err", err)
			}
		}}, nil
	})
}

// follow writes a job's progress until the job ends, the Manager stops or nobody listens.
func (m *Manager) follow(ctx context.Context, w *eventWriter, j job.Job) error {
	if err := w.retry(2 * time.Second); err != nil {
		return err
	}
	var (
		last  api.Progress
		first = true
		beat  = time.NewTicker(heartbeat)
	)
	defer beat.Stop()
	for {
		next := m.bell.Next() // before the look, so that no ring falls between
		if !first {
			var err error
			if j, err = m.look(ctx, j.ID); err != nil {
				return err
			}
		}
		p := api.Progress{State: j.State, Counts: j.Counts, Waiting: j.Waiting, Partial: j.Partial, Reason: j.Reason}
		if first || p != last {
			if err := w.event("progress", p); err != nil {
				return err
			}
		}
		if j.State.Terminal() {
			return w.event("end", p)
		}
		first, last = false, p
		if err := m.pause(ctx, w, next, beat.C); err != nil {
			return err
		}
	}
}

// errStopping ends streams: the client connects again, to whoever is there then.
var errStopping = errors.New("the manager stops")

// pause waits for a ring, but neither less than streamPause nor more than streamTick.
func (m *Manager) pause(ctx context.Context, w *eventWriter, ring <-chan struct{}, beat <-chan time.Time) error {
	least, most := time.NewTimer(streamPause), time.NewTimer(streamTick)
	defer least.Stop()
	defer most.Stop()
	for rested, rung := false, false; !rested || !rung; {
		select {
		case <-ring:
			rung, ring = true, nil
		case <-least.C:
			rested = true
		case <-most.C:
			return nil
		case <-beat:
			if err := w.comment(); err != nil {
				return err
			}
		case <-m.stopping:
			return errStopping
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

func (m *Manager) look(ctx context.Context, id job.ID) (job.Job, error) {
	ctx, cancel := context.WithTimeout(ctx, handlerTime)
	defer cancel()
	return m.store.JobHead(ctx, id)
}

// eventWriter writes server-sent events (HTML Living Standard, 9.2).
type eventWriter struct{ out *steadyWriter }

func (w *eventWriter) event(name string, data any) error {
	b, err := json.Marshal(data) // one line
	if err != nil {
		return fmt.Errorf("write event: %w", err)
	}
	return w.send("event: " + name + "\ndata: " + string(b) + "\n\n")
}

func (w *eventWriter) comment() error { return w.send(":\n\n") }

// retry tells browsers how long to wait before they reconnect.
func (w *eventWriter) retry(d time.Duration) error {
	return w.send(fmt.Sprintf("retry: %d\n\n", d.Milliseconds()))
}

func (w *eventWriter) send(text string) error {
	if _, err := io.WriteString(w.out, text); err != nil {
		return fmt.Errorf("write event: %w", err)
	}
	if err := w.out.Flush(); err != nil {
		return fmt.Errorf("send event: %w", err)
	}
	return nil
}
