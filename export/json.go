package export

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"

	"gmaps-scraper/gmaps"
)

// jsonWriter writes one object a row: lines (NDJSON), or the elements of an array that Close ends.
type jsonWriter struct {
	columns []column // nil: the whole place
	out     *bufio.Writer
	object  []byte
	array   bool
	rows    int
}

func newJSON(w io.Writer, columns []column, o Options) (Writer, error) {
	return openJSON(w, columns, o, true), nil
}

func newNDJSON(w io.Writer, columns []column, o Options) (Writer, error) {
	return openJSON(w, columns, o, false), nil
}

func openJSON(w io.Writer, columns []column, o Options, array bool) *jsonWriter {
	if len(o.Columns) == 0 {
		columns = nil
	}
	return &jsonWriter{columns: columns, out: buffered(w), array: array}
}

// wholePlace is what is written when no columns are chosen: the place as the API gives it.
type wholePlace struct {
	InputID string `json:"input_id,omitempty"`
	*gmaps.Place
}

func (j *jsonWriter) Write(r Row) error {
	var err error
	if j.columns == nil {
		j.object, err = marshal(wholePlace{r.InputID, &r.Place})
	} else {
		j.object, err = appendObject(j.object[:0], j.columns, &r)
	}
	if err != nil {
		return err
	}
	before, after := "", "\n"
	if j.array {
		before, after = "[\n", ""
		if j.rows > 0 {
			before = ",\n"
		}
	}
	j.rows++
	// A bufio.Writer keeps its first error; the last write returns it.
	_, _ = j.out.WriteString(before)
	_, _ = j.out.Write(j.object)
	_, err = j.out.WriteString(after)
	return err
}

func (j *jsonWriter) Flush() error { return j.out.Flush() }

func (j *jsonWriter) Close() error {
	if j.array {
		end := "\n]\n"
		if j.rows == 0 {
			end = "[]\n"
		}
		_, _ = j.out.WriteString(end)
	}
	return j.out.Flush()
}

// appendObject appends the chosen columns as an object, in their order; a field that the place lacks is null.
func appendObject(b []byte, columns []column, r *Row) ([]byte, error) {
	b = append(b, '{')
	for i := range columns {
		if i > 0 {
			b = append(b, ',')
		}
		name, err := json.Marshal(columns[i].name)
		if err != nil {
			return b, err
		}
		value, err := marshal(columns[i].value(r))
		if err != nil {
			return b, fmt.Errorf("write column %s: %w", columns[i].name, err)
		}
		b = append(append(append(b, name...), ':'), value...)
	}
	return append(b, '}'), nil
}
