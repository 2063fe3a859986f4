package export

import (
	"bufio"
	"encoding/csv"
	"io"
	"strings"
)

// csvWriter writes RFC 4180: comma, CRLF, quotes where needed, a header, UTF-8.
type csvWriter struct {
	columns []column
	out     *bufio.Writer
	csv     *csv.Writer
	record  []string
}

func newCSV(w io.Writer, columns []column, o Options) (Writer, error) {
	c := &csvWriter{columns: columns, out: buffered(w), record: make([]string, len(columns))}
	c.csv = csv.NewWriter(c.out)
	c.csv.UseCRLF = true
	if o.BOM {
		if _, err := c.out.WriteString("\uFEFF"); err != nil {
			return nil, err
		}
	}
	for i := range columns {
		c.record[i] = columns[i].name
	}
	return c, c.csv.Write(c.record)
}

func (c *csvWriter) Write(r Row) error {
	for i := range c.columns {
		col := &c.columns[i]
		s, err := cellText(col, col.value(&r))
		if err != nil {
			return err
		}
		if col.kind == text || col.kind == structured {
			s = guardParts(strings.ReplaceAll(s, "\r", "")) // the writer drops them, and what follows one would then begin nothing
		}
		c.record[i] = s
	}
	return c.csv.Write(c.record)
}

func (c *csvWriter) Flush() error {
	c.csv.Flush()
	if err := c.csv.Error(); err != nil {
		return err
	}
	return c.out.Flush()
}

func (c *csvWriter) Close() error { return c.Flush() }
