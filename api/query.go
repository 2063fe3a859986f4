package api

import (
	"net/url"
	"strconv"

	"gmaps-scraper/job"
)

// JobQuery selects jobs: ?state= (repeated) &search= &before= &limit=.
type JobQuery struct {
	States []job.State
	Search string // part of the name
	Before string // Next of the page before
	Limit  int    // 0: the Manager's default
}

// TaskQuery selects tasks: ?state= (repeated) &after= &limit=.
type TaskQuery struct {
	States []job.TaskState
	After  string // Next of the page before
	Limit  int
}

// EventQuery selects events: ?after= &limit=.
type EventQuery struct {
	After string // Next of the page before
	Limit int
}

// SpawnQuery selects spawns: ?job= &live= &before= &limit=.
type SpawnQuery struct {
	JobID  job.ID // empty: of all jobs
	Live   bool   // only those that have not ended
	Before string // Next of the page before
	Limit  int
}

// ResultQuery selects results: ?after= &search= &category= &min_rating= &city= &country= &website= &phone= &limit=.
type ResultQuery struct {
	After     int64  // Seq of the last result seen; Next of the page before as a number
	Search    string // part of title, category, address, phone or website
	Category  string
	MinRating float64
	City      string
	Country   string // ISO 3166-1 alpha-2
	Website   *bool  // has one, has none
	Phone     *bool
	Limit     int
}

func (q JobQuery) values() url.Values {
	v := url.Values{}
	for _, s := range q.States {
		v.Add("state", string(s))
	}
	setText(v, "search", q.Search)
	setText(v, "before", q.Before)
	setNumber(v, "limit", int64(q.Limit))
	return v
}

func (q TaskQuery) values() url.Values {
	v := url.Values{}
	for _, s := range q.States {
		v.Add("state", string(s))
	}
	setText(v, "after", q.After)
	setNumber(v, "limit", int64(q.Limit))
	return v
}

func (q EventQuery) values() url.Values {
	v := url.Values{}
	setText(v, "after", q.After)
	setNumber(v, "limit", int64(q.Limit))
	return v
}

func (q SpawnQuery) values() url.Values {
	v := url.Values{}
	setText(v, "job", string(q.JobID))
	if q.Live {
		v.Set("live", "true")
	}
	setText(v, "before", q.Before)
	setNumber(v, "limit", int64(q.Limit))
	return v
}

func (q ResultQuery) values() url.Values {
	v := url.Values{}
	setNumber(v, "after", q.After)
	setText(v, "search", q.Search)
	setText(v, "category", q.Category)
	if q.MinRating != 0 {
		v.Set("min_rating", strconv.FormatFloat(q.MinRating, 'g', -1, 64))
	}
	setText(v, "city", q.City)
	setText(v, "country", q.Country)
	setBool(v, "website", q.Website)
	setBool(v, "phone", q.Phone)
	setNumber(v, "limit", int64(q.Limit))
	return v
}

func setText(v url.Values, key, s string) {
	if s != "" {
		v.Set(key, s)
	}
}

func setNumber(v url.Values, key string, n int64) {
	if n != 0 {
		v.Set(key, strconv.FormatInt(n, 10))
	}
}

func setBool(v url.Values, key string, b *bool) {
	if b != nil {
		v.Set(key, strconv.FormatBool(*b))
	}
}
