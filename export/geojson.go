package export

import (
	"bufio"
	"io"
)

// geoJSONWriter writes a FeatureCollection (RFC 7946): one feature a place, the columns as its properties. A place without a
// location has null for its geometry (section 3.2).
type geoJSONWriter struct {
	columns []column
	out     *bufio.Writer
	rows    int
}

const geoJSONHead = `{"type":"FeatureCollection","features":[`

func newGeoJSON(w io.Writer, columns []column, _ Options) (Writer, error) {
	return &geoJSONWriter{columns: columns, out: buffered(w)}, nil
}

// point is a GeoJSON position: longitude first (section 3.1.1).
type point struct {
	Type        string     `json:"type"`
	Coordinates [2]float64 `json:"coordinates"`
}

func (g *geoJSONWriter) Write(r Row) error {
	var geometry *point
	if l := r.Place.Location; l != nil {
		geometry = &point{"Point", [2]float64{l.Lng, l.Lat}}
	}
	id, err := marshal(r.Place.Key())
	if err != nil {
		return err
	}
	where, err := marshal(geometry)
	if err != nil {
		return err
	}
	properties, err := appendObject(nil, g.columns, &r)
	if err != nil {
		return err
	}
	before := ",\n"
	if g.rows == 0 {
		before = geoJSONHead + "\n"
	}
	g.rows++
	// A bufio.Writer keeps its first error; the last write returns it.
	for _, part := range []string{before, `{"type":"Feature","id":`, string(id), `,"geometry":`, string(where), `,"properties":`, string(properties)} {
		_, _ = g.out.WriteString(part)
	}
	return g.out.WriteByte('}')
}

func (g *geoJSONWriter) Flush() error { return g.out.Flush() }

func (g *geoJSONWriter) Close() error {
	if g.rows == 0 {
		_, _ = g.out.WriteString(geoJSONHead)
	}
	_, _ = g.out.WriteString("\n]}\n")
	return g.out.Flush()
}
