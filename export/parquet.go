package export

import (
	"fmt"
	"io"
	"reflect"

	"github.com/parquet-go/parquet-go"
	"github.com/parquet-go/parquet-go/compress/zstd"
)

// rowGroupBytes is about how much is held in memory before a row group is written.
const rowGroupBytes = 8 << 20

// parquetWriter writes typed, nullable columns; structured values are JSON text.
type parquetWriter struct {
	columns []column
	file    *parquet.GenericWriter[any]
	row     parquet.Row
	pending int // bytes in the open row group
}

func newParquet(w io.Writer, columns []column, _ Options) (Writer, error) {
	return &parquetWriter{
		columns: columns,
		file: parquet.NewGenericWriter[any](w, parquetSchema(columns),
			parquet.Compression(&zstd.Codec{Level: zstd.SpeedFastest}), parquet.CreatedBy("gmaps-scraper", "", "")),
		row: make(parquet.Row, len(columns)),
	}, nil
}

// parquetSchema goes by way of a struct type, since a parquet.Group sorts its columns by name.
func parquetSchema(columns []column) *parquet.Schema {
	fields := make([]reflect.StructField, len(columns))
	for i, c := range columns {
		fields[i] = reflect.StructField{Name: fmt.Sprintf("F%d", i), Tag: reflect.StructTag(fmt.Sprintf(`parquet:"%s,optional"`, c.name))}
		switch c.kind {
		case integer:
			fields[i].Type = reflect.TypeFor[*int64]()
		case number:
			fields[i].Type = reflect.TypeFor[*float64]()
		case boolean:
			fields[i].Type = reflect.TypeFor[*bool]()
		default:
			fields[i].Type = reflect.TypeFor[*string]()
		}
	}
	return parquet.NewSchema("places", parquet.SchemaOf(reflect.New(reflect.StructOf(fields)).Interface()))
}

func (p *parquetWriter) Write(r Row) error {
	for i := range p.columns {
		c := &p.columns[i]
		v, err := parquetValue(c, c.value(&r))
		if err != nil {
			return err
		}
		defined := 1
		if v.IsNull() {
			defined = 0
		}
		p.row[i] = v.Level(0, defined, i)
		p.pending += 8
		if v.Kind() == parquet.ByteArray && defined == 1 {
			p.pending += len(v.ByteArray())
		}
	}
	if _, err := p.file.WriteRows([]parquet.Row{p.row}); err != nil {
		return fmt.Errorf("write row: %w", err)
	}
	if p.pending < rowGroupBytes {
		return nil
	}
	p.pending = 0
	if err := p.file.Flush(); err != nil {
		return fmt.Errorf("write row group: %w", err)
	}
	return nil
}

func parquetValue(c *column, v any) (parquet.Value, error) {
	switch v := v.(type) {
	case nil:
		return parquet.NullValue(), nil
	case int:
		return parquet.Int64Value(int64(v)), nil
	case float64:
		return parquet.DoubleValue(v), nil
	case bool:
		return parquet.BooleanValue(v), nil
	default:
		s, err := cellText(c, v)
		return parquet.ByteArrayValue([]byte(s)), err
	}
}

// Flush does nothing: a row group for each small batch would make the file large and slow.
func (p *parquetWriter) Flush() error { return nil }

func (p *parquetWriter) Close() error {
	if err := p.file.Close(); err != nil {
		return fmt.Errorf("end parquet file: %w", err)
	}
	return nil
}
