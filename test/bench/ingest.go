package main

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"runtime"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"golang.org/x/sync/errgroup"

	"gmaps-scraper/api"
	"gmaps-scraper/job"
	"gmaps-scraper/manager"
	"gmaps-scraper/store/postgres"
)

// What a turn of benchIngest stores: each writer is a worker with a job of its own, that hands in batches as workers do.
const (
	ingestWriters = 4
	ingestBatches = 10 // of each writer
	ingestPlaces  = 200
)

// benchIngest is B5. Ours goes over TCP, gzipped, and comes to rest in the results of a job under its lease; bodies are encoded
// beforehand, since that is the workers' time. The baseline inserts the very rows that ours made of them into a copy of the same table.
func benchIngest(ctx context.Context, rounds int) (result, error) {
	return withDatabase(ctx, func(d *database) (_ result, err error) {
		s, err := postgres.Open(ctx, d.dsn, postgres.Config{})
		if err != nil {
			return result{}, err
		}
		defer func() { err = errors.Join(err, s.Close()) }()
		m, err := manager.New(ctx, manager.Config{Store: s, Bell: s.Bell(ctx), Leader: s, Open: true})
		if err != nil {
			return result{}, err
		}
		base, stop, err := listen(m.Handler())
		if err != nil {
			return result{}, err
		}
		defer stop()
		raw, err := newRawTable(ctx, d.dsn)
		if err != nil {
			return result{}, err
		}
		defer raw.pool.Close()
		return compareIngest(ctx, rounds, &ingest{store: s, base: base, http: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: ingestWriters}}}, raw)
	})
}

func compareIngest(ctx context.Context, rounds int, ours *ingest, raw *rawTable) (result, error) {
	jobs, _, err := ours.turn(ctx)
	if err != nil {
		return result{}, fmt.Errorf("warm up: %w", err)
	}
	if err := raw.load(ctx, jobs); err != nil {
		return result{}, err
	}
	if _, err := raw.turn(ctx); err != nil {
		return result{}, fmt.Errorf("warm up: %w", err)
	}
	const turns = 3
	r := ratio{name: "rows/s", goal: atLeast(0.8)}
	var a, b time.Duration
	for range rounds {
		a, b = 0, 0
		for range turns {
			_, took, err := ours.turn(ctx)
			if err != nil {
				return result{}, err
			}
			a += took
			if took, err = raw.turn(ctx); err != nil {
				return result{}, fmt.Errorf("baseline: %w", err)
			}
			b += took
		}
		r.samples = append(r.samples, b.Seconds()/a.Seconds())
	}
	const rows = turns * ingestWriters * ingestBatches * ingestPlaces
	return result{ratios: []ratio{r}, notes: []string{
		fmt.Sprintf("last round, %d writers, batches of %d: ours %.0f rows/s, baseline %.0f; %.1f kB a place, %.1f gzipped",
			ingestWriters, ingestPlaces, rows/a.Seconds(), rows/b.Seconds(), ours.size/1e3, ours.zipped/1e3),
	}}, nil
}

// ingest hands places in as workers do.
type ingest struct {
	store        *postgres.Store
	base         string
	http         *http.Client
	turns        int
	size, zipped float64 // bytes a place, of the last batch encoded
}

// submission is one worker's session and its bodies.
type submission struct {
	session, path string
	bodies        [][]byte
}

// turn stores the same places for new jobs, and returns those and the time that the handing in took.
func (in *ingest) turn(ctx context.Context) (jobs []job.ID, took time.Duration, err error) {
	in.turns++
	subs := make([]submission, ingestWriters)
	for i := range subs {
		id, sub, err := in.prepare(ctx, i)
		if err != nil {
			return nil, 0, err
		}
		jobs, subs[i] = append(jobs, id), sub
	}
	runtime.GC() // what the preparation left
	begin := time.Now()
	group, ctx := errgroup.WithContext(ctx)
	for _, sub := range subs {
		group.Go(func() error {
			for _, body := range sub.bodies {
				if err := in.post(ctx, sub, body); err != nil {
					return err
				}
			}
			return nil
		})
	}
	err = group.Wait()
	return jobs, time.Since(begin), err
}

// prepare makes a job and a worker that has leased it, and encodes what that worker hands in.
func (in *ingest) prepare(ctx context.Context, writer int) (id job.ID, sub submission, err error) {
	client, err := api.NewClient(in.base, "", in.http.Transport)
	if err != nil {
		return "", sub, err
	}
	j, err := queue(ctx, in.store, "coffee in Limassol")
	if err != nil {
		return "", sub, err
	}
	joined, err := client.Join(ctx, api.Join{Nonce: fmt.Sprintf("bench-%08d-%08d", in.turns, writer), Concurrency: 1})
	if err != nil {
		return "", sub, err
	}
	answer, err := client.Lease(ctx, api.LeaseRequest{Max: 1})
	switch {
	case err != nil:
		return "", sub, err
	case answer.Lease == nil || answer.Lease.JobID != j.ID:
		return "", sub, fmt.Errorf("job %s was not leased", j.ID)
	}
	sub = submission{session: joined.Session, path: strings.Replace(api.PathSubmit, "{fence}", fmt.Sprint(answer.Lease.Fence), 1)}
	for n := range ingestBatches {
		body, err := in.encode(answer.Lease.Tasks[0].ID, (writer*ingestBatches+n)*ingestPlaces)
		if err != nil {
			return "", sub, err
		}
		sub.bodies = append(sub.bodies, body)
	}
	return j.ID, sub, nil
}

// encode is what api.Client does.
func (in *ingest) encode(task job.TaskID, from int) ([]byte, error) {
	b := job.Batch{Places: make([]job.Found, ingestPlaces)}
	for i := range b.Places {
		b.Places[i] = job.Found{TaskID: task, Place: listed(from + i)}
	}
	plain, err := json.Marshal(b)
	if err != nil {
		return nil, err
	}
	var body bytes.Buffer
	z, err := gzip.NewWriterLevel(&body, gzip.BestSpeed)
	if err != nil {
		return nil, err
	}
	if _, err := z.Write(plain); err != nil {
		return nil, err
	}
	if err := z.Close(); err != nil {
		return nil, err
	}
	in.size, in.zipped = float64(len(plain))/ingestPlaces, float64(body.Len())/ingestPlaces
	return body.Bytes(), nil
}

func (in *ingest) post(ctx context.Context, sub submission, body []byte) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, in.base+sub.path, bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header = http.Header{"Content-Type": {"application/json"}, "Content-Encoding": {"gzip"}, "Authorization": {"Bearer " + sub.session}}
	res, err := in.http.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	answer, err := io.ReadAll(res.Body)
	if err != nil {
		return err
	}
	var ack job.Ack
	if err := json.Unmarshal(answer, &ack); err != nil || ack.New != ingestPlaces {
		return fmt.Errorf("%s: %s", res.Status, answer)
	}
	return nil
}

// rawTable is the baseline: a table of the same shape, and no more than the insert that is needed.
type rawTable struct {
	pool    *pgxpool.Pool
	job     int64
	batches [][][]any // of each writer, the columns of each batch
}

func newRawTable(ctx context.Context, dsn string) (*rawTable, error) {
	cfg, err := pgxpool.ParseConfig(dsn)
	if err != nil {
		return nil, err
	}
	cfg.MaxConns = max(cfg.MaxConns, ingestWriters)
	pool, err := pgxpool.NewWithConfig(ctx, cfg)
	if err != nil {
		return nil, err
	}
	if _, err := pool.Exec(ctx, `CREATE TABLE raw (LIKE results INCLUDING ALL)`); err != nil {
		pool.Close()
		return nil, err
	}
	return &rawTable{pool: pool}, nil
}

// load takes over the rows that ours has stored for jobs.
func (raw *rawTable) load(ctx context.Context, jobs []job.ID) error {
	const rowsOfJob = `SELECT task_id, place_key, rating, website, phone, country, city, category, search, place FROM results
		WHERE job_key = (SELECT key FROM jobs WHERE id = $1) ORDER BY seq`
	for _, id := range jobs {
		var tasks []int64
		var ratings []float64
		var websites, phones []bool
		var texts [6][]string // place_key, country, city, category, search, place
		rows, err := raw.pool.Query(ctx, rowsOfJob, id)
		if err != nil {
			return err
		}
		var task int64
		var rating float64
		var website, phone bool
		var t [6]string
		_, err = pgx.ForEachRow(rows, []any{&task, &t[0], &rating, &website, &phone, &t[1], &t[2], &t[3], &t[4], &t[5]}, func() error {
			tasks, ratings, websites, phones = append(tasks, task), append(ratings, rating), append(websites, website), append(phones, phone)
			for i := range t {
				texts[i] = append(texts[i], t[i])
			}
			return nil
		})
		if err != nil {
			return err
		}
		if len(tasks) != ingestBatches*ingestPlaces {
			return fmt.Errorf("job %s has %d results", id, len(tasks))
		}
		var batches [][]any
		for from := 0; from < len(tasks); from += ingestPlaces {
			to := from + ingestPlaces
			batches = append(batches, []any{tasks[from:to], texts[0][from:to], ratings[from:to], websites[from:to], phones[from:to],
				texts[1][from:to], texts[2][from:to], texts[3][from:to], texts[4][from:to], texts[5][from:to]})
		}
		raw.batches = append(raw.batches, batches)
	}
	return nil
}

// turn inserts all batches as the rows of new jobs.
func (raw *rawTable) turn(ctx context.Context) (time.Duration, error) {
	const insert = `INSERT INTO raw (job_key, found_at, task_id, place_key, rating, website, phone, country, city, category, search, place)
		SELECT $1::bigint, $2::bigint, new.* FROM
			unnest($3::bigint[], $4::text[], $5::float8[], $6::boolean[], $7::boolean[], $8::text[], $9::text[], $10::text[], $11::text[], $12::text[]) AS new
		ON CONFLICT DO NOTHING`
	runtime.GC()
	begin := time.Now()
	group, ctx := errgroup.WithContext(ctx)
	for _, batches := range raw.batches {
		raw.job++
		key := raw.job
		group.Go(func() error {
			for _, columns := range batches {
				tag, err := raw.pool.Exec(ctx, insert, append([]any{key, begin.UnixMicro()}, columns...)...)
				if err != nil {
					return err
				}
				if tag.RowsAffected() != ingestPlaces {
					return fmt.Errorf("%d rows of %d were new", tag.RowsAffected(), ingestPlaces)
				}
			}
			return nil
		})
	}
	err := group.Wait()
	return time.Since(begin), err
}
