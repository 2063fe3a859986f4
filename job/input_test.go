package job

import (
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/google/go-cmp/cmp"

	"gmaps-scraper/gmaps"
)

func TestReadInputsReadsLines(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("λ", MaxKeywordBytes/2)
	for name, c := range map[string]struct {
		in   string
		want []Input
	}{
		"nothing":              {"", nil},
		"only blanks":          {"\n \t \r\n\n", nil},
		"no line end":          {"coffee", []Input{{Text: "coffee"}}},
		"line ends":            {"a\nb\r\n  c  \n", []Input{{Text: "a"}, {Text: "b"}, {Text: "c"}}},
		"comments":             {"# one\n  # two\na # not one\n#!#id\n", []Input{{Text: "a # not one"}}},
		"ids":                  {"a #!# 1\nb#!#2\nc #!#\nd #!# x #!# y", []Input{{Text: "a", ID: "1"}, {Text: "b", ID: "2"}, {Text: "c"}, {Text: "d", ID: "x #!# y"}}},
		"byte order mark":      {"\xef\xbb\xbfa\nb", []Input{{Text: "a"}, {Text: "b"}}},
		"mark before comment":  {"\xef\xbb\xbf# c\nb", []Input{{Text: "b"}}},
		"tab inside":           {"a\tb", []Input{{Text: "a\tb"}}},
		"scripts":              {"καφέ στην Αθήνα\n東京 コーヒー\n☕️", []Input{{Text: "καφέ στην Αθήνα"}, {Text: "東京 コーヒー"}, {Text: "☕️"}}},
		"the longest":          {long, []Input{{Text: long}}},
		"a link":               {"https://www.google.com/maps?cid=1 #!# x", []Input{{Text: "https://www.google.com/maps?cid=1", ID: "x"}}},
		"equal lines are kept": {"a\na", []Input{{Text: "a"}, {Text: "a"}}},
		"broken comment":       {"#\xff\x00\na", []Input{{Text: "a"}}},
	} {
		got, err := ReadInputs(iotest.OneByteReader(strings.NewReader(c.in)))
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}

func TestReadInputsNamesTheLine(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		in   string
		line int
		says string
	}{
		"NUL":                  {"a\nb\x00c", 2, "NUL"},
		"escape":               {"\x1b[31mred", 1, "control"},
		"broken UTF-8":         {"# c\n\na\xff\n", 3, "UTF-8"},
		"UTF-16":               {"\xff\xfea\x00\n\x00", 1, "UTF-8"},
		"10 kB":                {"a\n" + strings.Repeat("x", 10<<10), 2, "10240 bytes; 1024 are the most"},
		"one byte too long":    {strings.Repeat("x", MaxKeywordBytes+1), 1, "1025 bytes"},
		"1 MB":                 {"a\nb\n" + strings.Repeat("x", 1<<20), 3, "1024 bytes"},
		"10 MB":                {"\n" + strings.Repeat("x", 10<<20) + "\nb", 2, "1024 bytes"},
		"long id":              {"a #!# " + strings.Repeat("x", 2000), 1, "the id has 2000 bytes"},
		"another site":         {"a\nhttps://evil.example/maps", 2, "evil.example"},
		"in capitals":          {"HTTPS://EVIL.EXAMPLE/", 1, "not Google Maps"},
		"a link to nowhere":    {"https://www.google.com/maps", 1, "neither a place nor a search"},
		"a link of 10 kB":      {"https://www.google.com/maps/search/" + strings.Repeat("a", 10<<10), 1, "bytes"},
		"a header in a link":   {"https://www.google.com/maps/search/a?hl=en%0aX", 1, "no language code"},
		"NUL hidden in a link": {"https://www.google.com/maps/search/a%00b", 1, "no text"},
	} {
		got, err := ReadInputs(strings.NewReader(c.in))
		var line *LineError
		if !errors.As(err, &line) || line.Line != c.line || !strings.Contains(err.Error(), c.says) || got != nil {
			t.Errorf("%s: got %v and %.60v, want line %d and %q", name, got, err, c.line, c.says)
		}
		if err != nil && len(err.Error()) > 2000 {
			t.Errorf("%s: the error repeats the input: %d bytes", name, len(err.Error()))
		}
	}
	broken := errors.New("broken disk")
	if _, err := ReadInputs(iotest.ErrReader(broken)); !errors.Is(err, broken) {
		t.Errorf("got %v, want the reader's error", err)
	}
}

func TestLinksAreKnownWithAndWithoutTheirScheme(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]gmaps.Query{
		"www.google.com/maps?cid=12":         {Place: &gmaps.PlaceRef{CID: "12"}},
		"HTTPS://www.google.com/maps?cid=12": {Place: &gmaps.PlaceRef{CID: "12"}},
		"maps.app.goo.gl/AbC":                {Place: &gmaps.PlaceRef{URL: "https://maps.app.goo.gl/AbC"}},
		"coffee near https://x.example":      {Keyword: "coffee near https://x.example"},
		"google maps":                        {Keyword: "google maps"},
	} {
		in := Input{Text: text}
		if err := in.validate(); err != nil {
			t.Errorf("%s: %v", text, err)
		}
		got, err := in.query()
		if diff := cmp.Diff(want, got); diff != "" || err != nil {
			t.Errorf("%s: %v %s", text, err, diff)
		}
	}
}

// FuzzReadInputs: what is read can be validated and made into tasks, and written as lines is read again as the same.
func FuzzReadInputs(f *testing.F) {
	for _, s := range []string{"a\nb", "\xef\xbb\xbfa #!# 1", "# c", "\x00", "\xff", "https://www.google.com/maps?cid=1", "maps.app.goo.gl/x", "a#!#b#!#c", "#!#", "\r", "://", "http://[::1", "\ufeff\ufeff", "a\n\ufeffb"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		inputs, err := ReadInputs(strings.NewReader(s))
		if err != nil {
			var line *LineError
			if !errors.As(err, &line) || line.Line < 1 || line.Line > strings.Count(s, "\n")+1 {
				t.Fatalf("got %v, want a line of the input", err)
			}
			return
		}
		if len(inputs) == 0 {
			return
		}
		spec := Spec{Inputs: slices.Clone(inputs)}
		if err := spec.Validate(); err != nil {
			t.Fatalf("inputs that were read are not valid: %v", err)
		}
		if tasks, err := spec.Tasks(); err != nil || len(tasks) != len(inputs) {
			t.Fatalf("%d inputs gave %d tasks, %v", len(inputs), len(tasks), err)
		}
		var lines strings.Builder
		for _, in := range inputs {
			lines.WriteString(in.Text + " #!# " + in.ID + "\n")
		}
		again, err := ReadInputs(strings.NewReader(lines.String()))
		if diff := cmp.Diff(inputs, again); diff != "" || err != nil {
			t.Fatalf("written and read again: %v %s", err, diff)
		}
	})
}

func TestDurationIsTextInJSON(t *testing.T) {
	t.Parallel()
	type body struct {
		D Duration `json:"d,omitempty"`
	}
	for _, c := range []struct {
		d    time.Duration
		text string
	}{{90 * time.Second, `{"d":"1m30s"}`}, {1500 * time.Millisecond, `{"d":"1.5s"}`}, {0, `{}`}, {-time.Second, `{"d":"-1s"}`}} {
		b, err := json.Marshal(body{Duration(c.d)})
		if err != nil || string(b) != c.text {
			t.Errorf("%s: wrote %s, %v; want %s", c.d, b, err, c.text)
		}
		var got body
		if err := json.Unmarshal(b, &got); err != nil || time.Duration(got.D) != c.d {
			t.Errorf("%s: read %s, %v", b, time.Duration(got.D), err)
		}
	}
	for _, bad := range []string{`{"d":"90"}`, `{"d":90}`, `{"d":"soon"}`, `{"d":""}`} {
		var got body
		if err := json.Unmarshal([]byte(bad), &got); err == nil {
			t.Errorf("%s was read as %s", bad, time.Duration(got.D))
		}
	}
}

func TestIDsSortByTime(t *testing.T) {
	t.Parallel()
	ids, spawns := make([]ID, 10_000), make([]SpawnID, 10_000)
	for i := range ids {
		ids[i], spawns[i] = NewID(), NewSpawnID()
	}
	if !slices.IsSorted(ids) || !slices.IsSorted(spawns) {
		t.Error("a later id sorts before an earlier one")
	}
	if slices.Sort(ids); len(slices.Compact(ids)) != 10_000 {
		t.Error("an id was given twice")
	}
}

func TestProgressIsTheShareOfTasksThatAreOver(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		counts Counts
		want   float64
	}{{Counts{}, 0}, {Counts{Tasks: 4, Open: 3, Done: 1}, 0.25}, {Counts{Tasks: 4, Done: 1, Dead: 1, Skipped: 2}, 1}} {
		if got := c.counts.Progress(); got != c.want {
			t.Errorf("%+v: got %g, want %g", c.counts, got, c.want)
		}
	}
}

func TestOnlyThreeStatesAreTerminal(t *testing.T) {
	t.Parallel()
	for s, want := range map[State]bool{Pending: false, Running: false, Paused: false, Succeeded: true, Failed: true, Cancelled: true} {
		if s.Terminal() != want {
			t.Errorf("%s: terminal is %t", s, s.Terminal())
		}
	}
	for s, want := range map[SpawnState]bool{SpawnPending: true, SpawnStarted: true, SpawnRunning: true, SpawnStopping: true, SpawnEnded: false} {
		if (Spawn{State: s}).Live() != want {
			t.Errorf("%s: live is %t", s, !want)
		}
	}
}
