package sqlite

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"

	"gmaps-scraper/job"
)

// event appends a line to a job's timeline. Data may be nil.
func (t *tx) event(ctx context.Context, key int64, kind job.EventKind, text string, data map[string]any) error {
	const appendEvent = `INSERT INTO events (job_key, at, kind, text, data) VALUES (?, ?, ?, ?, ?)`
	facts := []byte(nil)
	if data != nil {
		var err error
		if facts, err = json.Marshal(data); err != nil {
			return fmt.Errorf("write event %s: %w", kind, err)
		}
	}
	_, err := t.exec(ctx, appendEvent, key, t.now, kind, text, string(facts))
	return err
}

const (
	defaultEvents = 100
	eventsAfter   = `SELECT id, at, kind, text, data FROM events WHERE job_key = ? AND id > ? ORDER BY id LIMIT ?`
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
	err = s.read(ctx, func(q querier) error {
		key, err := jobKey(ctx, q, id)
		if err != nil {
			return err
		}
		events, err = collect(ctx, q, scan, eventsAfter, key, after, cmp.Or(max(limit, 0), defaultEvents))
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("events of job %s: %w", id, err)
	}
	return events, nil
}
