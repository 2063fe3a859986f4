package web

import (
	"html/template"
	"strconv"
	"strings"
	"time"

	"gmaps-scraper/job"
)

// functions are what the templates can call.
func functions(assets map[string]string) template.FuncMap {
	return template.FuncMap{
		"asset":    func(name string) string { return assets[name] },
		"number":   number[int],
		"number64": number[int64],
		"percent":  percent,
		"clock":    clock,
		"machine":  func(t time.Time) string { return t.UTC().Format(time.RFC3339) },
		"elapsed":  elapsed,
		"duration": func(d job.Duration) string { return time.Duration(d).String() },
		"usd":      usd,
		"words":    words,
		"short":    func(s string) string { return shorten(s, 120) },
		"formats":  formats,
	}
}

// format is a way to download results.
type format struct{ Name, Label string }

// formats are those of package export, which a test holds them to: this package may not import it.
func formats() []format {
	return []format{{"csv", "CSV"}, {"json", "JSON"}, {"ndjson", "NDJSON"}, {"xlsx", "Excel"}, {"parquet", "Parquet"}, {"geojson", "GeoJSON"}}
}

// number groups digits by thousands.
func number[T int | int64](n T) string {
	s := strconv.FormatInt(int64(n), 10)
	sign := ""
	if strings.HasPrefix(s, "-") {
		sign, s = "-", s[1:]
	}
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return sign + s
}

// usd is an amount as people read it: cents of a large one, and of a small one what it has.
func usd(amount float64) string {
	switch {
	case amount >= 1:
		return strconv.FormatFloat(amount, 'f', 2, 64) + " USD"
	case amount >= 0.0001 || amount <= 0:
		return strconv.FormatFloat(amount, 'f', 4, 64) + " USD"
	}
	return "less than 0.0001 USD"
}

// percent is a job's progress in whole percent; 100 only when all is over.
func percent(c job.Counts) int { return int(c.Progress() * 100) }

func clock(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format("2006-01-02 15:04:05 UTC")
}

// elapsed is the time between two moments; to the present if the second is not set.
func elapsed(from, to time.Time) string {
	if from.IsZero() {
		return ""
	}
	if to.IsZero() {
		to = time.Now()
	}
	d := max(0, to.Sub(from))
	if d < time.Minute {
		return d.Round(100 * time.Millisecond).String()
	}
	return d.Round(time.Second).String()
}

// words writes a state or kind as words.
func words(s any) string {
	var text string
	switch s := s.(type) {
	case job.EventKind:
		text = string(s)
	case job.Outcome:
		text = string(s)
	case string:
		text = s
	}
	return strings.ReplaceAll(text, "_", " ")
}

// shorten cuts a text to n characters.
func shorten(s string, n int) string {
	count := 0
	for i := range s {
		if count == n {
			return s[:i] + "…"
		}
		count++
	}
	return s
}
