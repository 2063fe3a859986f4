package export

import (
	"errors"
	"fmt"
	"io"
	"unicode/utf16"

	"github.com/xuri/excelize/v2"
)

// xlsxWriter writes one sheet, and a further one when the rows of a sheet are used up. Rows are spooled to a temporary file
// beyond 16 MB (excelize.StreamWriter).
type xlsxWriter struct {
	columns   []column
	out       io.Writer
	file      *excelize.File
	sheet     *excelize.StreamWriter
	sheets    int
	row       int // last row of the sheet that is used
	sheetRows int // rows that a sheet may have
	cells     []any
}

// maxCellUnits is how much a cell may hold, in UTF-16 units (Microsoft, Excel specifications and limits).
const maxCellUnits = excelize.TotalCellChars

func newXLSX(w io.Writer, columns []column, _ Options) (Writer, error) {
	x := &xlsxWriter{columns: columns, out: w, file: excelize.NewFile(), sheetRows: excelize.TotalRows, cells: make([]any, len(columns))}
	if err := x.nextSheet(); err != nil {
		return nil, errors.Join(err, x.file.Close())
	}
	return x, nil
}

// nextSheet ends the sheet and begins another with its header.
func (x *xlsxWriter) nextSheet() error {
	x.sheets++
	name := "places"
	if x.sheets > 1 {
		name = fmt.Sprintf("places %d", x.sheets)
		if err := x.sheet.Flush(); err != nil {
			return fmt.Errorf("end sheet %d: %w", x.sheets-1, err)
		}
		if _, err := x.file.NewSheet(name); err != nil {
			return fmt.Errorf("begin sheet %s: %w", name, err)
		}
	} else if err := x.file.SetSheetName("Sheet1", name); err != nil {
		return fmt.Errorf("name sheet %s: %w", name, err)
	}
	sheet, err := x.file.NewStreamWriter(name)
	if err != nil {
		return fmt.Errorf("begin sheet %s: %w", name, err)
	}
	x.sheet, x.row = sheet, 1
	bold, err := x.file.NewStyle(&excelize.Style{Font: &excelize.Font{Bold: true}})
	if err != nil {
		return fmt.Errorf("style header: %w", err)
	}
	// The header stays in sight; panes and widths must come before the first row.
	if err := sheet.SetPanes(&excelize.Panes{Freeze: true, YSplit: 1, TopLeftCell: "A2", ActivePane: "bottomLeft"}); err != nil {
		return fmt.Errorf("freeze header: %w", err)
	}
	for i := range x.columns {
		x.cells[i] = excelize.Cell{StyleID: bold, Value: x.columns[i].name}
		if err := sheet.SetColWidth(i+1, i+1, width(&x.columns[i])); err != nil {
			return fmt.Errorf("set width of %s: %w", x.columns[i].name, err)
		}
	}
	return sheet.SetRow("A1", x.cells)
}

// width is a column's width in characters.
func width(c *column) float64 {
	switch {
	case c.name == "title" || c.name == "address" || c.name == "website":
		return 36
	case c.kind == text || c.kind == structured:
		return 20
	default:
		return 12
	}
}

func (x *xlsxWriter) Write(r Row) error {
	if x.row == x.sheetRows {
		if err := x.nextSheet(); err != nil {
			return err
		}
	}
	x.row++
	for i := range x.columns {
		c := &x.columns[i]
		v := c.value(&r)
		if v != nil && (c.kind == text || c.kind == structured) {
			s, err := cellText(c, v)
			if err != nil {
				return err
			}
			v = limitUnits(guard(s), maxCellUnits)
		}
		x.cells[i] = v
	}
	at, err := excelize.CoordinatesToCellName(1, x.row)
	if err != nil {
		return err
	}
	if err := x.sheet.SetRow(at, x.cells); err != nil {
		return fmt.Errorf("write row %d: %w", x.row, err)
	}
	return nil
}

// limitUnits cuts s to limit UTF-16 units, the mark of the cut included.
func limitUnits(s string, limit int) string {
	units, end := 0, 0 // end: as much of s as leaves room for the mark
	for i, r := range s {
		if units < limit {
			end = i
		}
		if units += utf16.RuneLen(r); units > limit {
			return s[:end] + "…"
		}
	}
	return s
}

func (x *xlsxWriter) Flush() error { return nil }

func (x *xlsxWriter) Close() error {
	err := x.sheet.Flush()
	if err == nil {
		err = x.file.Write(x.out)
	}
	if err != nil {
		err = fmt.Errorf("write workbook: %w", err)
	}
	return errors.Join(err, x.file.Close())
}
