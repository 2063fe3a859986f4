package export

import (
	"bytes"
	"encoding/json"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// cellText returns a value as the text of a cell, not yet guarded: see guard.
func cellText(c *column, v any) (string, error) {
	switch v := v.(type) {
	case nil:
		return "", nil
	case string:
		return clean(v), nil
	case int:
		return strconv.Itoa(v), nil
	case float64:
		return strconv.FormatFloat(v, 'f', -1, 64), nil
	case bool:
		return strconv.FormatBool(v), nil
	default:
		b, err := marshal(v)
		if err != nil {
			return "", fmt.Errorf("write column %s: %w", c.name, err)
		}
		return clean(string(b)), nil
	}
}

// marshal is json.Marshal without the escapes for HTML, which nobody wants in a file.
func marshal(v any) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}

// clean removes what neither XML 1.0 nor a CSV reader takes: NUL and control characters but tab and line ends, noncharacters, broken UTF-8.
func clean(s string) string {
	if utf8.ValidString(s) && !strings.ContainsFunc(s, illegal) {
		return s
	}
	return strings.Map(func(r rune) rune {
		if illegal(r) {
			return -1
		}
		return r
	}, strings.ToValidUTF8(s, "\uFFFD"))
}

// illegal is the complement of XML 1.0's Char (its section 2.2).
func illegal(r rune) bool {
	return r < ' ' && r != '\t' && r != '\n' && r != '\r' || r == 0xFFFE || r == 0xFFFF
}

// harmless is what begins like a formula and is none: a plain number, or a phone number with its plus.
var harmless = regexp.MustCompile(`^(?:[+-]?[0-9]+(?:[.,][0-9]+)?(?:[eE][+-]?[0-9]+)?|\+\(?[0-9][0-9 ().-]*)$`)

// guard makes a cell harmless that a spreadsheet would run: one that begins, after white space and quotes, with = + - @ (or their
// full-width forms, which Excel takes for them), or with a tab or carriage return, gets an apostrophe in front (OWASP, CSV Injection).
func guard(s string) string {
	if dangerous(s) {
		return "'" + s
	}
	return s
}

func dangerous(s string) bool {
	if s == "" {
		return false
	}
	if s[0] == '\t' || s[0] == '\r' {
		return true
	}
	first := strings.TrimLeftFunc(s, func(r rune) bool {
		return unicode.IsSpace(r) || r == '"' || r == '\'' || r == '\u200B' || r == '\uFEFF'
	})
	r, _ := utf8.DecodeRuneInString(first)
	switch r {
	case '=', '@', '＝', '＠', '＋', '－':
		return true
	case '+', '-':
		return !harmless.MatchString(strings.TrimSpace(s))
	default:
		return false
	}
}

// guardParts guards a CSV cell at its beginning, and again after each line end, semicolon and tab: a spreadsheet that takes another
// separator than the comma, as most of Europe's do, cuts cells there, whatever quotes surround them.
func guardParts(s string) string {
	s = guard(s)
	if !strings.ContainsAny(s, ";\t\r\n") {
		return s
	}
	var b strings.Builder
	for {
		i := strings.IndexAny(s, ";\t\r\n")
		if i < 0 {
			b.WriteString(s)
			return b.String()
		}
		b.WriteString(s[:i+1])
		s = s[i+1:]
		part := s
		if end := strings.IndexAny(s, ";\t\r\n"); end >= 0 {
			part = s[:end]
		}
		if dangerous(part) {
			b.WriteByte('\'')
		}
	}
}
