package sqlite

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
	where, args := conditions(f)
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
	err = s.read(ctx, func(q querier) error {
		key, err := jobKey(ctx, q, id)
		if err != nil {
			return err
		}
		args := append(append([]any{key, f.After}, args...), cmp.Or(max(f.Limit, 0), defaultResults))
		results, err = collect(ctx, q, scan, resultsQuestion(where), args...)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("results of job %s: %w", id, err)
	}
	return results, nil
}

func resultsQuestion(where string) string {
	return `SELECT seq, task_id, coalesce((SELECT input_id FROM tasks WHERE id = task_id), ''), found_at, place FROM results INDEXED BY results_by_seq
		WHERE job_key = ? AND seq > ?` + where + ` ORDER BY seq LIMIT ?`
}

// conditions are those of a filter beside its cursor. Category is the place's main one; it, City and Country match whole, in any case.
func conditions(f store.ResultFilter) (where string, args []any) {
	add := func(condition string, arg any) {
		where += ` AND ` + condition
		args = append(args, arg)
	}
	if f.Search != "" {
		add(`instr(search, ?) > 0`, strings.ToLower(f.Search))
	}
	if f.Category != "" {
		add(`category = ?`, strings.ToLower(f.Category))
	}
	if f.MinRating > 0 {
		add(`rating >= ?`, f.MinRating)
	}
	if f.City != "" {
		add(`city = ?`, strings.ToLower(f.City))
	}
	if f.Country != "" {
		add(`country = ?`, strings.ToUpper(f.Country))
	}
	if f.Website != nil {
		add(`website = ?`, *f.Website)
	}
	if f.Phone != nil {
		add(`phone = ?`, *f.Phone)
	}
	return where, args
}
