package postgres

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"gmaps-scraper/job"
	"gmaps-scraper/store"
)

// limitReached is the Reason of a job that has all the places that it may have.
const limitReached = "max results reached"

const (
	replayed     = `SELECT new, duplicates FROM submits WHERE fence = $1 AND digest = $2`
	foreignTasks = `SELECT of_place.id FROM unnest($2::bigint[]) AS of_place (id) WHERE NOT EXISTS (
		SELECT 1 FROM tasks WHERE tasks.id = of_place.id AND job_key = (SELECT job_key FROM leases WHERE fence = $1)) LIMIT 1`
	heldTasks = `SELECT ` + taskColumns + ` FROM tasks WHERE id = ANY($2) AND fence = $1 AND state = 'leased'`
	// A job that these places may take to its limit gets none of them this way.
	insertPlaces = `INSERT INTO results (job_key, found_at, task_id, place_key, rating, website, phone, country, city, category, search, place)
		SELECT held.key, held.now, new.* FROM
			(SELECT key, gmaps_now() AS now FROM jobs WHERE key = (SELECT job_key FROM leases WHERE fence = $1)
				AND (max_results = 0 OR places + cardinality($2::bigint[]) <= max_results) OFFSET 0) AS held,
			unnest($2::bigint[], $3::text[], $4::float8[], $5::boolean[], $6::boolean[], $7::text[], $8::text[], $9::text[], $10::text[], $11::text[]) AS new
		ON CONFLICT (job_key, place_key) DO NOTHING`
	insertFresh = `INSERT INTO results (job_key, found_at, task_id, place_key, rating, website, phone, country, city, category, search, place)
		SELECT $1::bigint, $12::bigint, new.* FROM
			unnest($2::bigint[], $3::text[], $4::float8[], $5::boolean[], $6::boolean[], $7::text[], $8::text[], $9::text[], $10::text[], $11::text[]) AS new
		ON CONFLICT (job_key, place_key) DO NOTHING`
	knownPlaces = `SELECT place_key FROM results WHERE job_key = $1 AND place_key = ANY($2)`
	acknowledge = `INSERT INTO submits (fence, digest, new, duplicates, at) VALUES ($1, $2, $3, $4, $5)`
)

// Submit implements store.Store. A replay is known by its content: it is answered as the first time, and counts nothing twice,
// also when its lease has ended since. A place is taken from any task of the lease's job, a step only from a task that f still holds.
// It asks and stores in one round trip; what turns out not to be allowed is rolled back.
func (s *Store) Submit(ctx context.Context, f job.Fence, b job.Batch) (ack job.Ack, err error) {
	in, err := encode(b)
	if err != nil {
		return job.Ack{}, fmt.Errorf("submit under lease %d: %w", f, err)
	}
	err = s.write(ctx, func(ctx context.Context, t *tx) error {
		ack, err = t.submit(ctx, f, in)
		return err
	})
	if errors.Is(err, errReplayed) {
		err = nil
	}
	if err != nil {
		return job.Ack{}, fmt.Errorf("submit under lease %d: %w", f, err)
	}
	return ack, nil
}

// errReplayed has a transaction rolled back whose batch was acknowledged before.
var errReplayed = errors.New("replayed")

func (t *tx) submit(ctx context.Context, f job.Fence, in *batch) (ack job.Ack, err error) {
	var (
		acks    []job.Ack
		foreign []int64
		held    []taskRow
		fresh   int
	)
	answer := t.lockLease(f)
	ask(t, &acks, scanAck, replayed, int64(f), in.digest)
	if len(in.steps) > 0 {
		ask(t, &held, scanTask, heldTasks, int64(f), in.stepIDs())
	}
	if n := len(in.places.keys); n > 0 {
		ask(t, &foreign, scanInt, foreignTasks, int64(f), in.finders)
		t.changed(&fresh, insertPlaces, append([]any{int64(f)}, in.places.columns()...)...)
	}
	if err := t.flush(ctx); err != nil {
		return job.Ack{}, err
	}
	l, err := answer.row()
	switch {
	case err != nil:
		return job.Ack{}, err
	case len(acks) > 0:
		acks[0].Order = l.order()
		return acks[0], errReplayed
	case !l.live(t.now):
		return job.Ack{}, l.stale()
	case len(foreign) > 0:
		return job.Ack{}, fmt.Errorf("task %d is not of the lease's job: %w", foreign[0], store.ErrStaleFence)
	}
	ack.New, ack.Duplicates = fresh, len(in.places.keys)-fresh
	if l.job.maxResults > 0 && l.job.places+len(in.places.keys) > l.job.maxResults {
		if ack.New, ack.Duplicates, err = t.fill(ctx, &l.job, in); err != nil {
			return job.Ack{}, err
		}
	}
	if err := t.steps(ctx, &l, held, in.steps, counts{places: ack.New, duplicates: ack.Duplicates}); err != nil {
		return job.Ack{}, err
	}
	ack.Order = l.order()
	t.exec(acknowledge, int64(f), in.digest, ack.New, ack.Duplicates, t.now)
	return ack, nil
}

func scanAck(r scanner) (a job.Ack, err error) {
	err = r.Scan(&a.New, &a.Duplicates)
	return a, err
}

// fill stores places in their order until the job has as many as it may have. What comes after is not looked at.
func (t *tx) fill(ctx context.Context, j *jobRow, in *batch) (fresh, duplicates int, err error) {
	var there []string
	ask(t, &there, scanText, knownPlaces, j.key, in.places.keys)
	if err := t.flush(ctx); err != nil {
		return 0, 0, err
	}
	known := make(map[string]bool, len(there))
	for _, key := range there {
		known[key] = true
	}
	var take placeColumns
	for _, r := range in.rows {
		if j.places+fresh >= j.maxResults {
			break
		}
		if known[r.Key] {
			duplicates++
			continue
		}
		known[r.Key] = true
		fresh++
		take.add(r)
	}
	if fresh > 0 {
		t.exec(insertFresh, append(append([]any{j.key}, take.columns()...), t.now)...)
	}
	return fresh, duplicates, nil
}

// batch is a job.Batch as it is stored.
type batch struct {
	rows    []store.PlaceRow
	places  placeColumns // the rows
	finders []int64      // the tasks of places, each once
	steps   []job.TaskStep
	digest  []byte
}

func (b *batch) stepIDs() []int64 {
	ids := make([]int64, len(b.steps))
	for i, step := range b.steps {
		ids[i] = int64(step.TaskID)
	}
	return ids
}

// placeColumns are places as unnest takes them.
type placeColumns struct {
	tasks                                 []int64
	keys                                  []string
	ratings                               []float64
	websites, phones                      []bool
	countries, cities, categories, search []string
	json                                  []string
}

// grow makes room for n places more.
func (c *placeColumns) grow(n int) {
	c.tasks, c.ratings = slices.Grow(c.tasks, n), slices.Grow(c.ratings, n)
	c.websites, c.phones = slices.Grow(c.websites, n), slices.Grow(c.phones, n)
	for _, texts := range []*[]string{&c.keys, &c.countries, &c.cities, &c.categories, &c.search, &c.json} {
		*texts = slices.Grow(*texts, n)
	}
}

func (c *placeColumns) add(r store.PlaceRow) {
	c.tasks, c.keys, c.ratings = append(c.tasks, int64(r.Task)), append(c.keys, r.Key), append(c.ratings, r.Rating)
	c.websites, c.phones = append(c.websites, r.Website), append(c.phones, r.Phone)
	c.countries, c.cities, c.categories = append(c.countries, r.Country), append(c.cities, r.City), append(c.categories, r.Category)
	c.search, c.json = append(c.search, r.Search), append(c.json, r.JSON)
}

func (c *placeColumns) columns() []any {
	return []any{c.tasks, c.keys, c.ratings, c.websites, c.phones, c.countries, c.cities, c.categories, c.search, c.json}
}

// encode prepares a batch outside of the transaction.
func encode(b job.Batch) (*batch, error) {
	rows, digest, err := store.Encode(b)
	if err != nil {
		return nil, err
	}
	in := &batch{rows: rows, steps: b.Tasks, digest: digest}
	in.places.grow(len(rows))
	finders := make(map[job.TaskID]bool)
	for i := range rows {
		r := &rows[i]
		if !finders[r.Task] {
			finders[r.Task] = true
			in.finders = append(in.finders, int64(r.Task))
		}
		r.Key = soundText(r.Key)
		in.places.add(*r)
	}
	return in, nil
}
