package gmaps

import (
	"bytes"
	"iter"
	"math"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// value is the JSON text of one value from its first byte on. It runs to the end of the payload, past the value's own end,
// because finding that end means reading the value: only what is asked for is read. nil is null or absent.
//
// Google's answers are arrays of arrays without names, mostly null, and not always JSON by the letter: raw line breaks stand inside strings.
// Nothing here recurses, so that no nesting is too deep, and nothing trusts the bytes: a value that makes no sense reads as absent.
type value []byte

type kind byte

const (
	kindNone kind = iota // null, absent, or no JSON
	kindArray
	kindString
	kindNumber
	kindOther // object, true, false
)

// valueAt returns the value that begins at or after i.
func valueAt(b []byte, i int) value {
	i = skipSpace(b, i)
	if i >= len(b) {
		return nil
	}
	v := value(b[i:])
	if v.kind() == kindNone {
		return nil
	}
	return v
}

func (v value) kind() kind {
	if len(v) == 0 {
		return kindNone
	}
	switch c := v[0]; {
	case c == '[':
		return kindArray
	case c == '"':
		return kindString
	case c == '-' || '0' <= c && c <= '9':
		return kindNumber
	case c == '{' || c == 't' || c == 'f':
		return kindOther
	default:
		return kindNone
	}
}

// at walks down through arrays by index. ok is false if something that is no array stands in the way; an end or a null on the way is plain absence.
func (v value) at(path ...int) (_ value, ok bool) {
	for _, n := range path {
		if v == nil {
			return nil, true
		}
		if v[0] != '[' {
			return nil, false
		}
		v = v.element(n)
	}
	return v, true
}

// element returns the nth element of the array v.
func (v value) element(n int) value {
	i := 1
	for ; n > 0; n-- {
		i = skipSpace(v, skipValue(v, i))
		if i >= len(v) || v[i] != ',' {
			return nil
		}
		i++
	}
	return valueAt(v, i)
}

// all yields the elements of an array with their indices, nulls as nil; nothing if v is no array.
func (v value) all() iter.Seq2[int, value] {
	return func(yield func(int, value) bool) {
		if v.kind() != kindArray {
			return
		}
		i := skipSpace(v, 1)
		if i < len(v) && v[i] == ']' {
			return
		}
		for n := 0; i < len(v); n++ {
			if !yield(n, valueAt(v, i)) {
				return
			}
			i = skipSpace(v, skipValue(v, i))
			if i >= len(v) || v[i] != ',' {
				return
			}
			i++
		}
	}
}

// split keeps the first elements of the array v in into: cheaper than asking for many of them one by one. It reads no further than it must.
func (v value) split(into []value) {
	clear(into)
	n := 0
	for _, e := range v.all() {
		into[n] = e
		if n++; n == len(into) {
			return
		}
	}
}

// splitAll is split that reads v to its end and returns where that is: 0 if v is no array or the payload ends inside it.
func (v value) splitAll(into []value) (end int) {
	clear(into)
	if v.kind() != kindArray {
		return 0
	}
	i := 1
	for n := 0; ; n++ {
		if n < len(into) && i < len(v) && v[i] != 'n' { // most elements are null
			into[n] = valueAt(v, i)
		}
		i = skipSpace(v, skipValue(v, i))
		if i >= len(v) || v[i] != ',' {
			return arrayEnd(v, i)
		}
		i++
	}
}

// each stands for every element in a path of visit.
const each = -1

// visit calls found for whatever is at path, and reads v to its end, which it returns as splitAll does. A value that is no array and stands
// in the way is found too, with the rest of the path. If found returns where the value ends, its bytes are not read again.
func (v value) visit(path []int, found func(e value, rest []int) (end int)) (end int) {
	if v == nil {
		return 0
	}
	if len(path) == 0 || v[0] != '[' {
		return found(v, path)
	}
	i := 1
	for n := 0; ; n++ {
		next := 0
		if path[0] == n || path[0] == each {
			e := valueAt(v, i)
			if end := e.visit(path[1:], found); end > 0 {
				next = len(v) - len(e) + end
			}
		}
		if next == 0 {
			next = skipValue(v, i)
		}
		i = skipSpace(v, next)
		if i >= len(v) || v[i] != ',' {
			return arrayEnd(v, i)
		}
		i++
	}
}

// arrayEnd returns the index after the bracket at i, where an array must close; 0 if it does not.
func arrayEnd(v value, i int) int {
	if i < len(v) && v[i] == ']' {
		return i + 1
	}
	return 0
}

// texts yields every string inside v, however deep.
func (v value) texts() iter.Seq[string] {
	return func(yield func(string) bool) {
		end := skipValue(v, 0)
		for i := 0; i < end; {
			if v[i] != '"' {
				i++
				continue
			}
			if s, ok := v[i:].text(); ok && !yield(s) {
				return
			}
			i = skipString(v, i)
		}
	}
}

// skipSpace returns the index of the first byte at or after i that is no white space.
func skipSpace(b []byte, i int) int {
	for i < len(b) && (b[i] == ' ' || b[i] == '\n' || b[i] == '\r' || b[i] == '\t') {
		i++
	}
	return i
}

// skipValue returns the index after the value at i: that of a comma, a closing bracket, or len(b).
func skipValue(b []byte, i int) int {
	depth := 0
	for i < len(b) {
		switch b[i] {
		case 'n': // null, the commonest value by far, together with its comma
			if i += len("null"); depth > 0 && i < len(b) && b[i] == ',' {
				i++
			}
		case '"':
			i = skipString(b, i)
			if depth == 0 {
				return i
			}
			if i < len(b) && b[i] == ',' {
				i++
			}
		case '[', '{':
			depth++
			i++
		case ']', '}':
			if depth == 0 {
				return i
			}
			i++
			if depth--; depth == 0 {
				return i
			}
		case ',':
			if depth == 0 {
				return i
			}
			i++
		default:
			i++
		}
	}
	return len(b)
}

// skipString returns the index after the string that opens at i.
func skipString(b []byte, i int) int {
	for i++; i < len(b); {
		n := bytes.IndexByte(b[i:], '"')
		if n < 0 {
			return len(b)
		}
		quote := i + n
		if b[quote-1] != '\\' {
			return quote + 1
		}
		first := quote
		for first > i && b[first-1] == '\\' {
			first--
		}
		i = quote + 1
		if (quote-first)%2 == 0 {
			return i
		}
	}
	return len(b)
}

// number returns v as a finite number; ok is false if v is none.
func (v value) number() (_ float64, ok bool) {
	if v.kind() != kindNumber {
		return 0, false
	}
	end := 1
	for end < len(v) && isNumberByte(v[end]) {
		end++
	}
	return parseNumber(string(v[:end]))
}

func isNumberByte(c byte) bool {
	return '0' <= c && c <= '9' || c == '.' || c == 'e' || c == 'E' || c == '+' || c == '-'
}

func parseNumber(s string) (_ float64, ok bool) {
	f, err := strconv.ParseFloat(s, 64)
	if err != nil || math.IsInf(f, 0) || math.IsNaN(f) {
		return 0, false
	}
	return f, true
}

// smallInt returns v if it is an integer of at most 9 digits, by far the most numbers there are.
func (v value) smallInt() (_ int, ok bool) {
	i, negative := 0, false
	if len(v) > 0 && v[0] == '-' {
		i, negative = 1, true
	}
	first, n := i, 0
	for ; i < len(v) && '0' <= v[i] && v[i] <= '9'; i++ {
		if i-first == 9 {
			return 0, false
		}
		n = n*10 + int(v[i]-'0')
	}
	if i == first || i < len(v) && isNumberByte(v[i]) {
		return 0, false
	}
	if negative {
		n = -n
	}
	return n, true
}

// text returns v as a string of valid UTF-8 without NUL, which databases refuse. What was escaped twice (`\\u003d`) is unescaped twice.
func (v value) text() (_ string, ok bool) {
	raw, ok := v.rawText()
	return cookText(raw), ok
}

// rawText returns what stands between the quotes of v. ok is false if v is no string or the payload ends inside it.
func (v value) rawText() (_ []byte, ok bool) {
	if v.kind() != kindString {
		return nil, false
	}
	end := skipString(v, 0)
	if end < 2 || v[end-1] != '"' {
		return nil, false
	}
	return v[1 : end-1], true
}

func cookText(raw []byte) string {
	if bytes.IndexByte(raw, '\\') < 0 {
		return cleanText(string(raw))
	}
	s := unescape(raw, false)
	if strings.Contains(s, `\u`) {
		s = unescape([]byte(s), true)
	}
	return cleanText(s)
}

func cleanText(s string) string {
	if strings.IndexByte(s, 0) >= 0 {
		s = strings.ReplaceAll(s, "\x00", "")
	}
	if utf8.ValidString(s) {
		return s
	}
	return strings.ToValidUTF8(s, "\uFFFD")
}

// unescape undoes JSON's escapes, or only \uXXXX if unicodeOnly: a second layer is sure to be one only for these. Unknown escapes stay as they are.
func unescape(b []byte, unicodeOnly bool) string {
	var out strings.Builder
	out.Grow(len(b))
	for {
		n := bytes.IndexByte(b, '\\')
		if n < 0 || n+1 == len(b) {
			out.Write(b)
			return out.String()
		}
		out.Write(b[:n])
		b = b[n:]
		if r, size := unescapeRune(b); size > 0 {
			out.WriteRune(r)
			b = b[size:]
			continue
		}
		c, known := escaped(b[1])
		if unicodeOnly || !known {
			out.WriteByte('\\')
			b = b[1:]
			continue
		}
		out.WriteByte(c)
		b = b[2:]
	}
}

func escaped(c byte) (_ byte, known bool) {
	switch c {
	case '"', '\\', '/':
		return c, true
	case 'n':
		return '\n', true
	case 't':
		return '\t', true
	case 'r':
		return '\r', true
	case 'b':
		return '\b', true
	case 'f':
		return '\f', true
	default:
		return 0, false
	}
}

// unescapeRune reads \uXXXX, or two of them that make one rune, at the start of b. size is 0 if there is none.
func unescapeRune(b []byte) (_ rune, size int) {
	r, ok := hexRune(b)
	if !ok {
		return 0, 0
	}
	if !utf16.IsSurrogate(r) {
		return r, 6
	}
	if low, ok := hexRune(b[6:]); ok {
		if pair := utf16.DecodeRune(r, low); pair != utf8.RuneError {
			return pair, 12
		}
	}
	return utf8.RuneError, 6
}

func hexRune(b []byte) (_ rune, ok bool) {
	if len(b) < 6 || b[0] != '\\' || b[1] != 'u' {
		return 0, false
	}
	n := rune(0)
	for _, c := range b[2:6] {
		switch {
		case '0' <= c && c <= '9':
			c -= '0'
		case 'a' <= c|0x20 && c|0x20 <= 'f':
			c = (c | 0x20) - 'a' + 10
		default:
			return 0, false
		}
		n = n<<4 | rune(c)
	}
	return n, true
}
