package job

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode"
	"unicode/utf8"

	"gmaps-scraper/gmaps"
)

// LineError says which line of an input is wrong.
type LineError struct {
	Line int // from 1
	Err  error
}

func (e *LineError) Error() string { return fmt.Sprintf("line %d: %v", e.Line, e.Err) }

func (e *LineError) Unwrap() error { return e.Err }

const (
	maxLineBytes = 1 << 20
	maxLinkBytes = 8 * MaxKeywordBytes
)

// ReadInputs reads one input a line. Empty lines and lines that begin with '#' are skipped; "query #!#id" carries an id.
// A line that is no text, or too long, is refused with a *LineError.
func ReadInputs(r io.Reader) ([]Input, error) {
	var inputs []Input
	s := bufio.NewScanner(r)
	s.Buffer(make([]byte, 0, 64<<10), maxLineBytes)
	n := 0
	for s.Scan() {
		n++
		text := strings.TrimFunc(s.Text(), blank)
		if text == "" || strings.HasPrefix(text, "#") {
			continue
		}
		var in Input
		in.Text, in.ID, _ = strings.Cut(text, "#!#")
		in.Text, in.ID = strings.TrimFunc(in.Text, blank), strings.TrimFunc(in.ID, blank)
		if err := in.validate(); err != nil {
			return nil, &LineError{n, err}
		}
		inputs = append(inputs, in)
		if len(inputs) > MaxInputs {
			return nil, &LineError{n, fmt.Errorf("more than %d inputs: cut the list into several jobs", MaxInputs)}
		}
	}
	if err := s.Err(); errors.Is(err, bufio.ErrTooLong) {
		return nil, &LineError{n + 1, fmt.Errorf("is longer than %d bytes", MaxKeywordBytes)}
	} else if err != nil {
		return nil, fmt.Errorf("read input: %w", err)
	}
	return inputs, nil
}

// blank reports whether r is nothing at the edge of a query: a space, or the byte order mark that spreadsheets begin a file with, and that
// stands inside once files are joined.
func blank(r rune) bool { return unicode.IsSpace(r) || r == '\ufeff' }

func (in Input) validate() error {
	switch {
	case in.Text == "":
		return errors.New("the query is empty")
	case !utf8.ValidString(in.Text) || !utf8.ValidString(in.ID):
		return errors.New("is not valid UTF-8")
	case strings.ContainsFunc(in.Text, control) || strings.ContainsFunc(in.ID, control):
		return errors.New("holds a NUL or another control character")
	case len(in.ID) > MaxKeywordBytes:
		return fmt.Errorf("the id has %d bytes; %d are the most", len(in.ID), MaxKeywordBytes)
	case len(in.Text) > maxLinkBytes:
		return fmt.Errorf("the query has %d bytes; %d are the most, %d for a link", len(in.Text), MaxKeywordBytes, maxLinkBytes)
	}
	q, err := in.query()
	switch {
	case err != nil:
		return err
	case len(q.Keyword) > MaxKeywordBytes:
		return fmt.Errorf("the query has %d bytes; %d are the most", len(q.Keyword), MaxKeywordBytes)
	case !utf8.ValidString(q.Keyword) || strings.ContainsFunc(q.Keyword, control): // a link's %00 or %ff
		return errors.New("the link's search is no text")
	}
	return nil
}

func control(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f }

// query reads the text as a Google Maps link, with or without its scheme, or else as a keyword.
func (in Input) query() (gmaps.Query, error) {
	q, err := gmaps.ParseLink(in.Text)
	switch {
	case errors.Is(err, gmaps.ErrNotLink):
		return gmaps.Query{Keyword: in.Text}, nil
	case err != nil:
		return q, err
	// These go into headers and addresses as they are.
	case !isLang(q.Lang):
		return q, fmt.Errorf("the link's hl=%q is no language code", q.Lang)
	case q.Country != "" && !isCountry(q.Country):
		return q, fmt.Errorf("the link's gl=%q is no two-letter country code", q.Country)
	}
	return q, nil
}
