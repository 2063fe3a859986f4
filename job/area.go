package job

import (
	"fmt"
	"math"
	"strings"
	"time"

	"gmaps-scraper/gmaps"
)

// Bounds of what one job may ask.
const (
	MaxKeywordBytes = 1024      // a longer keyword is no search
	MaxInputs       = 1_000_000 // of one job
	MaxTasks        = 5_000_000 // of one job, inputs × cells
	MaxRadiusMeters = 20_000_000.0
	// MinCellMeters is the edge below which a saturated cell is not split again.
	MinCellMeters = 100.0

	defaultZoom    = 14
	viewportPixels = 1024.0    // the width of the map that Google's page asks for
	metersPerPixel = 156543.03 // at the equator and zoom 0, Web Mercator
	metersPerLat   = 111_320.0 // of one degree
	maxMapLat      = 85.0511   // where Web Mercator's square ends
)

// FieldError says which field of a Spec is wrong and why.
type FieldError struct {
	Field string // "area.zoom"
	Why   string
}

func (e *FieldError) Error() string { return e.Field + ": " + e.Why }

// Validate fills the defaults in and returns the first fault as a *FieldError.
func (s *Spec) Validate() error {
	if s.Lang == "" {
		s.Lang = "en"
	}
	if s.Detail == "" {
		s.Detail = gmaps.DetailAuto
	}
	if s.Engine == "" {
		s.Engine = "http"
	}
	if s.ReviewOrder == "" {
		s.ReviewOrder = gmaps.OrderRelevant
	}
	if s.MaxWorkers == 0 {
		s.MaxWorkers = 1
	}
	if s.MaxAttempts == 0 {
		s.MaxAttempts = 3
	}
	if s.Name == "" && len(s.Inputs) > 0 {
		s.Name = s.Inputs[0].Text
	}
	switch {
	case len(s.Inputs) == 0:
		return &FieldError{"inputs", "is empty: give at least one keyword or Google Maps URL"}
	case len(s.Inputs) > MaxInputs:
		return &FieldError{"inputs", fmt.Sprintf("%d are more than %d: cut the list into several jobs", len(s.Inputs), MaxInputs)}
	case !isLang(s.Lang):
		return &FieldError{"lang", fmt.Sprintf("%q is no language code such as en or pt-BR", s.Lang)}
	case s.Country != "" && !isCountry(s.Country):
		return &FieldError{"country", fmt.Sprintf("%q is no two-letter country code", s.Country)}
	case s.Depth < 0 || s.Depth > 500:
		return &FieldError{"depth", fmt.Sprintf("%d is not between 0 and 500 pages", s.Depth)}
	case s.Priority < 0 || s.Priority > 10:
		return &FieldError{"priority", fmt.Sprintf("%d is not between 0 and 10", s.Priority)}
	case s.MaxResults < 0:
		return &FieldError{"max_results", fmt.Sprintf("%d is below 0", s.MaxResults)}
	case s.MaxTime < 0:
		return &FieldError{"max_time", fmt.Sprintf("%s is below 0", time.Duration(s.MaxTime))}
	case s.MaxWorkers < 0:
		return &FieldError{"max_workers", fmt.Sprintf("%d is below 0", s.MaxWorkers)}
	case s.MaxAttempts < 0 || s.MaxAttempts > 100:
		return &FieldError{"max_attempts", fmt.Sprintf("%d is not between 1 and 100", s.MaxAttempts)}
	case s.MaxReviews < 0:
		return &FieldError{"max_reviews", fmt.Sprintf("%d is below 0", s.MaxReviews)}
	case s.Engine != "http":
		return &FieldError{"engine", fmt.Sprintf("%q is not known: use http", s.Engine)}
	}
	switch s.Detail {
	case gmaps.DetailAuto, gmaps.DetailAlways, gmaps.DetailNever:
	default:
		return &FieldError{"detail", fmt.Sprintf("%q is none of auto, always, never", s.Detail)}
	}
	switch s.ReviewOrder {
	case gmaps.OrderRelevant, gmaps.OrderNewest, gmaps.OrderHighest, gmaps.OrderLowest:
	default:
		return &FieldError{"review_order", fmt.Sprintf("%q is none of relevant, newest, highest, lowest", s.ReviewOrder)}
	}
	for i, in := range s.Inputs {
		if err := in.validate(); err != nil {
			return &FieldError{fmt.Sprintf("inputs[%d]", i), err.Error()}
		}
	}
	return s.Area.validate()
}

func isLang(s string) bool { return len(s) <= 12 && !strings.ContainsFunc(s, notTag) }

func isCountry(s string) bool { return len(s) == 2 && !strings.ContainsFunc(s, notLetter) }

func notTag(r rune) bool { return notLetter(r) && (r < '0' || r > '9') && r != '-' }

func notLetter(r rune) bool { return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') }

func (a *Area) validate() error {
	if a.Center != nil || a.Box != nil {
		if a.Zoom == 0 {
			a.Zoom = defaultZoom
		}
	}
	switch {
	case a.Center != nil && a.Box != nil:
		return &FieldError{"area", "has both a center and a box: choose one"}
	case a.Zoom != 0 && (a.Zoom < 1 || a.Zoom > 21):
		return &FieldError{"area.zoom", fmt.Sprintf("%d is not between 1 and 21", a.Zoom)}
	case a.Zoom != 0 && a.Center == nil && a.Box == nil:
		return &FieldError{"area.zoom", "needs a center or a box"}
	case a.RadiusMeters != 0 && a.Center == nil:
		return &FieldError{"area.radius_meters", "needs a center"}
	case math.IsNaN(a.RadiusMeters) || a.RadiusMeters < 0 || a.RadiusMeters > MaxRadiusMeters:
		return &FieldError{"area.radius_meters", fmt.Sprintf("%g is not between 0 and %g", a.RadiusMeters, MaxRadiusMeters)}
	case math.IsNaN(a.CellMeters) || a.CellMeters != 0 && (a.CellMeters < MinCellMeters || a.CellMeters > MaxRadiusMeters):
		return &FieldError{"area.cell_meters", fmt.Sprintf("%g is not between %g and %g", a.CellMeters, MinCellMeters, MaxRadiusMeters)}
	case a.CellMeters != 0 && a.Box == nil:
		return &FieldError{"area.cell_meters", "needs a box"}
	case a.Strict && a.Center == nil && a.Box == nil:
		return &FieldError{"area.strict", "needs a center or a box"}
	}
	if c := a.Center; c != nil {
		if err := checkPoint("area.center", c.Lat, c.Lng); err != nil {
			return err
		}
	}
	b := a.Box
	if b == nil {
		return nil
	}
	if err := checkPoint("area.box.min", b.MinLat, b.MinLng); err != nil {
		return err
	}
	if err := checkPoint("area.box.max", b.MaxLat, b.MaxLng); err != nil {
		return err
	}
	if b.MinLat >= b.MaxLat {
		return &FieldError{"area.box", fmt.Sprintf("min_lat %g is not below max_lat %g", b.MinLat, b.MaxLat)}
	}
	if b.width() == 0 {
		return &FieldError{"area.box", fmt.Sprintf("min_lng %g and max_lng %g are one meridian: the box is empty", b.MinLng, b.MaxLng)}
	}
	return nil
}

func checkPoint(field string, lat, lng float64) error {
	if !(lat >= -90 && lat <= 90) {
		return &FieldError{field, fmt.Sprintf("latitude %g is not between -90 and 90", lat)}
	}
	if !(lng >= -180 && lng <= 180) {
		return &FieldError{field, fmt.Sprintf("longitude %g is not between -180 and 180", lng)}
	}
	return nil
}

// Contains reports whether p lies in the area. An area without limits contains everything.
func (a Area) Contains(p gmaps.Point) bool {
	switch {
	case a.Box != nil:
		return a.Box.Contains(p)
	case a.Center != nil:
		return Distance(*a.Center, p) <= a.viewport().RadiusMeters
	default:
		return true
	}
}

// Contains reports whether p lies in the box, its edges included.
func (b Box) Contains(p gmaps.Point) bool {
	if p.Lat < b.MinLat || p.Lat > b.MaxLat {
		return false
	}
	if b.MinLng <= b.MaxLng {
		return p.Lng >= b.MinLng && p.Lng <= b.MaxLng
	}
	return p.Lng >= b.MinLng || p.Lng <= b.MaxLng
}

// Distance is the great-circle distance of two points in metres.
func Distance(a, b gmaps.Point) float64 {
	const earthRadiusMeters = 6_371_008.8
	rad := math.Pi / 180
	dLat, dLng := (b.Lat-a.Lat)*rad/2, (b.Lng-a.Lng)*rad/2
	h := math.Sin(dLat)*math.Sin(dLat) + math.Cos(a.Lat*rad)*math.Cos(b.Lat*rad)*math.Sin(dLng)*math.Sin(dLng)
	return 2 * earthRadiusMeters * math.Asin(math.Min(1, math.Sqrt(h)))
}

// zoomMeters is the width in metres of the map that Google's page shows at a zoom and latitude. The map ends at maxMapLat, where a pixel
// still has a size: at the poles themselves it would have none.
func zoomMeters(zoom int, lat float64) float64 {
	lat = math.Min(math.Abs(lat), maxMapLat)
	return metersPerPixel * math.Cos(lat*math.Pi/180) / math.Exp2(float64(zoom)) * viewportPixels
}

func (a Area) viewport() gmaps.Viewport {
	r := a.RadiusMeters
	if r == 0 {
		r = zoomMeters(a.Zoom, a.Center.Lat) / 2
	}
	return gmaps.Viewport{Center: *a.Center, RadiusMeters: r}
}

// Cells cuts the box into a grid of cells at most cellMeters wide and high, row by row from the south-west.
// It is an iterator over a grid that may be large: see CountCells.
func (b Box) Cells(cellMeters float64) func(yield func(Box) bool) {
	return func(yield func(Box) bool) {
		rows := b.rows(cellMeters)
		for r := range rows {
			south, north := b.row(r, rows)
			cols := b.cols(south, north, cellMeters)
			width := b.width() / float64(cols)
			for c := range cols {
				// An edge is computed the same way for the cells on both its sides: no point falls between.
				cell := Box{MinLat: south, MaxLat: north, MinLng: wrapLng(b.MinLng + float64(c)*width), MaxLng: wrapLng(b.MinLng + float64(c+1)*width)}
				if c == cols-1 {
					cell.MaxLng = b.MaxLng
				}
				if !yield(cell) {
					return
				}
			}
		}
	}
}

// CountCells is the number of cells that Cells yields.
func (b Box) CountCells(cellMeters float64) int {
	rows := b.rows(cellMeters)
	n := 0
	for r := range rows {
		south, north := b.row(r, rows)
		n += b.cols(south, north, cellMeters)
	}
	return n
}

// row returns the edges of row r, counted from the south.
func (b Box) row(r, rows int) (south, north float64) {
	height := (b.MaxLat - b.MinLat) / float64(rows)
	south, north = b.MinLat+float64(r)*height, b.MinLat+float64(r+1)*height
	if r == rows-1 {
		north = b.MaxLat
	}
	return south, north
}

func (b Box) rows(cellMeters float64) int {
	return max(1, int(math.Ceil((b.MaxLat-b.MinLat)*metersPerLat/cellMeters-1e-9)))
}

// cols counts the cells of a row by its widest edge, the one nearest to the equator.
func (b Box) cols(south, north, cellMeters float64) int {
	lat := math.Min(math.Abs(south), math.Abs(north))
	if south < 0 && north > 0 {
		lat = 0
	}
	meters := b.width() * metersPerLat * math.Cos(lat*math.Pi/180)
	return max(1, int(math.Ceil(meters/cellMeters-1e-9)))
}

// width is the extent in degrees of longitude, over the antimeridian too.
func (b Box) width() float64 {
	w := b.MaxLng - b.MinLng
	if w < 0 {
		w += 360
	}
	return w
}

func wrapLng(lng float64) float64 {
	if lng > 180 {
		return lng - 360
	}
	return lng
}

func (b Box) center() gmaps.Point {
	return gmaps.Point{Lat: (b.MinLat + b.MaxLat) / 2, Lng: wrapLng(b.MinLng + b.width()/2)}
}

// viewport is the circle around the box: nothing of the box lies outside it.
func (b Box) viewport() gmaps.Viewport {
	c := b.center()
	r := math.Max(Distance(c, gmaps.Point{Lat: b.MinLat, Lng: b.MinLng}), Distance(c, gmaps.Point{Lat: b.MaxLat, Lng: b.MinLng}))
	// The corners are the farthest points unless the box spans more than half the earth: then a side's farthest point, opposite to
	// the nearest one of its great circle, may lie between them.
	if half := b.width() / 2; half > 90 {
		rad := math.Pi / 180
		far := math.Atan2(-math.Sin(c.Lat*rad), -math.Cos(c.Lat*rad)*math.Cos(half*rad)) / rad
		if far > b.MinLat && far < b.MaxLat {
			r = math.Max(r, Distance(c, gmaps.Point{Lat: far, Lng: b.MinLng}))
		}
	}
	return gmaps.Viewport{Center: c, RadiusMeters: math.Ceil(r)}
}

// edgeMeters is the longer edge of the box.
func (b Box) edgeMeters() float64 {
	return math.Max((b.MaxLat-b.MinLat)*metersPerLat, b.width()*metersPerLat*math.Cos(b.center().Lat*math.Pi/180))
}

// Tasks expands a validated Spec into its tasks: inputs × cells, in the order of the inputs.
// A place or URL input is one task whatever the area. It refuses more than MaxTasks with a *FieldError.
func (s *Spec) Tasks() ([]Task, error) {
	cells := 1
	cellMeters := 0.0
	if b := s.Area.Box; b != nil {
		cellMeters = s.Area.CellMeters
		if cellMeters == 0 {
			cellMeters = zoomMeters(s.Area.Zoom, b.center().Lat)
		}
		cells = b.CountCells(cellMeters)
	}
	queries := make([]gmaps.Query, len(s.Inputs))
	searches := 0 // queries that say not where by themselves
	for i, in := range s.Inputs {
		q, err := in.query()
		if err != nil {
			return nil, &FieldError{fmt.Sprintf("inputs[%d]", i), err.Error()}
		}
		if q.Place == nil && q.Viewport == nil {
			searches++
		}
		queries[i] = q
	}
	total := searches*cells + len(queries) - searches
	if total > MaxTasks {
		return nil, &FieldError{"area", fmt.Sprintf("%d searches × %d cells are more than %d tasks: use a lower zoom or larger cells", searches, cells, MaxTasks)}
	}
	tasks := make([]Task, 0, total)
	for i, q := range queries {
		in := s.Inputs[i]
		if q.Lang == "" {
			q.Lang = s.Lang
		}
		if q.Country == "" {
			q.Country = s.Country
		}
		q.MaxPages, q.Detail = s.Depth, s.Detail
		if s.ExtraReviews {
			q.Reviews = gmaps.Reviews{Max: s.MaxReviews, Order: s.ReviewOrder}
			if s.MaxReviews == 0 {
				q.Reviews.Max = math.MaxInt32
			}
		}
		t := Task{State: TaskOpen, Query: q, InputID: in.ID}
		switch {
		case q.Place != nil || q.Viewport != nil: // a URL that says where by itself
			tasks = append(tasks, t)
		case s.Area.Box != nil:
			for cell := range s.Area.Box.Cells(cellMeters) {
				v := cell.viewport()
				t.Cell, t.Query.Viewport = &cell, &v
				tasks = append(tasks, t)
			}
		case s.Area.Center != nil:
			v := s.Area.viewport()
			t.Query.Viewport = &v
			tasks = append(tasks, t)
		default:
			tasks = append(tasks, t)
		}
	}
	return tasks, nil
}

// SplitTask returns the four tasks that take the place of a task whose cell hid places, or nil if it has no cell or the cell
// is too small to be cut.
func SplitTask(t Task) []Task {
	if t.Cell == nil || t.Cell.edgeMeters() < 2*MinCellMeters {
		return nil
	}
	b := *t.Cell
	mid := b.center()
	quarters := [4]Box{
		{MinLat: b.MinLat, MinLng: b.MinLng, MaxLat: mid.Lat, MaxLng: mid.Lng},
		{MinLat: b.MinLat, MinLng: mid.Lng, MaxLat: mid.Lat, MaxLng: b.MaxLng},
		{MinLat: mid.Lat, MinLng: b.MinLng, MaxLat: b.MaxLat, MaxLng: mid.Lng},
		{MinLat: mid.Lat, MinLng: mid.Lng, MaxLat: b.MaxLat, MaxLng: b.MaxLng},
	}
	children := make([]Task, 0, len(quarters))
	for _, q := range quarters {
		v := q.viewport()
		c := Task{JobID: t.JobID, State: TaskOpen, Query: t.Query, InputID: t.InputID, Cell: &q}
		c.Query.Viewport = &v
		children = append(children, c)
	}
	return children
}
