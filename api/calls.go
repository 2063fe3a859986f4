package api

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"iter"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"gmaps-scraper/job"
)

// Create makes a job. The same idempotencyKey with the same body returns the job made before; empty: every call makes one.
func (c *Client) Create(ctx context.Context, n NewJob, idempotencyKey string) (job.Job, error) {
	var j job.Job
	r := call{method: http.MethodPost, path: PathJobs, body: n, gzip: true, timeout: wholeTimeout}
	if idempotencyKey != "" {
		r.header = http.Header{HeaderIdempotencyKey: {idempotencyKey}}
	}
	err := c.do(ctx, r, &j)
	return j, err
}

// Jobs returns a page of jobs, newest first.
func (c *Client) Jobs(ctx context.Context, q JobQuery) (JobPage, error) {
	return get[JobPage](ctx, c, PathJobs, q.values())
}

// Job returns one job, without its inputs.
func (c *Client) Job(ctx context.Context, id job.ID) (job.Job, error) {
	return get[job.Job](ctx, c, expand(PathJob, string(id)), nil)
}

// Cancel ends a job and stops its workers. On one that has ended it changes nothing.
func (c *Client) Cancel(ctx context.Context, id job.ID) (job.Job, error) {
	return c.act(ctx, PathCancel, id)
}

// Pause stops a job's work until Resume.
func (c *Client) Pause(ctx context.Context, id job.ID) (job.Job, error) {
	return c.act(ctx, PathPause, id)
}

// Resume undoes Pause.
func (c *Client) Resume(ctx context.Context, id job.ID) (job.Job, error) {
	return c.act(ctx, PathResume, id)
}

// Retry opens the dead and skipped tasks of a job again.
func (c *Client) Retry(ctx context.Context, id job.ID) (job.Job, error) {
	return c.act(ctx, PathRetry, id)
}

func (c *Client) act(ctx context.Context, path string, id job.ID) (job.Job, error) {
	var j job.Job
	err := c.do(ctx, call{method: http.MethodPost, path: expand(path, string(id)), timeout: wholeTimeout}, &j)
	return j, err
}

// Delete removes a job that has ended, with all that belongs to it.
func (c *Client) Delete(ctx context.Context, id job.ID) error {
	return c.do(ctx, call{method: http.MethodDelete, path: expand(PathJob, string(id))}, nil)
}

// Tasks returns a page of a job's tasks.
func (c *Client) Tasks(ctx context.Context, id job.ID, q TaskQuery) (TaskPage, error) {
	return get[TaskPage](ctx, c, expand(PathTasks, string(id)), q.values())
}

// Events returns a page of a job's timeline.
func (c *Client) Events(ctx context.Context, id job.ID, q EventQuery) (EventPage, error) {
	return get[EventPage](ctx, c, expand(PathEvents, string(id)), q.values())
}

// Results returns a page of a job's results in the order in which they were stored.
func (c *Client) Results(ctx context.Context, id job.ID, q ResultQuery) (ResultPage, error) {
	return get[ResultPage](ctx, c, expand(PathResults, string(id)), q.values())
}

// Spawns returns a page of spawns, newest first.
func (c *Client) Spawns(ctx context.Context, q SpawnQuery) (SpawnPage, error) {
	return get[SpawnPage](ctx, c, PathSpawns, q.values())
}

// Spawn returns one spawn.
func (c *Client) Spawn(ctx context.Context, id job.SpawnID) (job.Spawn, error) {
	return get[job.Spawn](ctx, c, expand(PathSpawn, string(id)), nil)
}

// Stats returns the sums over all jobs.
func (c *Client) Stats(ctx context.Context) (Stats, error) {
	return get[Stats](ctx, c, PathStats, nil)
}

func get[T any](ctx context.Context, c *Client, path string, q url.Values) (T, error) {
	var out T
	err := c.do(ctx, call{method: http.MethodGet, path: path, query: q}, &out)
	return out, err
}

// Export streams all results of a job in a format of package export; columns nil is all of them. The caller closes the stream.
// It has no timeout but ctx. A stream that breaks off ends in an error, never in io.EOF.
func (c *Client) Export(ctx context.Context, id job.ID, format string, columns []string) (io.ReadCloser, error) {
	q := url.Values{"format": {format}}
	setText(q, "columns", strings.Join(columns, ","))
	res, err := c.open(ctx, call{method: http.MethodGet, path: expand(PathExport, string(id)), query: q})
	if err != nil {
		return nil, err
	}
	return res.Body, nil
}

// Stream yields a job's progress as it changes and ends when the Manager ends it: the job is terminal, and the last Progress said so.
// An error is the last element. It has no timeout but ctx.
func (c *Client) Stream(ctx context.Context, id job.ID) iter.Seq2[Progress, error] {
	return func(yield func(Progress, error) bool) {
		res, err := c.open(ctx, call{
			method: http.MethodGet, path: expand(PathStream, string(id)),
			header: http.Header{"Accept": {"text/event-stream"}},
		})
		if err != nil {
			yield(Progress{}, err)
			return
		}
		defer res.Body.Close()
		for data, err := range progressEvents(res.Body) {
			var p Progress
			if err == nil {
				if err = json.Unmarshal(data, &p); err != nil {
					err = fmt.Errorf("decode progress: %w", err)
				}
			}
			if !yield(p, err) || err != nil {
				return
			}
		}
	}
}

const maxEventBytes = 1 << 20

// progressEvents yields the data of the events "progress" of a text/event-stream (HTML Living Standard, 9.2.6).
func progressEvents(r io.Reader) iter.Seq2[[]byte, error] {
	return func(yield func([]byte, error) bool) {
		lines := bufio.NewScanner(r)
		lines.Buffer(make([]byte, 0, 4<<10), maxEventBytes)
		var name string
		var data []byte
		for lines.Scan() {
			line := bytes.TrimSuffix(lines.Bytes(), []byte("\r"))
			if len(line) == 0 {
				if name == "progress" && len(data) > 0 && !yield(data, nil) {
					return
				}
				name, data = "", nil
				continue
			}
			field, value, _ := bytes.Cut(line, []byte(":"))
			value = bytes.TrimPrefix(value, []byte(" "))
			switch string(field) {
			case "event":
				name = string(value)
			case "data":
				data = append(append(data, value...), '\n')
			}
		}
		if err := lines.Err(); err != nil {
			yield(nil, fmt.Errorf("read stream: %w", err))
		}
	}
}

// Join exchanges the client's key (a spawn's one-time token, or an API key) for a session, which the worker calls of this client
// use from then on. IsSpawnTaken, IsGone.
func (c *Client) Join(ctx context.Context, j Join) (Joined, error) {
	var out Joined
	if err := c.do(ctx, call{method: http.MethodPost, path: PathWorkerJoin, body: j}, &out); err != nil {
		return Joined{}, err
	}
	session := Secret(out.Session)
	c.session.Store(&session)
	return out, nil
}

// Lease asks for work and waits for some up to r.Wait. IsGone.
func (c *Client) Lease(ctx context.Context, r LeaseRequest) (LeaseAnswer, error) {
	var out LeaseAnswer
	err := c.work(ctx, call{path: PathLeases, body: r, timeout: time.Duration(r.Wait) + pollSlack}, &out)
	return out, err
}

// Renew is the heartbeat of a lease and says what to do with it. IsStale.
func (c *Client) Renew(ctx context.Context, f job.Fence) (OrderAnswer, error) {
	var out OrderAnswer
	err := c.work(ctx, call{path: fencePath(PathRenew, f)}, &out)
	return out, err
}

// Submit hands in a batch under a fence: all of it or nothing. A repeat changes nothing. IsStale, IsTooLarge.
func (c *Client) Submit(ctx context.Context, f job.Fence, b job.Batch) (job.Ack, error) {
	var out job.Ack
	err := c.work(ctx, call{path: fencePath(PathSubmit, f), body: b, gzip: true}, &out)
	return out, err
}

// HandBack opens the remaining tasks of a lease again, with the cursors in h. It is no error on a lease that has ended.
func (c *Client) HandBack(ctx context.Context, f job.Fence, h HandBack) error {
	return c.work(ctx, call{path: fencePath(PathHandBack, f), body: h}, nil)
}

// Leave says goodbye: the spawn ends, and what its worker still held opens again. IsGone if its end is known already.
func (c *Client) Leave(ctx context.Context, l Leave) error {
	return c.work(ctx, call{path: PathLeave, body: l}, nil)
}

// work makes a call as the worker that has joined.
func (c *Client) work(ctx context.Context, r call, out any) error {
	r.method = http.MethodPost
	if s := c.session.Load(); s != nil {
		r.key = *s
	}
	return c.do(ctx, r, out)
}

func fencePath(path string, f job.Fence) string {
	return expand(path, strconv.FormatInt(int64(f), 10))
}
