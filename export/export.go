// Package export writes places in the formats that people and programs take them in: CSV, JSON, NDJSON, XLSX, Parquet, GeoJSON.
// Rows are streamed: memory does not grow with their number, in any format.
package export

import (
	"bufio"
	"fmt"
	"io"
	"slices"
	"strings"

	"gmaps-scraper/gmaps"
)

// Row is one place and the id that the user gave to the input which found it.
type Row struct {
	InputID string
	Place   gmaps.Place
}

// Writer writes rows in one format. It is for one goroutine.
type Writer interface {
	// Write adds a row. It may reach the underlying writer later: see Flush.
	Write(r Row) error
	// Flush hands all rows written so far to the underlying writer, so that an interrupt loses none of them.
	// XLSX and Parquet cannot be read before Close whatever was flushed; there it does nothing.
	Flush() error
	// Close writes what ends the format, flushes, and frees temporary files. It does not close the underlying writer.
	// It must be called once, also after an error.
	Close() error
}

// Options choose what is written. The zero value is all columns.
type Options struct {
	// Columns are names of Columns(), in the order wanted, or only Compat. Empty: all columns. JSON and NDJSON without
	// a choice write the whole place as the API does instead of columns.
	Columns []string
	// BOM begins a CSV file with a byte order mark, which old versions of Excel need to see UTF-8. Other formats ignore it.
	BOM bool
}

// format is one way to write rows.
type format struct {
	name, contentType, extension string
	open                         func(w io.Writer, columns []column, o Options) (Writer, error)
}

// formats returns the table of formats, in the order in which they are offered.
func formats() []format {
	return []format{
		{"csv", "text/csv; charset=utf-8", ".csv", newCSV},
		{"json", "application/json", ".json", newJSON},
		{"ndjson", "application/x-ndjson", ".ndjson", newNDJSON},
		{"xlsx", "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet", ".xlsx", newXLSX},
		{"parquet", "application/vnd.apache.parquet", ".parquet", newParquet},
		{"geojson", "application/geo+json", ".geojson", newGeoJSON},
	}
}

// Formats returns the names that New knows.
func Formats() []string {
	names := make([]string, 0, 6)
	for _, f := range formats() {
		names = append(names, f.name)
	}
	return names
}

// ContentType returns the media type of a format, with its charset where it has one; "" for an unknown format.
func ContentType(name string) string { return lookup(name).contentType }

// Extension returns what a file name of a format ends in, its dot included; "" for an unknown format.
func Extension(name string) string { return lookup(name).extension }

func lookup(name string) format {
	all := formats()
	if i := slices.IndexFunc(all, func(f format) bool { return f.name == name }); i >= 0 {
		return all[i]
	}
	return format{}
}

// New returns a Writer of a format over w. Nothing reaches w before the first Flush, or before a buffer is full, so that an error
// here can still be answered in words. A column that is not known is an *UnknownColumnError.
func New(name string, w io.Writer, o Options) (Writer, error) {
	f := lookup(name)
	if f.open == nil {
		return nil, fmt.Errorf("format %q is none of %s", name, strings.Join(Formats(), ", "))
	}
	columns, err := choose(o.Columns)
	if err != nil {
		return nil, err
	}
	return f.open(w, columns, o)
}

// bufferBytes is how much text is gathered before it goes out by itself.
const bufferBytes = 64 << 10

func buffered(w io.Writer) *bufio.Writer { return bufio.NewWriterSize(w, bufferBytes) }
