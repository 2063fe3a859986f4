package manager

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"reflect"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"gmaps-scraper/api"
	"gmaps-scraper/job"
)

// apiVersion is the version of the wire, not of the program.
const apiVersion = "1.0.0"

// newAPI makes an API on mux without operations. Nothing of it is global, and no page of it loads anything from elsewhere.
func newAPI(mux humago.Mux) huma.API {
	registry := huma.NewMapRegistry("#/components/schemas/", huma.DefaultSchemaNamer)
	registry.RegisterTypeAlias(reflect.TypeFor[job.Duration](), reflect.TypeFor[durationText]())
	registry.RegisterTypeAlias(reflect.TypeFor[job.State](), reflect.TypeFor[jobStateText]())
	registry.RegisterTypeAlias(reflect.TypeFor[job.TaskState](), reflect.TypeFor[taskStateText]())
	registry.RegisterTypeAlias(reflect.TypeFor[job.SpawnState](), reflect.TypeFor[spawnStateText]())
	registry.RegisterTypeAlias(reflect.TypeFor[job.Order](), reflect.TypeFor[orderText]())
	// What clients see of an error is a Problem: huma's own model has a field that echoes what was sent, and stripProblem empties it.
	registry.RegisterTypeAlias(reflect.TypeFor[huma.ErrorModel](), reflect.TypeFor[api.Problem]())
	config := huma.Config{
		OpenAPI: &huma.OpenAPI{
			OpenAPI: "3.1.0",
			Info: &huma.Info{
				Title:       "gmaps-scraper",
				Version:     apiVersion,
				Description: "Takes scraping jobs, shows how they come on, and hands their results out. Errors are problems as in RFC 9457. Lists are paged by key: pass `next` of a page to get the page after it.",
			},
			Components: &huma.Components{
				Schemas: registry,
				SecuritySchemes: map[string]*huma.SecurityScheme{
					"apiKey": {Type: "http", Scheme: "bearer", Description: "an API key"},
					"worker": {Type: "http", Scheme: "bearer", Description: "a worker's session, as joining gives it; joining itself takes a spawn's token or an API key"},
				},
			},
			Security: []map[string][]string{{"apiKey": {}}},
			Tags: []*huma.Tag{
				{Name: "jobs", Description: "what is to be scraped"},
				{Name: "results", Description: "what was found"},
				{Name: "spawns", Description: "the workers"},
				{Name: "worker", Description: "what workers call"},
			},
		},
		Formats:                      map[string]huma.Format{"application/json": jsonFormat, "json": jsonFormat},
		DefaultFormat:                "application/json",
		RejectUnknownQueryParameters: true,
		Transformers:                 []huma.Transformer{stripProblem},
	}
	a := humago.New(mux, config)
	a.UseMiddleware(readBody(a), limitTime)
	return a
}

// jsonFormat is huma's, but for batches of results, which are most of what a Manager reads.
var jsonFormat = huma.Format{Marshal: huma.DefaultJSONFormat.Marshal, Unmarshal: func(body []byte, into any) error {
	if b, ok := into.(*job.Batch); ok {
		return job.DecodeBatch(body, b)
	}
	return huma.DefaultJSONFormat.Unmarshal(body, into)
}}

// OpenAPI is the description of the API, OpenAPI 3.1 as YAML. It is the same text every time.
func OpenAPI() ([]byte, error) {
	a := newAPI(http.NewServeMux())
	(&Manager{}).register(a)
	b, err := a.OpenAPI().YAML()
	if err != nil {
		return nil, fmt.Errorf("write openapi: %w", err)
	}
	return b, nil
}

// operation is what all operations have in common.
func operation(tag, id, method, path, summary string) huma.Operation {
	return huma.Operation{
		OperationID: id, Method: method, Path: path, Summary: summary, Tags: []string{tag},
		MaxBodyBytes: -1, BodyReadTimeout: -1, // readBody has read it
		Metadata: map[string]any{metaTime: handlerTime, metaBody: int64(smallBody)},
	}
}

// handle registers an operation whose errors all go through problem.
func handle[I, O any](m *Manager, a huma.API, op huma.Operation, f func(context.Context, *I) (*O, error)) {
	huma.Register(a, op, func(ctx context.Context, in *I) (*O, error) {
		out, err := f(ctx, in)
		if err != nil {
			return nil, m.fail(ctx, err)
		}
		return out, nil
	})
}

// fail is the answer to an error. What is our own fault is logged in full, because the client is not told.
func (m *Manager) fail(ctx context.Context, err error) error {
	p := problem(err)
	if p.Status >= http.StatusInternalServerError && !errors.Is(context.Cause(ctx), context.Canceled) {
		m.log.ErrorContext(ctx, "request failed", "request", requestID(ctx), "err", err)
	}
	return p
}

// routesOpenAPI serves the description and a plain page that leads to it.
func routesOpenAPI(mux *http.ServeMux, a huma.API) error {
	asYAML, err := a.OpenAPI().YAML()
	if err != nil {
		return fmt.Errorf("write openapi: %w", err)
	}
	asJSON, err := a.OpenAPI().MarshalJSON()
	if err != nil {
		return fmt.Errorf("write openapi: %w", err)
	}
	mux.HandleFunc("GET /openapi.yaml", static("application/openapi+yaml", asYAML))
	mux.HandleFunc("GET /openapi.json", static("application/openapi+json", asJSON))
	mux.HandleFunc("GET /docs", static("text/html; charset=utf-8", []byte(docsPage)))
	return nil
}

func static(contentType string, body []byte) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", contentType)
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(body))
	}
}

const docsPage = `<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1"><title>API · gmaps-scraper</title>
<h1>API</h1>
<p>The API is described in OpenAPI 3.1: <a href="/openapi.yaml">openapi.yaml</a>, <a href="/openapi.json">openapi.json</a>. Any OpenAPI viewer or generator reads it.</p>
<p>Authenticate with <code>Authorization: Bearer KEY</code>.</p>
<pre>curl -H "Authorization: Bearer $KEY" -H "Content-Type: application/json" -d '{"lines":"coffee in Limassol"}' http://localhost:8080/api/v1/jobs</pre>
</html>
`

// The texts below stand for types of package job, which knows nothing of schemas.
type (
	durationText   string
	jobStateText   string
	taskStateText  string
	spawnStateText string
	orderText      string
)

// Schema describes a Go duration.
func (durationText) Schema(huma.Registry) *huma.Schema {
	return &huma.Schema{
		Type: huma.TypeString, Description: "a duration as Go writes it", Examples: []any{"1m30s"},
		Pattern: `^(0|-?([0-9]+(\.[0-9]+)?(ns|us|µs|ms|s|m|h))+)$`, PatternDescription: "a duration such as 90s or 1m30s",
	}
}

// Schema lists the states of a job.
func (jobStateText) Schema(huma.Registry) *huma.Schema {
	return oneOf(job.Pending, job.Running, job.Paused, job.Succeeded, job.Failed, job.Cancelled)
}

// Schema lists the states of a task.
func (taskStateText) Schema(huma.Registry) *huma.Schema {
	return oneOf(job.TaskOpen, job.TaskLeased, job.TaskDone, job.TaskDead, job.TaskSkipped)
}

// Schema lists the states of a spawn.
func (spawnStateText) Schema(huma.Registry) *huma.Schema {
	return oneOf(job.SpawnPending, job.SpawnStarted, job.SpawnRunning, job.SpawnStopping, job.SpawnEnded)
}

// Schema lists the orders.
func (orderText) Schema(huma.Registry) *huma.Schema {
	return oneOf(job.Continue, job.Drain, job.Cancel)
}

func oneOf[T ~string](values ...T) *huma.Schema {
	s := &huma.Schema{Type: huma.TypeString}
	for _, v := range values {
		s.Enum = append(s.Enum, string(v))
	}
	return s
}
