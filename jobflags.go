package main

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"gmaps-scraper/api"
	"gmaps-scraper/gmaps"
	"gmaps-scraper/job"
)

// specFlags tells which flag sets a field of a job.
var specFlags = map[string]string{
	"lang": "lang", "country": "country", "depth": "depth", "priority": "priority", "max_results": "max-results", "max_time": "max-time",
	"max_reviews": "max-reviews", "max_attempts": "max-attempts", "engine": "engine", "detail": "detail", "review_order": "reviews-order",
	"area": "grid-bbox", "area.zoom": "zoom", "area.radius_meters": "radius", "area.cell_meters": "grid-cell", "area.strict": "strict",
	"area.center": "geo", "area.box": "grid-bbox", "area.box.min": "grid-bbox", "area.box.max": "grid-bbox", "inputs": "input",
}

// specUsage turns the fault of a job's field into one of the flag that set it.
func specUsage(err error) error {
	var field *job.FieldError
	if !errors.As(err, &field) {
		return err
	}
	name, ok := specFlags[field.Field]
	if !ok {
		name = "input"
	}
	why := strings.NewReplacer("a center or a box", "-geo or -grid-bbox", "a center", "-geo", "a box", "-grid-bbox").Replace(field.Why)
	return usagef("-%s: %s", name, why)
}

// area reads -geo and -grid-bbox.
func (c *config) area() (job.Area, error) {
	a := job.Area{RadiusMeters: c.radiusMeters, Zoom: c.zoom, CellMeters: c.cellKilometers * 1000, Strict: c.strict}
	if c.set["zoom"] && c.zoom == 0 {
		return a, usagef("-zoom: 0 is not between 1 and 21")
	}
	if c.geo != "" {
		v, err := floats(c.geo, 2)
		if err != nil {
			return a, usagef("-geo: %v; give latitude,longitude such as 52.52,13.405", err)
		}
		a.Center = &gmaps.Point{Lat: v[0], Lng: v[1]}
	}
	if c.bbox != "" {
		v, err := floats(c.bbox, 4)
		if err != nil {
			return a, usagef("-grid-bbox: %v; give minLat,minLng,maxLat,maxLng", err)
		}
		a.Box = &job.Box{MinLat: v[0], MinLng: v[1], MaxLat: v[2], MaxLng: v[3]}
	}
	return a, nil
}

func floats(s string, n int) ([]float64, error) {
	parts := strings.Split(s, ",")
	if len(parts) != n {
		return nil, fmt.Errorf("%q has %d numbers, not %d", s, len(parts), n)
	}
	v := make([]float64, n)
	for i, p := range parts {
		f, err := strconv.ParseFloat(strings.TrimSpace(p), 64)
		if err != nil {
			return nil, fmt.Errorf("%q is no number", strings.TrimSpace(p))
		}
		v[i] = f
	}
	return v, nil
}

// spec is the job of a one shot. An area that does not parse is left out: validate has refused it.
func (c *config) spec(inputs []job.Input) job.Spec {
	area, _ := c.area()
	return job.Spec{
		Inputs: inputs, Lang: c.lang, Country: c.country, Area: area, Depth: c.depth, Detail: gmaps.Detail(c.detail),
		ExtraReviews: c.extraReviews, MaxReviews: c.maxReviews, ReviewOrder: gmaps.ReviewOrder(c.reviewOrder), Engine: c.engine,
		Priority: c.priority, MaxResults: c.maxResults, MaxTime: job.Duration(c.maxTime), MaxAttempts: c.maxAttempts,
	}
}

// newJob is spec on the wire.
func (c *config) newJob(inputs []job.Input) api.NewJob {
	s := c.spec(inputs)
	n := api.NewJob{
		Inputs: s.Inputs, Lang: s.Lang, Country: s.Country, Area: &s.Area, Depth: s.Depth, Detail: s.Detail,
		ExtraReviews: s.ExtraReviews, MaxReviews: s.MaxReviews, ReviewOrder: s.ReviewOrder, Engine: s.Engine,
		Priority: s.Priority, MaxResults: s.MaxResults, MaxAttempts: s.MaxAttempts,
	}
	if s.MaxTime > 0 {
		n.MaxTime = time.Duration(s.MaxTime).String()
	}
	return n
}
