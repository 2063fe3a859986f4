package manager

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"gmaps-scraper/api"
	"gmaps-scraper/export"
	"gmaps-scraper/job"
	"gmaps-scraper/store"
)

// exportPage is how many results an export holds in memory.
const exportPage = 500

func (m *Manager) registerResults(a huma.API) {
	handle(m, a, operation("results", "listResults", http.MethodGet, api.PathResults, "List a job's results in the order in which they were found"), m.listResults)

	op := operation("results", "exportResults", http.MethodGet, api.PathExport, "Download a job's results")
	op.Description = "The file is streamed as it is written. An answer that breaks off is not whole."
	delete(op.Metadata, metaTime)
	op.Responses = map[string]*huma.Response{"200": {Description: "the file", Content: map[string]*huma.MediaType{}}}
	for _, f := range export.Formats() {
		op.Responses["200"].Content[export.ContentType(f)] = &huma.MediaType{Schema: &huma.Schema{Type: huma.TypeString, Format: "binary"}}
	}
	handle(m, a, op, m.export)
}

// ResultParams are the conditions that results are selected by. They are exported for the reason of JobPath.
type ResultParams struct {
	Search    string  `query:"search" maxLength:"200" doc:"part of title, category, address, phone or website"`
	Category  string  `query:"category" maxLength:"200"`
	MinRating float64 `query:"min_rating" minimum:"0" maximum:"5"`
	City      string  `query:"city" maxLength:"200"`
	Country   string  `query:"country" maxLength:"2" doc:"ISO 3166-1 alpha-2"`
	Website   string  `query:"website" enum:"true,false" doc:"has one, has none"`
	Phone     string  `query:"phone" enum:"true,false" doc:"has one, has none"`
}

func (p ResultParams) filter() (store.ResultFilter, error) {
	err := plainParams("search", p.Search, "category", p.Category, "city", p.City, "country", p.Country)
	return store.ResultFilter{
		Search: p.Search, Category: p.Category, MinRating: p.MinRating, City: p.City, Country: strings.ToUpper(p.Country),
		Website: maybe(p.Website), Phone: maybe(p.Phone),
	}, err
}

// maybe reads a parameter that a schema holds to true, false or nothing.
func maybe(s string) *bool {
	if s == "" {
		return nil
	}
	b := s == "true"
	return &b
}

type resultsInput struct {
	JobPath
	ResultParams
	After int64 `query:"after" minimum:"0" doc:"next of the page before"`
	Limit int   `query:"limit" minimum:"1" maximum:"1000" default:"100"`
}

type resultsAnswer struct{ Body api.ResultPage }

func (m *Manager) listResults(ctx context.Context, in *resultsInput) (*resultsAnswer, error) {
	f, err := in.filter()
	if err != nil {
		return nil, err
	}
	if _, err := m.store.JobHead(ctx, job.ID(in.ID)); err != nil {
		return nil, err
	}
	f.After, f.Limit = in.After, in.Limit+1
	results, err := m.store.Results(ctx, job.ID(in.ID), f)
	if err != nil {
		return nil, err
	}
	var out resultsAnswer
	out.Body.Results, out.Body.Next = page(results, in.Limit, func(r job.Result) string { return strconv.FormatInt(r.Seq, 10) })
	return &out, nil
}

type exportInput struct {
	JobPath
	ResultParams
	Format  string `query:"format" default:"csv" maxLength:"20" doc:"csv, json, ndjson, xlsx, parquet or geojson"`
	Columns string `query:"columns" maxLength:"2000" doc:"names of columns, separated by commas; default: all"`
}

func (m *Manager) export(ctx context.Context, in *exportInput) (*huma.StreamResponse, error) {
	filter, err := in.filter()
	if err != nil {
		return nil, err
	}
	if formats := export.Formats(); !slices.Contains(formats, in.Format) {
		return nil, invalid("query.format", fmt.Sprintf("%q is none of %s", in.Format, strings.Join(formats, ", ")))
	}
	var opts export.Options
	if in.Columns != "" {
		opts.Columns = strings.Split(in.Columns, ",")
	}
	// Once for nothing: what is wrong with the columns must be said before the answer begins.
	trial, err := export.New(in.Format, io.Discard, opts)
	if err != nil {
		return nil, invalid("query.columns", err.Error())
	}
	if err := trial.Close(); err != nil {
		return nil, fmt.Errorf("try export: %w", err)
	}
	j, err := m.store.JobHead(ctx, job.ID(in.ID))
	if err != nil {
		return nil, err
	}
	return &huma.StreamResponse{Body: func(c huma.Context) {
		c.SetHeader("Content-Type", export.ContentType(in.Format))
		c.SetHeader("Content-Disposition", `attachment; filename="`+exportName(j, in.Format)+`"`)
		_, w := humago.Unwrap(c)
		if err := m.writeExport(c.Context(), newSteadyWriter(w), j.ID, in.Format, opts, filter); err != nil {
			m.log.WarnContext(c.Context(), "export broke off", "job", j.ID, "request", requestID(c.Context()), "err", err)
			panic(http.ErrAbortHandler) // the client must not take a part for the whole
		}
	}}, nil
}

// writeExport writes all results.
func (m *Manager) writeExport(ctx context.Context, w io.Writer, id job.ID, format string, opts export.Options, f store.ResultFilter) error {
	out, err := export.New(format, w, opts)
	if err != nil {
		return fmt.Errorf("begin %s: %w", format, err)
	}
	err = m.writeRows(ctx, out, id, f)
	if closed := out.Close(); err == nil && closed != nil {
		err = fmt.Errorf("end %s: %w", format, closed)
	}
	return err
}

// writeRows hands results on page by page, so that memory does not grow with their number.
func (m *Manager) writeRows(ctx context.Context, out export.Writer, id job.ID, f store.ResultFilter) error {
	for f.Limit = exportPage; ; {
		results, err := m.resultPage(ctx, id, f)
		if err != nil {
			return err
		}
		for _, r := range results {
			if err := out.Write(export.Row{InputID: r.InputID, Place: r.Place}); err != nil {
				return fmt.Errorf("write row %d: %w", r.Seq, err)
			}
		}
		if len(results) < exportPage {
			return nil
		}
		if err := out.Flush(); err != nil {
			return fmt.Errorf("write rows: %w", err)
		}
		f.After = results[len(results)-1].Seq
	}
}

func (m *Manager) resultPage(ctx context.Context, id job.ID, f store.ResultFilter) ([]job.Result, error) {
	ctx, cancel := context.WithTimeout(ctx, handlerTime)
	defer cancel()
	results, err := m.store.Results(ctx, id, f)
	if err != nil {
		return nil, fmt.Errorf("read results: %w", err)
	}
	return results, nil
}

// exportName is a file name of letters, digits and dashes alone, whatever the job is called.
func exportName(j job.Job, format string) string {
	const most = 60
	var b strings.Builder
	for _, r := range strings.ToLower(j.Spec.Name) {
		switch {
		case b.Len() >= most:
		case 'a' <= r && r <= 'z' || '0' <= r && r <= '9':
			b.WriteRune(r)
		case b.Len() > 0 && !strings.HasSuffix(b.String(), "-"):
			b.WriteByte('-')
		}
	}
	name := strings.Trim(b.String(), "-")
	if name == "" {
		name = "places"
	}
	return name + "-" + j.CreatedAt.UTC().Format(time.DateOnly) + "." + strings.TrimPrefix(export.Extension(format), ".")
}
