package gmaps

import (
	"hash/maphash"
	"math"
)

// fields reads named fields out of one array. A field that is absent is its zero value; one that is there in another shape is that too, and is counted as drift.
type fields struct {
	array    string // what the array is, for Drift
	elements []value
	*reading
}

// reading is what decoding one payload keeps.
type reading struct {
	drift tally
	seed  maphash.Seed
	texts [256]string // that were met, by hash
}

func newReading() reading { return reading{seed: maphash.MakeSeed()} }

// longestShared is the length of the longest text that is kept for the next place to share: names of features and categories, words for hours.
const longestShared = 64

// text is v.text, but a text that was met before costs no memory: of the texts on a search page three in four were.
func (r *reading) text(v value) (_ string, ok bool) {
	raw, ok := v.rawText()
	if !ok || len(raw) > longestShared {
		return cookText(raw), ok
	}
	known := &r.texts[maphash.Bytes(r.seed, raw)%uint64(len(r.texts))]
	if *known == string(raw) {
		return *known, true
	}
	s := cookText(raw)
	if s == string(raw) {
		*known = s
	}
	return s, true
}

// sub splits the array at path into into.
func (f fields) sub(into []value, name string, path ...int) fields {
	f.list(name, path...).split(into)
	return fields{f.array, into, f.reading}
}

// get returns the value at path, whatever its kind.
func (f fields) get(name string, path ...int) value {
	if path[0] >= len(f.elements) {
		return nil
	}
	v, ok := f.elements[path[0]].at(path[1:]...)
	if !ok {
		f.drift.count(f.array, name, path...)
	}
	return v
}

// list returns the array at path, or nil.
func (f fields) list(name string, path ...int) value {
	v := f.get(name, path...)
	if v != nil && v.kind() != kindArray {
		f.drift.count(f.array, name, path...)
		return nil
	}
	return v
}

// text returns the string at path.
func (f fields) text(name string, path ...int) string {
	v := f.get(name, path...)
	if v == nil {
		return ""
	}
	s, ok := f.reading.text(v)
	if !ok {
		f.drift.count(f.array, name, path...)
	}
	return s
}

// number returns the number at path. One that is written as a string is drift, but is taken.
func (f fields) number(name string, path ...int) float64 {
	n, _ := f.lookUpNumber(name, path...)
	return n
}

// lookUpNumber is number that tells 0 from none.
func (f fields) lookUpNumber(name string, path ...int) (_ float64, ok bool) {
	v := f.get(name, path...)
	if v == nil {
		return 0, false
	}
	if n, ok := v.number(); ok {
		return n, true
	}
	f.drift.count(f.array, name, path...)
	s, ok := v.text()
	if !ok {
		return 0, false
	}
	return parseNumber(s)
}

// count returns the number at path if it is one that things can be counted with: whole, not below 0.
func (f fields) count(name string, path ...int) int {
	n := f.number(name, path...)
	if n < 0 || n > math.MaxInt32 || n != math.Trunc(n) {
		f.drift.count(f.array, name, path...)
		return 0
	}
	return int(n)
}

// column returns the strings found at path inside each element of the array v, without empty ones.
func (f fields) column(name string, v value, path ...int) []string {
	var column []string
	for _, e := range v.all() {
		if e == nil {
			continue
		}
		cell, ok := e.at(path...)
		s, isText := f.reading.text(cell)
		if !ok || cell != nil && !isText {
			f.drift.count(f.array, name)
		}
		if s != "" {
			column = append(column, s)
		}
	}
	return column
}
