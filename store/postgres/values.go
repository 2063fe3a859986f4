package postgres

import (
	"reflect"
	"strings"
	"time"
	"unicode/utf8"
)

// sound makes texts fit for a column, in place: PostgreSQL takes neither NUL nor what is no UTF-8, and the tail of a log may hold
// anything. JSON is not touched by it: its encoder escapes both.
func sound(args []any) []any {
	for i, arg := range args {
		switch v := arg.(type) {
		case string:
			args[i] = soundText(v)
		case []string:
			for k := range v {
				v[k] = soundText(v[k])
			}
		case int, int64, bool, float64, []byte, []int64, nil:
		default:
			if v := reflect.ValueOf(arg); v.Kind() == reflect.String { // an id, a state, a cursor
				args[i] = soundText(v.String())
			}
		}
	}
	return args
}

func soundText(s string) string {
	if utf8.ValidString(s) && strings.IndexByte(s, 0) < 0 {
		return s
	}
	return strings.ReplaceAll(strings.ToValidUTF8(s, "\uFFFD"), "\x00", "\uFFFD")
}

// micros is a time as it is stored. The zero time is 0.
func micros(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMicro()
}

func fromMicros(n int64) time.Time {
	if n == 0 {
		return time.Time{}
	}
	return time.UnixMicro(n).UTC()
}
