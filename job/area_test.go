package job

import (
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"gmaps-scraper/gmaps"
)

// drawBox draws a box anywhere, over the antimeridian and to the poles too, with the edges that are easily got wrong drawn often.
func drawBox(t *rapid.T) Box {
	lat := rapid.OneOf(rapid.Float64Range(-90, 90), rapid.SampledFrom([]float64{-90, -85.0511, 0, 85.0511, 90}))
	lng := rapid.OneOf(rapid.Float64Range(-180, 180), rapid.SampledFrom([]float64{-180, 0, 180}))
	b := Box{MinLat: lat.Draw(t, "lat"), MinLng: lng.Draw(t, "min lng"), MaxLat: lat.Draw(t, "other lat"), MaxLng: lng.Draw(t, "max lng")}
	if b.MinLat > b.MaxLat {
		b.MinLat, b.MaxLat = b.MaxLat, b.MinLat
	}
	a := Area{Box: &b}
	if a.validate() != nil {
		t.Skip("an empty box")
	}
	return b
}

// drawPoint draws a point of the box, its edges and corners often.
func drawPoint(t *rapid.T, b Box) gmaps.Point {
	share := rapid.OneOf(rapid.Float64Range(0, 1), rapid.SampledFrom([]float64{0, 0.25, 0.5, 1}))
	p := gmaps.Point{
		Lat: b.MinLat + share.Draw(t, "north")*(b.MaxLat-b.MinLat),
		Lng: wrapLng(b.MinLng + share.Draw(t, "east")*b.width()),
	}
	p.Lat = math.Min(p.Lat, b.MaxLat)
	if !b.Contains(p) { // rounding at an edge
		p.Lng = b.MaxLng
	}
	return p
}

// drawCell draws a cell size that gives a grid of at most some thousand cells.
func drawCell(t *rapid.T, b Box) float64 {
	longer := math.Max(b.width(), b.MaxLat-b.MinLat) * metersPerLat
	return math.Max(MinCellMeters, longer/rapid.Float64Range(0.5, 60).Draw(t, "cells on the longer side"))
}

func TestGridCoversTheBoxWithoutGapsOrOverlaps(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		b := drawBox(t)
		size := drawCell(t, b)
		p := drawPoint(t, b)
		var (
			count, holders, insiders int
			area                     float64
			rowEnd                   = b.MinLat // where the row below ends
			last                     Box
		)
		for cell := range b.Cells(size) {
			count++
			if cell.Contains(p) {
				holders++
			}
			if strictlyInside(cell, p) {
				insiders++
			}
			area += (cell.MaxLat - cell.MinLat) * cell.width()
			if height := (cell.MaxLat - cell.MinLat) * metersPerLat; height > size*(1+1e-6) || height <= 0 && b.MaxLat-b.MinLat > 1e-9 {
				t.Fatalf("cell %+v is %g m high, %g were asked for", cell, height, size)
			}
			widest := math.Max(math.Cos(cell.MinLat*math.Pi/180), math.Cos(cell.MaxLat*math.Pi/180))
			if cell.MinLat < 0 && cell.MaxLat > 0 {
				widest = 1
			}
			if width := cell.width() * metersPerLat * widest; width > size*(1+1e-6) {
				t.Fatalf("cell %+v is %g m wide, %g were asked for", cell, width, size)
			}
			for _, lng := range []float64{cell.MinLng, cell.MaxLng} {
				if lng < -180 || lng > 180 {
					t.Fatalf("cell %+v has the longitude %g", cell, lng)
				}
			}
			// Neighbours share their edge to the bit.
			switch {
			case cell.MinLat == last.MinLat && count > 1:
				if cell.MinLng != last.MaxLng {
					t.Fatalf("cells %+v and %+v do not meet", last, cell)
				}
			default:
				if cell.MinLat != rowEnd || cell.MinLng != b.MinLng || count > 1 && last.MaxLng != b.MaxLng {
					t.Fatalf("row of %+v begins at %g after %+v, which ends at %g", cell, cell.MinLat, last, rowEnd)
				}
				rowEnd = cell.MaxLat
			}
			last = cell
		}
		if rowEnd != b.MaxLat || last.MaxLng != b.MaxLng {
			t.Fatalf("the last cell %+v does not end where the box %+v does", last, b)
		}
		if holders == 0 {
			t.Fatalf("no cell holds %+v of %+v", p, b)
		}
		if insiders > 1 {
			t.Fatalf("%d cells overlap at %+v", insiders, p)
		}
		if want := (b.MaxLat - b.MinLat) * b.width(); math.Abs(area-want) > 1e-6*want+1e-9 {
			t.Fatalf("the cells' area is %g square degrees, the box's %g", area, want)
		}
		if n := b.CountCells(size); n != count {
			t.Fatalf("CountCells says %d, there are %d", n, count)
		}
	})
}

func strictlyInside(b Box, p gmaps.Point) bool {
	if p.Lat <= b.MinLat || p.Lat >= b.MaxLat || p.Lng == b.MinLng || p.Lng == b.MaxLng {
		return false
	}
	return b.Contains(p)
}

func TestGridStopsWhenItsReaderDoes(t *testing.T) {
	t.Parallel()
	n := 0
	for range (Box{MinLat: 0, MinLng: 0, MaxLat: 1, MaxLng: 1}).Cells(1000) {
		if n++; n == 5 {
			break
		}
	}
	if n != 5 {
		t.Errorf("%d cells were yielded after a break at 5", n)
	}
}

func TestCellsFollowTheZoom(t *testing.T) {
	t.Parallel()
	count := func(zoom int) int {
		s := Spec{Inputs: []Input{{Text: "coffee"}}, Area: Area{Box: &Box{MinLat: 37.9, MinLng: 23.6, MaxLat: 38.1, MaxLng: 23.9}, Zoom: zoom}}
		if err := s.Validate(); err != nil {
			t.Fatal(err)
		}
		tasks, err := s.Tasks()
		if err != nil {
			t.Fatal(err)
		}
		return len(tasks)
	}
	for zoom := 10; zoom < 17; zoom++ {
		if wide, near := count(zoom), count(zoom+1); near < wide || near > 4*wide+64 {
			t.Errorf("zoom %d has %d cells, zoom %d has %d", zoom, wide, zoom+1, near)
		}
	}
	if n := count(14); n < 10 || n > 100 {
		t.Errorf("a city of 22 × 26 km at zoom 14 has %d cells", n)
	}
}

func TestViewportHoldsItsBox(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		b := drawBox(t)
		p, v := drawPoint(t, b), b.viewport()
		if !b.Contains(v.Center) {
			t.Fatalf("center %+v lies outside %+v", v.Center, b)
		}
		if d := Distance(v.Center, p); d > v.RadiusMeters+1 {
			t.Fatalf("%+v of %+v lies %.0f m from the center %+v, the radius is %.0f", p, b, d, v.Center, v.RadiusMeters)
		}
	})
}

func TestViewportOfTheWholeEarthIsTheWholeEarth(t *testing.T) {
	t.Parallel()
	v := Box{MinLat: -90, MinLng: -180, MaxLat: 90, MaxLng: 180}.viewport()
	if d := Distance(v.Center, gmaps.Point{Lat: 0, Lng: 180}); d > v.RadiusMeters+1 {
		t.Errorf("the antipode lies %.0f m away, the radius is %.0f", d, v.RadiusMeters)
	}
}

func TestSplitTaskQuartersTheCell(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		b := drawBox(t)
		parent := Task{ID: 7, JobID: "j", State: TaskLeased, InputID: "in", Cell: &b, Cursor: "c", Attempts: 3, Crashes: 2, Error: "e",
			Query: gmaps.Query{Keyword: "coffee", Lang: "el", MaxPages: 5, Viewport: &gmaps.Viewport{RadiusMeters: 1}}}
		quarters := SplitTask(parent)
		if b.edgeMeters() < 2*MinCellMeters {
			if quarters != nil {
				t.Fatalf("a cell of %.0f m was split", b.edgeMeters())
			}
			return
		}
		if len(quarters) != 4 {
			t.Fatalf("got %d tasks, want 4", len(quarters))
		}
		p := drawPoint(t, b)
		holders, insiders, area := 0, 0, 0.0
		for _, q := range quarters {
			if q.Cell.Contains(p) {
				holders++
			}
			if strictlyInside(*q.Cell, p) {
				insiders++
			}
			area += (q.Cell.MaxLat - q.Cell.MinLat) * q.Cell.width()
			if *q.Query.Viewport != q.Cell.viewport() {
				t.Fatalf("viewport %+v is not that of %+v", q.Query.Viewport, q.Cell)
			}
			want := Task{JobID: "j", State: TaskOpen, InputID: "in", Cell: q.Cell, Query: parent.Query}
			want.Query.Viewport = q.Query.Viewport
			if diff := cmp.Diff(want, q); diff != "" {
				t.Fatal(diff)
			}
		}
		if want := (b.MaxLat - b.MinLat) * b.width(); holders == 0 || insiders > 1 || math.Abs(area-want) > 1e-6*want+1e-9 {
			t.Fatalf("%+v: %d quarters hold %+v, %d inside; area %g of %g", b, holders, p, insiders, area, want)
		}
	})
}

func TestSplittingEnds(t *testing.T) {
	t.Parallel()
	for _, b := range []Box{
		{MinLat: 37.97, MinLng: 23.7, MaxLat: 37.99, MaxLng: 23.72}, {MinLat: 0, MinLng: 0, MaxLat: 1e-9, MaxLng: 0.05}, {MinLat: 89.9, MinLng: -180, MaxLat: 90, MaxLng: 180},
	} {
		depth := 0
		for tasks := []Task{{Cell: &b}}; len(tasks) > 0; depth++ {
			tasks = SplitTask(tasks[0])
			if depth > 30 {
				t.Fatalf("%+v is split for ever", b)
			}
		}
	}
	if got := SplitTask(Task{}); got != nil {
		t.Errorf("a task without a cell was split into %v", got)
	}
}

func TestContains(t *testing.T) {
	t.Parallel()
	fiji := Box{MinLat: -20, MinLng: 176, MaxLat: -15, MaxLng: -178}
	athens := Area{Center: &gmaps.Point{Lat: 37.98, Lng: 23.73}, RadiusMeters: 1000}
	for _, c := range []struct {
		area Area
		p    gmaps.Point
		want bool
	}{
		{Area{}, gmaps.Point{Lat: 89, Lng: 1}, true},
		{Area{Box: &fiji}, gmaps.Point{Lat: -17, Lng: 179}, true},
		{Area{Box: &fiji}, gmaps.Point{Lat: -17, Lng: -179}, true},
		{Area{Box: &fiji}, gmaps.Point{Lat: -17, Lng: 180}, true},
		{Area{Box: &fiji}, gmaps.Point{Lat: -17, Lng: -180}, true},
		{Area{Box: &fiji}, gmaps.Point{Lat: -17, Lng: -177}, false},
		{Area{Box: &fiji}, gmaps.Point{Lat: -17, Lng: 0}, false},
		{Area{Box: &fiji}, gmaps.Point{Lat: -14.9, Lng: 179}, false},
		{athens, gmaps.Point{Lat: 37.9889, Lng: 23.73}, true},
		{athens, gmaps.Point{Lat: 37.9891, Lng: 23.73}, false},
	} {
		if got := c.area.Contains(c.p); got != c.want {
			t.Errorf("%+v contains %+v: got %t, want %t", c.area, c.p, got, c.want)
		}
	}
}

func TestDistance(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		a, b gmaps.Point
		km   float64
	}{
		{gmaps.Point{}, gmaps.Point{}, 0},
		{gmaps.Point{Lat: 90}, gmaps.Point{Lat: -90}, 20015.1},
		{gmaps.Point{Lng: 179.5}, gmaps.Point{Lng: -179.5}, 111.2},
		{gmaps.Point{Lat: 51.5007, Lng: -0.1246}, gmaps.Point{Lat: 40.6892, Lng: -74.0445}, 5574.8}, // London, New York
	} {
		if got := Distance(c.a, c.b) / 1000; math.Abs(got-c.km) > 0.1+c.km/1000 {
			t.Errorf("%+v to %+v: got %.1f km, want %.1f", c.a, c.b, got, c.km)
		}
	}
}

func TestMapsAtThePolesHaveASize(t *testing.T) {
	t.Parallel()
	for _, lat := range []float64{90, -90, 89.9999} {
		a := Area{Center: &gmaps.Point{Lat: lat}, Zoom: 14}
		if r := a.viewport().RadiusMeters; r < 100 {
			t.Errorf("latitude %g at zoom 14: radius %g m", lat, r)
		}
	}
	s := Spec{Inputs: []Input{{Text: "penguins"}}, Area: Area{Box: &Box{MinLat: -90, MinLng: 0, MaxLat: -89.999999, MaxLng: 1}}}
	if err := s.Validate(); err != nil {
		t.Fatal(err)
	}
	if tasks, err := s.Tasks(); err != nil || len(tasks) != 1 {
		t.Errorf("got %d tasks, %v; want 1 for a box of a foot", len(tasks), err)
	}
}

func TestTasksAreInputsTimesCells(t *testing.T) {
	t.Parallel()
	s := Spec{
		Inputs: []Input{
			{Text: "coffee", ID: "a"}, {Text: "https://www.google.com/maps?cid=123&hl=el&gl=cy"}, {Text: "https://www.google.com/maps/search/tea/@37.9,23.7,15z"}, {Text: "bread"},
		},
		Lang: "de", Country: "AT", Depth: 4, Detail: gmaps.DetailNever, ExtraReviews: true, ReviewOrder: gmaps.OrderNewest,
		Area: Area{Box: &Box{MinLat: 0, MinLng: 0, MaxLat: 0.02, MaxLng: 0.02}, CellMeters: 1200},
	}
	if err := s.Validate(); err != nil {
		t.Fatal(err)
	}
	tasks, err := s.Tasks()
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, task := range tasks {
		what := task.Query.Keyword
		if task.Query.Place != nil {
			what = "cid " + task.Query.Place.CID
		}
		got = append(got, fmt.Sprintf("%s cell=%t viewport=%t %s-%s id=%s", what, task.Cell != nil, task.Query.Viewport != nil, task.Query.Lang, task.Query.Country, task.InputID))
		if task.State != TaskOpen || task.Query.MaxPages != 4 || task.Query.Detail != gmaps.DetailNever || task.Query.Reviews != (gmaps.Reviews{Max: math.MaxInt32, Order: gmaps.OrderNewest}) {
			t.Errorf("got %+v", task)
		}
	}
	want := []string{}
	for range 4 {
		want = append(want, "coffee cell=true viewport=true de-AT id=a")
	}
	want = append(want, "cid 123 cell=false viewport=false el-CY id=", "tea cell=false viewport=true de-AT id=")
	for range 4 {
		want = append(want, "bread cell=true viewport=true de-AT id=")
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}

	s.Area = Area{Center: &gmaps.Point{Lat: 1, Lng: 2}, RadiusMeters: 500}
	if err := s.Validate(); err != nil {
		t.Fatal(err)
	}
	if tasks, err = s.Tasks(); err != nil || len(tasks) != 4 || *tasks[0].Query.Viewport != (gmaps.Viewport{Center: gmaps.Point{Lat: 1, Lng: 2}, RadiusMeters: 500}) {
		t.Errorf("around a point: %d tasks, %v", len(tasks), err)
	}
	s.Area = Area{}
	if tasks, err = s.Tasks(); err != nil || len(tasks) != 4 || tasks[0].Query.Viewport != nil {
		t.Errorf("everywhere: %d tasks, %v", len(tasks), err)
	}
}

func TestTooManyTasksAreRefusedBeforeTheyAreMade(t *testing.T) {
	t.Parallel()
	earth := Area{Box: &Box{MinLat: -90, MinLng: -180, MaxLat: 90, MaxLng: 180}, CellMeters: MinCellMeters}
	s := Spec{Inputs: []Input{{Text: "coffee"}}, Area: earth}
	var field *FieldError
	if _, err := s.Tasks(); !errors.As(err, &field) || field.Field != "area" {
		t.Errorf("the earth in cells of 100 m: got %v, want a FieldError of area", err)
	}
	s.Inputs[0].Text = "https://www.google.com/maps?cid=123"
	if tasks, err := s.Tasks(); err != nil || len(tasks) != 1 {
		t.Errorf("a place is one task whatever the area: got %d, %v", len(tasks), err)
	}
}

func TestValidateNamesTheField(t *testing.T) {
	t.Parallel()
	nan, inf := math.NaN(), math.Inf(1)
	point, box := &gmaps.Point{Lat: 1, Lng: 2}, &Box{MinLat: 1, MinLng: 1, MaxLat: 2, MaxLng: 2}
	for _, c := range []struct {
		field string
		spoil func(*Spec)
	}{
		{"inputs", func(s *Spec) { s.Inputs = nil }},
		{"inputs", func(s *Spec) { s.Inputs = make([]Input, MaxInputs+1) }},
		{"inputs[1]", func(s *Spec) { s.Inputs = append(s.Inputs, Input{}) }},
		{"inputs[0]", func(s *Spec) { s.Inputs[0].Text = strings.Repeat("x", MaxKeywordBytes+1) }},
		{"inputs[0]", func(s *Spec) { s.Inputs[0].ID = strings.Repeat("x", MaxKeywordBytes+1) }},
		{"inputs[0]", func(s *Spec) { s.Inputs[0].Text = "nul\x00" }},
		{"inputs[0]", func(s *Spec) { s.Inputs[0].ID = "bad\xff" }},
		{"inputs[0]", func(s *Spec) { s.Inputs[0].Text = "https://evil.example/maps" }},
		{"inputs[0]", func(s *Spec) { s.Inputs[0].Text = "https://www.google.com/maps/search/a?hl=en%0d%0aX:y" }},
		{"inputs[0]", func(s *Spec) { s.Inputs[0].Text = "https://www.google.com/maps/search/a?gl=123" }},
		{"inputs[0]", func(s *Spec) { s.Inputs[0].Text = "https://www.google.com/maps/search/a%00b" }},
		{"inputs[0]", func(s *Spec) { s.Inputs[0].Text = "https://www.google.com/maps/search/" + strings.Repeat("a", 2000) }},
		{"lang", func(s *Spec) { s.Lang = "en\r\nX: y" }},
		{"lang", func(s *Spec) { s.Lang = strings.Repeat("a", 13) }},
		{"country", func(s *Spec) { s.Country = "GRC" }},
		{"country", func(s *Spec) { s.Country = "1-" }},
		{"depth", func(s *Spec) { s.Depth = -1 }},
		{"depth", func(s *Spec) { s.Depth = 501 }},
		{"priority", func(s *Spec) { s.Priority = 11 }},
		{"priority", func(s *Spec) { s.Priority = -1 }},
		{"max_results", func(s *Spec) { s.MaxResults = -1 }},
		{"max_time", func(s *Spec) { s.MaxTime = -1 }},
		{"max_workers", func(s *Spec) { s.MaxWorkers = -1 }},
		{"max_attempts", func(s *Spec) { s.MaxAttempts = -1 }},
		{"max_attempts", func(s *Spec) { s.MaxAttempts = 101 }},
		{"max_reviews", func(s *Spec) { s.MaxReviews = -1 }},
		{"engine", func(s *Spec) { s.Engine = "magic" }},
		{"detail", func(s *Spec) { s.Detail = "some" }},
		{"review_order", func(s *Spec) { s.ReviewOrder = "best" }},
		{"area", func(s *Spec) { s.Area = Area{Center: point, Box: box} }},
		{"area.zoom", func(s *Spec) { s.Area = Area{Center: point, Zoom: 22} }},
		{"area.zoom", func(s *Spec) { s.Area = Area{Center: point, Zoom: -1} }},
		{"area.zoom", func(s *Spec) { s.Area = Area{Zoom: 12} }},
		{"area.radius_meters", func(s *Spec) { s.Area = Area{RadiusMeters: 5} }},
		{"area.radius_meters", func(s *Spec) { s.Area = Area{Center: point, RadiusMeters: -1} }},
		{"area.radius_meters", func(s *Spec) { s.Area = Area{Center: point, RadiusMeters: nan} }},
		{"area.radius_meters", func(s *Spec) { s.Area = Area{Center: point, RadiusMeters: inf} }},
		{"area.cell_meters", func(s *Spec) { s.Area = Area{Box: box, CellMeters: MinCellMeters - 1} }},
		{"area.cell_meters", func(s *Spec) { s.Area = Area{Box: box, CellMeters: nan} }},
		{"area.cell_meters", func(s *Spec) { s.Area = Area{Box: box, CellMeters: inf} }},
		{"area.cell_meters", func(s *Spec) { s.Area = Area{Center: point, CellMeters: 500} }},
		{"area.strict", func(s *Spec) { s.Area = Area{Strict: true} }},
		{"area.center", func(s *Spec) { s.Area = Area{Center: &gmaps.Point{Lat: 90.1}} }},
		{"area.center", func(s *Spec) { s.Area = Area{Center: &gmaps.Point{Lng: nan}} }},
		{"area.box.min", func(s *Spec) { s.Area = Area{Box: &Box{MinLat: nan, MaxLat: 1, MaxLng: 1}} }},
		{"area.box.max", func(s *Spec) { s.Area = Area{Box: &Box{MaxLat: 1, MaxLng: 181}} }},
		{"area.box", func(s *Spec) { s.Area = Area{Box: &Box{MinLat: 2, MaxLat: 1, MaxLng: 1}} }},
		{"area.box", func(s *Spec) { s.Area = Area{Box: &Box{MinLng: 1, MaxLat: 1, MaxLng: 1}} }},
		{"area.box", func(s *Spec) { s.Area = Area{Box: &Box{MinLng: 180, MaxLat: 1, MaxLng: -180}} }},
	} {
		s := Spec{Inputs: []Input{{Text: "coffee"}}}
		c.spoil(&s)
		err := s.Validate()
		var field *FieldError
		if !errors.As(err, &field) || field.Field != c.field || field.Why == "" || err.Error() != c.field+": "+field.Why {
			t.Errorf("got %v, want an error of field %s", err, c.field)
		}
	}
}

func TestValidateFillsDefaults(t *testing.T) {
	t.Parallel()
	s := Spec{Inputs: []Input{{Text: "coffee"}}, Area: Area{Center: &gmaps.Point{}}}
	if err := s.Validate(); err != nil {
		t.Fatal(err)
	}
	want := Spec{
		Name: "coffee", Inputs: s.Inputs, Lang: "en", Detail: gmaps.DetailAuto, Engine: "http", ReviewOrder: gmaps.OrderRelevant,
		MaxWorkers: 1, MaxAttempts: 3, Area: Area{Center: &gmaps.Point{}, Zoom: 14},
	}
	if diff := cmp.Diff(want, s); diff != "" {
		t.Error(diff)
	}
	if err := s.Validate(); err != nil {
		t.Errorf("a second time: %v", err)
	}
	if diff := cmp.Diff(want, s); diff != "" {
		t.Errorf("a second time: %s", diff)
	}
}
