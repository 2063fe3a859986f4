package postgres

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"strings"

	"gmaps-scraper/job"
	"gmaps-scraper/store"
)

const defaultResults = 100

// Results implements store.Store. A page without conditions costs the same anywhere; with conditions it reads on until it is full.
func (s *Store) Results(ctx context.Context, id job.ID, f store.ResultFilter) (results []job.Result, err error) {
	scan := func(r scanner) (job.Result, error) {
		found := job.Result{JobID: id}
		var at int64
		var place []byte
		if err := r.Scan(&found.Seq, &found.TaskID, &found.InputID, &at, &place); err != nil {
			return job.Result{}, err
		}
		found.FoundAt = fromMicros(at)
		return found, json.Unmarshal(place, &found.Place)
	}
	var known []int64
	question, args := resultsQuestion(id, f)
	err = s.read(ctx, func(r *reading) {
		read(r, &known, scanInt, keyOfJob, id)
		read(r, &results, scan, question, args...)
	})
	if err == nil && len(known) == 0 {
		err = store.ErrNotFound
	}
	if err != nil {
		return nil, fmt.Errorf("results of job %s: %w", id, err)
	}
	return results, nil
}

// resultsQuestion has the conditions of a filter beside its cursor. Category is the place's main one; it, City and Country match whole,
// in any case.
func resultsQuestion(id job.ID, f store.ResultFilter) (question string, args []any) {
	var w where
	w.add(`job_key = (SELECT key FROM jobs WHERE jobs.id = %s)`, id)
	w.add(`seq > %s`, f.After)
	if f.Search != "" {
		w.add(`strpos(search, %s) > 0`, strings.ToLower(f.Search))
	}
	if f.Category != "" {
		w.add(`category = %s`, strings.ToLower(f.Category))
	}
	if f.MinRating > 0 {
		w.add(`rating >= %s`, f.MinRating)
	}
	if f.City != "" {
		w.add(`city = %s`, strings.ToLower(f.City))
	}
	if f.Country != "" {
		w.add(`country = %s`, strings.ToUpper(f.Country))
	}
	if f.Website != nil {
		w.add(`website = %s`, *f.Website)
	}
	if f.Phone != nil {
		w.add(`phone = %s`, *f.Phone)
	}
	return w.question(`SELECT seq, task_id, coalesce((SELECT input_id FROM tasks WHERE tasks.id = task_id), ''), found_at, place FROM results`,
		`ORDER BY seq`, cmp.Or(max(f.Limit, 0), defaultResults))
}
