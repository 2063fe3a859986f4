package export

import (
	"bytes"
	"encoding/csv"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/xuri/excelize/v2"

	"gmaps-scraper/gmaps"
)

func TestGuardDisarmsFormulasOnly(t *testing.T) {
	t.Parallel()
	for _, attack := range []string{
		"=1+1", "+1+cmd|' /C calc'!A0", "-2+3+cmd|' /C calc'!A0", "@SUM(1+1)*cmd|' /C calc'!A0", "\t=1", "\r=1", "\ttext", "\n=1", " =1", "  \u00a0=1",
		"\"=1", "'=1", "\" =1", "＝1+1", "＠SUM(1)", "＋1+A1", "－1+A1", "=", "-", "+", "--1", "+-1", "-A1", "+30 21 x", "+357;=1", "-1,000+A1", "+1 (2)=3", "\u200b=1", "\ufeff=1",
	} {
		if got := guard(attack); got != "'"+attack {
			t.Errorf("%q became %q: a spreadsheet may run it", attack, got)
		}
	}
	for _, plain := range []string{
		"", "Café", "a=1", "-5", "+5", "-3.25", "1e-7", "-1,5", "+30 21 0123 4567", "+357 (25) 12-34", "+1.800.555", " +30 21 ", "34.67", "https://x.example/?a=1", "[\"@a\"]", "3 - 4", "#1", "' name",
	} {
		if got := guard(plain); got != plain {
			t.Errorf("%q became %q", plain, got)
		}
	}
}

func TestGuardPartsSurvivesOtherSeparators(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"a;=1":                      "a;'=1",
		"a; =1;b":                   "a;' =1;b",
		"a\n=cmd|x":                 "a\n'=cmd|x",
		"a\r\n@x\t-y":               "a\r\n'@x\t'-y",
		"=1;=2":                     "'=1;'=2",
		"Tel; +30 21 1;9":           "Tel; +30 21 1;9",
		"Mon 8–20; Tue 8–20":        "Mon 8–20; Tue 8–20",
		`{"text":"a;\u003dsum"};""`: `{"text":"a;\u003dsum"};""`,
	} {
		if got := guardParts(in); got != want {
			t.Errorf("%q: got %q, want %q", in, got, want)
		}
	}
}

// FuzzCSVCell: whatever a cell holds, it comes back from a CSV reader as one cell, harmless, in a line of the right length.
func FuzzCSVCell(f *testing.F) {
	for _, s := range []string{"=1", "a,b\"c\"\r\nd", "+30 21", "\x00", "\xff", "a;=1", "a\n\"\r-", "\\.", "'", "\ufeff", "\r", "\n"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		var b bytes.Buffer
		w, err := New("csv", &b, Options{Columns: []string{"title", "address"}})
		if err != nil {
			t.Fatal(err)
		}
		if err := w.Write(Row{Place: gmaps.Place{Title: s, Address: "end"}}); err != nil {
			t.Fatal(err)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		table, err := csv.NewReader(&b).ReadAll()
		if err != nil {
			t.Fatal(err)
		}
		if len(table) != 2 || len(table[1]) != 2 || table[1][1] != "end" {
			t.Fatalf("%q became %q", s, table)
		}
		cell := table[1][0]
		if !utf8.ValidString(cell) || strings.ContainsFunc(cell, illegal) {
			t.Errorf("%q became %q, which holds illegal characters", s, cell)
		}
		for _, part := range append(strings.FieldsFunc(cell, func(r rune) bool { return strings.ContainsRune(";\t\n\r", r) }), cell) {
			if dangerous(part) && !strings.HasPrefix(part, "'") {
				t.Errorf("%q became %q, whose part %q a spreadsheet may run", s, cell, part)
			}
		}
	})
}

func TestLimitUnitsCountsUTF16(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		in    string
		limit int
		want  string
	}{
		{"abcd", 4, "abcd"}, {"abcde", 4, "abc…"}, {"😀😀", 4, "😀😀"}, {"😀😀a", 4, "😀…"}, {"a😀😀", 4, "a😀…"}, {"abc😀", 4, "abc…"}, {"ééééé", 4, "ééé…"}, {"", 4, ""},
	} {
		if got := limitUnits(c.in, c.limit); got != c.want {
			t.Errorf("limitUnits(%q, %d) = %q, want %q", c.in, c.limit, got, c.want)
		}
	}
}

func TestXLSXGoesOnInAnotherSheet(t *testing.T) {
	t.Parallel()
	var b bytes.Buffer
	w, err := newXLSX(&b, columns(), Options{})
	if err != nil {
		t.Fatal(err)
	}
	w.(*xlsxWriter).sheetRows = 3 // a header and two rows
	for range 5 {
		if err := w.Write(Row{Place: gmaps.Place{Title: "x"}}); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	f, err := excelize.OpenReader(&b)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for sheet, want := range map[string]int{"places": 3, "places 2": 3, "places 3": 2} {
		if got, err := f.GetRows(sheet); err != nil || len(got) != want {
			t.Errorf("sheet %s: %d rows, %v; want %d", sheet, len(got), err, want)
		}
	}
}

func TestEveryColumnIsNamedOnceAndDescribed(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for _, c := range columns() {
		if seen[c.name] || c.doc == "" || strings.ToLower(c.name) != c.name {
			t.Errorf("column %q: doubled, without a description, or not in lower case", c.name)
		}
		seen[c.name] = true
	}
}
