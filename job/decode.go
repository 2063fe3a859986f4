package job

import (
	"bytes"
	"encoding"
	"encoding/json"
	"reflect"
	"strconv"
	"strings"
	"sync"
	"unicode/utf8"

	"gmaps-scraper/gmaps"
)

// DecodeBatch reads a batch from JSON as encoding/json does, at a fraction of the cost if it has the form that encoding/json gives it:
// names in order, no spaces. Then each Found keeps its place's JSON, and texts share the memory of one copy of body.
// Of anything else, an error included, encoding/json has the word.
func DecodeBatch(body []byte, b *Batch) error {
	d := plainText{s: string(bytes.Trim(body, " \t\r\n"))}
	var quick Batch
	if batchReader()(&d, reflect.ValueOf(&quick).Elem()) && d.at == len(d.s) {
		*b = quick
		return nil
	}
	return json.Unmarshal(body, b)
}

// plainText is JSON in the form that encoding/json gives it, and how far it was read.
type plainText struct {
	s  string
	at int
}

// reader reads a value into a zero one; false if the text is not of the plain form, or means nothing to that type.
type reader func(d *plainText, into reflect.Value) bool

var batchReader = sync.OnceValue(func() reader { return readerOf(reflect.TypeFor[Batch]()) })

// readerOf makes the reader of a type that does not contain itself. What it does not know it has none of: nothing of it is plain.
func readerOf(t reflect.Type) reader {
	p := reflect.PointerTo(t)
	switch {
	case t == reflect.TypeFor[Found]():
		return readFound(readerOf(reflect.TypeFor[TaskID]()), readerOf(reflect.TypeFor[gmaps.Place]()))
	case p.Implements(reflect.TypeFor[json.Unmarshaler]()), p.Implements(reflect.TypeFor[encoding.TextUnmarshaler]()):
		return readOwn
	}
	switch t.Kind() {
	case reflect.String:
		return readString
	case reflect.Bool:
		return readBool
	case reflect.Int, reflect.Int64:
		return readInt
	case reflect.Float64:
		return readFloat
	case reflect.Pointer:
		return orNull(readPointer(readerOf(t.Elem())))
	case reflect.Slice:
		return orNull(readSlice(readerOf(t.Elem())))
	case reflect.Array:
		return readArray(readerOf(t.Elem()))
	case reflect.Struct:
		return readStruct(t)
	default:
		return readNothing
	}
}

func readNothing(*plainText, reflect.Value) bool { return false }

// take reads a text that must come now.
func (d *plainText) take(text string) bool {
	if !strings.HasPrefix(d.s[d.at:], text) {
		return false
	}
	d.at += len(text)
	return true
}

// next is the byte that comes now; 0 at the end.
func (d *plainText) next() byte {
	if d.at < len(d.s) {
		return d.s[d.at]
	}
	return 0
}

// text reads a string with its quotes.
func (d *plainText) text() (quoted string, escaped, ok bool) {
	if d.next() != '"' {
		return "", false, false
	}
	from, wide := d.at, false
	for d.at++; d.at < len(d.s); d.at++ {
		switch c := d.s[d.at]; {
		case c == '"':
			d.at++
			quoted = d.s[from:d.at]
			return quoted, escaped, !wide || utf8.ValidString(quoted)
		case c == '\\':
			escaped = true
			d.at++ // what it escapes is no end
		case c < ' ':
			return "", false, false
		case c >= utf8.RuneSelf:
			wide = true
		}
	}
	return "", false, false
}

// number reads a number.
func (d *plainText) number() (text string, ok bool) {
	from := d.at
	digits := func() bool {
		begin := d.at
		for '0' <= d.next() && d.next() <= '9' {
			d.at++
		}
		return d.at > begin
	}
	if d.next() == '-' {
		d.at++
	}
	if zero := d.next() == '0'; zero {
		d.at++
	} else if !digits() {
		return "", false
	}
	if d.next() == '.' {
		d.at++
		if !digits() {
			return "", false
		}
	}
	if c := d.next(); c == 'e' || c == 'E' {
		d.at++
		if c := d.next(); c == '+' || c == '-' {
			d.at++
		}
		if !digits() {
			return "", false
		}
	}
	return d.s[from:d.at], true
}

func readString(d *plainText, into reflect.Value) bool {
	quoted, escaped, ok := d.text()
	if !ok {
		return false
	}
	if !escaped {
		into.SetString(quoted[1 : len(quoted)-1])
		return true
	}
	var s string
	// What was replaced for not being text is written otherwise when it is encoded again: then a replay would not be known.
	if json.Unmarshal([]byte(quoted), &s) != nil || strings.ContainsRune(s, utf8.RuneError) {
		return false
	}
	into.SetString(s)
	return true
}

func readBool(d *plainText, into reflect.Value) bool {
	if d.take("true") {
		into.SetBool(true)
		return true
	}
	return d.take("false")
}

func readInt(d *plainText, into reflect.Value) bool {
	text, ok := d.number()
	if !ok {
		return false
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || into.OverflowInt(n) {
		return false
	}
	into.SetInt(n)
	return true
}

func readFloat(d *plainText, into reflect.Value) bool {
	text, ok := d.number()
	if !ok {
		return false
	}
	x, err := strconv.ParseFloat(text, 64)
	if err != nil {
		return false
	}
	into.SetFloat(x)
	return true
}

// readOwn reads a string or a number that its type reads itself.
func readOwn(d *plainText, into reflect.Value) bool {
	text, _, ok := d.text()
	if !ok {
		text, ok = d.number()
	}
	return ok && json.Unmarshal([]byte(text), into.Addr().Interface()) == nil
}

// orNull is for what null leaves as nil.
func orNull(read reader) reader {
	return func(d *plainText, into reflect.Value) bool { return d.take("null") || read(d, into) }
}

func readPointer(elem reader) reader {
	return func(d *plainText, into reflect.Value) bool {
		into.Set(reflect.New(into.Type().Elem()))
		return elem(d, into.Elem())
	}
}

// Of elements of largeElement bytes, room for mostElements at most is made ahead.
const (
	largeElement = 512
	mostElements = 512
)

func readSlice(elem reader) reader {
	return func(d *plainText, into reflect.Value) bool {
		if !d.take("[") {
			return false
		}
		if d.take("]") {
			into.Set(reflect.MakeSlice(into.Type(), 0, 0))
			return true
		}
		large, from := into.Type().Elem().Size() >= largeElement, d.at
		for n := 0; ; n++ {
			switch {
			case n < into.Cap():
			case large && n > 0: // as many as the rest may hold, if they are like those before: large ones are dear to move
				into.Grow(min(mostElements, 1+(len(d.s)-d.at)*n/(d.at-from)))
			default:
				into.Grow(1)
			}
			into.SetLen(n + 1)
			if !elem(d, into.Index(n)) {
				return false
			}
			if !d.take(",") {
				return d.take("]")
			}
		}
	}
}

func readArray(elem reader) reader {
	return func(d *plainText, into reflect.Value) bool {
		for n := range into.Len() {
			before := ","
			if n == 0 {
				before = "["
			}
			if !d.take(before) || !elem(d, into.Index(n)) {
				return false
			}
		}
		return d.take("]")
	}
}

type field struct {
	name  string // with its quotes and colon
	index int
	read  reader
}

// readStruct reads fields in the order of the type. Any may be left out.
func readStruct(t reflect.Type) reader {
	var fields []field
	for i := range t.NumField() {
		f := t.Field(i)
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		switch {
		case f.Tag.Get("json") == "-":
			continue
		case name == "", f.Anonymous, strings.Contains(f.Tag.Get("json"), ",string"):
			return readNothing
		}
		fields = append(fields, field{`"` + name + `":`, i, readerOf(f.Type)})
	}
	return func(d *plainText, into reflect.Value) bool {
		if !d.take("{") {
			return false
		}
		if d.take("}") {
			return true
		}
		for _, f := range fields {
			if !d.take(f.name) {
				continue
			}
			if !f.read(d, into.Field(f.index)) {
				return false
			}
			if !d.take(",") {
				return d.take("}")
			}
		}
		return false
	}
}

func readFound(task, place reader) reader {
	return func(d *plainText, into reflect.Value) bool {
		f, ok := into.Addr().Interface().(*Found)
		if !ok || !d.take(`{"task_id":`) || !task(d, reflect.ValueOf(&f.TaskID).Elem()) || !d.take(`,"place":`) {
			return false
		}
		from := d.at
		if d.next() != '{' || !place(d, reflect.ValueOf(&f.Place).Elem()) {
			return false
		}
		f.JSON = d.s[from:d.at]
		return d.take("}")
	}
}
