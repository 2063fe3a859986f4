package gmaps

import "math"

// fields reads named fields out of one array. A field that is absent is its zero value; one that is there in another shape is that too, and is counted as drift.
type fields struct {
	array    string // what the array is, for Drift
	elements []value
	drift    *tally
}

// sub splits the array at path into into.
func (f fields) sub(into []value, name string, path ...int) fields {
	f.list(name, path...).split(into)
	return fields{f.array, into, f.drift}
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
	s, ok := v.text()
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
		s, isText := cell.text()
		if !ok || cell != nil && !isText {
			f.drift.count(f.array, name)
		}
		if s != "" {
			column = append(column, s)
		}
	}
	return column
}
