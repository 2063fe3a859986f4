package postgres

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"

	"gmaps-scraper/job"
	"gmaps-scraper/store"
)

// event appends a line to the timeline of a job whose row is locked. Data may be nil.
func (t *tx) event(key int64, kind job.EventKind, text string, data map[string]any) {
	const appendEvent = `INSERT INTO events (job_key, at, kind, text, data) VALUES ($1, $2, $3, $4, $5)`
	t.exec(appendEvent, key, t.now, kind, text, facts(data))
}

// facts writes the facts of an event, which are our own: texts, numbers and bools, that always have a form in JSON.
func facts(data map[string]any) string {
	if data == nil {
		return ""
	}
	body, err := json.Marshal(data)
	if err != nil {
		panic(fmt.Sprintf("facts of an event: %v", err))
	}
	return string(body)
}

const (
	defaultEvents = 100
	eventsAfter   = `SELECT id, at, kind, text, data FROM events WHERE job_key = (SELECT key FROM jobs WHERE id = $1) AND id > $2 ORDER BY id LIMIT $3`
)

// Events implements store.Store. Limit 0: 100.
func (s *Store) Events(ctx context.Context, id job.ID, after int64, limit int) (events []job.Event, err error) {
	scan := func(r scanner) (job.Event, error) {
		e := job.Event{JobID: id}
		var at int64
		var data []byte
		err := r.Scan(&e.ID, &at, &e.Kind, &e.Text, &data)
		e.At = fromMicros(at)
		if len(data) > 0 {
			e.Data = data
		}
		return e, err
	}
	var known []int64
	err = s.read(ctx, func(r *reading) {
		read(r, &known, scanInt, keyOfJob, id)
		read(r, &events, scan, eventsAfter, id, after, cmp.Or(max(limit, 0), defaultEvents))
	})
	if err == nil && len(known) == 0 {
		err = store.ErrNotFound
	}
	if err != nil {
		return nil, fmt.Errorf("events of job %s: %w", id, err)
	}
	return events, nil
}
