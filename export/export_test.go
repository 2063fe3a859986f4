package export_test

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/parquet-go/parquet-go"
	"github.com/xuri/excelize/v2"

	"gmaps-scraper/export"
	"gmaps-scraper/gmaps"
)

var update = flag.Bool("update", false, "write the golden files")

// rows are a place with all fields, one with next to none, and one that attacks.
func rows() []export.Row {
	yes := true
	full := gmaps.Place{
		DataID: "0x1:0xffffffffffffffff", CID: "18446744073709551615", PlaceID: "ChIJfull", KnowledgeID: "/g/11full",
		Title: "Καφέ «Ήλιος», the \"Sun\"", Categories: []string{"Coffee shop", "Bakery"}, CategoryIDs: []string{"coffee_shop"},
		Description: "Two lines\nof text", Tagline: "Sunny", OwnerText: "We roast", Address: "Main 1, 3011 Limassol",
		AddressParts: gmaps.AddressParts{Borough: "Old Port", Street: "Main 1", City: "Limassol", PostalCode: "3011", State: "Limassol", CountryCode: "CY"},
		Neighborhood: "Port", PlusCode: "M2CR+6X Limassol", Location: &gmaps.Point{Lat: 34.6704, Lng: 33.0425}, Timezone: "Asia/Nicosia",
		Phone: "+357 25 123456", PhoneInternational: "+357 25 123456", Website: "https://sun.example/?a=1&b=2", Domain: "sun.example",
		Link: "https://www.google.com/maps?cid=18446744073709551615", ReviewsLink: "https://search.google.com/reviews?q=1",
		Rating: 4.5, ReviewCount: 1234, Histogram: &[5]int{1, 2, 3, 4, 1224}, PriceRange: "€€", Status: "Closed ⋅ Opens 8 am",
		Hours:        []gmaps.DayHours{{Weekday: 1, Name: "Monday", Text: []string{"8 am–8 pm"}, Open: []gmaps.Interval{{OpenMinute: 480, CloseMinute: 1200}}}, {Weekday: 2, Name: "Tuesday", Text: []string{"Closed"}}},
		PopularTimes: []gmaps.DayTraffic{{Weekday: 1, Hours: []gmaps.HourTraffic{{Hour: 8, BusyPercent: 40}}}},
		Thumbnail:    "https://img.example/t.jpg", Images: []gmaps.Image{{Title: "All", URL: "https://img.example/1.jpg"}}, StreetViewURL: "https://street.example/1",
		About:       []gmaps.AboutSection{{ID: "service", Name: "Service options", Options: []gmaps.AboutOption{{ID: "/x", Name: "Takeout", On: true}}}},
		CreditCards: &yes, Owner: gmaps.Owner{ID: "117", Name: "Sun Ltd", Link: "https://www.google.com/maps/contrib/117"},
		Menu: gmaps.Link{URL: "https://sun.example/menu", Source: "sun.example"}, Reservations: []gmaps.Link{{URL: "https://book.example", Source: "book.example"}},
		OrderOnline: []gmaps.Link{{URL: "https://order.example", Source: "order.example"}}, AlsoSearched: []string{"Moon"},
		Reviews: []gmaps.Review{{ID: "r1", Author: gmaps.Author{Name: "Ann", Picture: "https://img.example/a.jpg"}, Source: "Google", Rating: 5, RatingMax: 5,
			Text: "Great <coffee>", When: "2 months ago", PostedAt: time.Date(2026, 3, 5, 10, 0, 0, 0, time.UTC), Photos: []string{"https://img.example/r.jpg"}}},
		ExtraReviews: []gmaps.Review{{ID: "r2", Author: gmaps.Author{Name: "Bob"}, Rating: 1, RatingMax: 5, When: "a year ago"}},
		Detailed:     true,
	}
	bare := gmaps.Place{DataID: "0x2:0x2", CID: "2", PlaceID: "ChIJbare", Title: "Mobile barber", Closed: gmaps.ClosedTemporarily}
	attack := gmaps.Place{DataID: "0x3:0x3", Title: "=HYPERLINK(\"http://evil.example\")", Phone: "+30 21 0123 4567", Address: "-2+3+cmd|' /C calc'!A0",
		Categories: []string{"@SUM(1)"}, Location: &gmaps.Point{Lat: -33.5, Lng: -179.999999}, Description: "nul\x00 bell\x07 bad\xff end\nnext"}
	return []export.Row{{InputID: "q-1", Place: full}, {Place: bare}, {InputID: "=1+1", Place: attack}}
}

// write exports rows and returns the file.
func write(t *testing.T, format string, o export.Options, list []export.Row) []byte {
	t.Helper()
	var b bytes.Buffer
	w, err := export.New(format, &b, o)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range list {
		if err := w.Write(r); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func columnNames() []string {
	var names []string
	for _, c := range export.Columns() {
		names = append(names, c.Name)
	}
	return names
}

// cells maps each row of a table by its header.
func cells(t *testing.T, table [][]string) []map[string]string {
	t.Helper()
	if len(table) == 0 {
		t.Fatal("the table has no header")
	}
	var list []map[string]string
	for _, row := range table[1:] {
		m := map[string]string{}
		for i, v := range row {
			m[table[0][i]] = v
		}
		list = append(list, m)
	}
	return list
}

func TestTextFormatsMatchTheirGoldenFiles(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		format  string
		options export.Options
	}{
		"all.csv":        {"csv", export.Options{}},
		"compat.csv":     {"csv", export.Options{Columns: []string{export.Compat}}},
		"chosen.csv":     {"csv", export.Options{Columns: []string{"title", " cid", "rating"}, BOM: true}},
		"all.json":       {"json", export.Options{}},
		"compat.json":    {"json", export.Options{Columns: []string{export.Compat}}},
		"all.ndjson":     {"ndjson", export.Options{}},
		"chosen.ndjson":  {"ndjson", export.Options{Columns: []string{"cid", "latitude", "categories", "reviews_5", "credit_cards_accepted"}}},
		"chosen.geojson": {"geojson", export.Options{Columns: []string{"title", "hours"}}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := write(t, c.format, c.options, rows())
			golden := filepath.Join("testdata", name)
			if *update {
				if err := os.WriteFile(golden, got, 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), string(got)); diff != "" {
				t.Errorf("%s (run with -update after a change that is meant): %s", name, diff)
			}
		})
	}
}

func TestCSVReadsBack(t *testing.T) {
	t.Parallel()
	file := write(t, "csv", export.Options{}, rows())
	if n := bytes.Count(file, []byte("\n")) - bytes.Count(file, []byte("\r\n")); n != 0 {
		t.Errorf("%d lines end without a carriage return (RFC 4180)", n)
	}
	table, err := csv.NewReader(bytes.NewReader(file)).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(columnNames(), table[0]); diff != "" {
		t.Error(diff)
	}
	got := cells(t, table)
	full := got[0]
	for name, want := range map[string]string{
		"input_id": "q-1", "title": "Καφέ «Ήλιος», the \"Sun\"", "category": "Coffee shop", "categories": `["Coffee shop","Bakery"]`,
		"description": "Two lines\nof text", "cid": "18446744073709551615", "latitude": "34.6704", "rating": "4.5", "reviews_5": "1224",
		"phone": "+357 25 123456", "credit_cards_accepted": "true", "price_range": "€€", "owner_name": "Sun Ltd",
	} {
		if full[name] != want {
			t.Errorf("%s: got %q, want %q", name, full[name], want)
		}
	}
	var reviews []gmaps.Review
	if err := json.Unmarshal([]byte(full["reviews"]), &reviews); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(rows()[0].Place.Reviews, reviews); diff != "" {
		t.Error(diff)
	}
	for _, name := range []string{"latitude", "rating", "reviews_1", "phone", "hours", "credit_cards_accepted", "input_id"} {
		if got[1][name] != "" {
			t.Errorf("bare place: %s is %q, want it empty", name, got[1][name])
		}
	}
	for name, want := range map[string]string{
		"title": `'=HYPERLINK("http://evil.example")`, "address": "'-2+3+cmd|' /C calc'!A0", "category": "'@SUM(1)", "input_id": "'=1+1",
		"phone": "+30 21 0123 4567", "latitude": "-33.5", "description": "nul bell bad\uFFFD end\nnext",
	} {
		if got[2][name] != want {
			t.Errorf("attack: %s is %q, want %q", name, got[2][name], want)
		}
	}
}

func TestCompatHasTheOriginalsColumnsInOrder(t *testing.T) {
	t.Parallel()
	const want = "input_id,link,title,category,address,open_hours,popular_times,website,phone,plus_code,review_count,review_rating,reviews_per_rating," +
		"latitude,longitude,cid,status,descriptions,reviews_link,thumbnail,timezone,price_range,data_id,street_view_url,place_id,images,reservations," +
		"order_online,menu,owner,complete_address,credit_cards_accepted,about,user_reviews,user_reviews_extended,emails"
	file := write(t, "csv", export.Options{Columns: []string{"compat"}}, rows())
	header, _, _ := strings.Cut(string(file), "\r\n")
	if header != want {
		t.Errorf("got  %s\nwant %s", header, want)
	}
	table, err := csv.NewReader(bytes.NewReader(file)).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	full := cells(t, table)[0]
	for name, want := range map[string]string{
		"open_hours": `{"Monday":["8 am–8 pm"],"Tuesday":["Closed"]}`, "popular_times": `{"Monday":{"8":40}}`,
		"reviews_per_rating": `{"1":1,"2":2,"3":3,"4":4,"5":1224}`, "images": `[{"title":"All","image":"https://img.example/1.jpg"}]`,
		"menu":         `{"link":"https://sun.example/menu","source":"sun.example"}`,
		"owner":        `{"id":"117","name":"Sun Ltd","link":"https://www.google.com/maps/contrib/117"}`,
		"about":        `[{"id":"service","name":"Service options","options":[{"name":"Takeout","enabled":true}]}]`,
		"user_reviews": `[{"Name":"Ann","ProfilePicture":"https://img.example/a.jpg","Rating":5,"Description":"Great <coffee>","Images":["https://img.example/r.jpg"],"When":"2026-3-5"}]`,
	} {
		if full[name] != want {
			t.Errorf("%s:\n got %s\nwant %s", name, full[name], want)
		}
	}
}

func TestJSONAndNDJSONGiveThePlacesBack(t *testing.T) {
	t.Parallel()
	list := rows()[:2] // the third has bytes that JSON cannot carry
	var want, fromLines []gmaps.Place
	for _, r := range list {
		want = append(want, r.Place)
	}
	var fromArray []gmaps.Place
	if err := json.Unmarshal(write(t, "json", export.Options{}, list), &fromArray); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, fromArray); diff != "" {
		t.Errorf("json: %s", diff)
	}
	d := json.NewDecoder(bytes.NewReader(write(t, "ndjson", export.Options{}, list)))
	for {
		var p gmaps.Place
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		fromLines = append(fromLines, p)
	}
	if diff := cmp.Diff(want, fromLines); diff != "" {
		t.Errorf("ndjson: %s", diff)
	}
}

func TestXLSXReadsBack(t *testing.T) {
	t.Parallel()
	list := rows()
	list[1].Place.OwnerText = "=" + strings.Repeat("😀", 40_000)
	f, err := excelize.OpenReader(bytes.NewReader(write(t, "xlsx", export.Options{}, list)))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	table, err := f.GetRows("places")
	if err != nil {
		t.Fatal(err)
	}
	got := cells(t, table)
	if len(got) != 3 {
		t.Fatalf("got %d rows, want 3", len(got))
	}
	for name, want := range map[string]string{"cid": "18446744073709551615", "phone": "+357 25 123456", "latitude": "34.6704", "review_count": "1234", "credit_cards_accepted": "TRUE"} {
		if got[0][name] != want {
			t.Errorf("%s: got %q, want %q", name, got[0][name], want)
		}
	}
	if got, want := got[2]["title"], `'=HYPERLINK("http://evil.example")`; got != want {
		t.Errorf("attack: got %q, want %q", got, want)
	}
	long := got[1]["owner_text"]
	if units := len(long)/4*2 + 2; !strings.HasPrefix(long, "'=😀") || !strings.HasSuffix(long, "…") || units > excelize.TotalCellChars+2 {
		t.Errorf("long cell: %d bytes, %.10q to %q", len(long), long, long[max(0, len(long)-8):])
	}
	column := func(name string) string {
		for i, h := range table[0] {
			if h == name {
				at, _ := excelize.CoordinatesToCellName(i+1, 2)
				return at
			}
		}
		t.Fatalf("no column %s", name)
		return ""
	}
	if kind, err := f.GetCellType("places", column("cid")); err != nil || kind == excelize.CellTypeNumber || kind == excelize.CellTypeUnset {
		t.Errorf("cid is of cell type %v, %v; want text, a number would lose digits", kind, err)
	}
	for _, name := range columnNames() {
		if formula, _ := f.GetCellFormula("places", column(name)); formula != "" {
			t.Errorf("%s holds the formula %q", name, formula)
		}
	}
}

func TestParquetReadsBackTyped(t *testing.T) {
	t.Parallel()
	file := write(t, "parquet", export.Options{}, rows())
	type place struct {
		Title       *string  `parquet:"title,optional"`
		Latitude    *float64 `parquet:"latitude,optional"`
		ReviewCount *int64   `parquet:"review_count,optional"`
		Cards       *bool    `parquet:"credit_cards_accepted,optional"`
		Hours       *string  `parquet:"hours,optional"`
		CID         *string  `parquet:"cid,optional"`
	}
	f, err := parquet.OpenFile(bytes.NewReader(file), int64(len(file)))
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, field := range f.Schema().Fields() {
		names = append(names, field.Name())
	}
	if diff := cmp.Diff(columnNames(), names); diff != "" {
		t.Error(diff)
	}
	got, err := parquet.Read[place](bytes.NewReader(file), int64(len(file)))
	if err != nil {
		t.Fatal(err)
	}
	if len(got) != 3 {
		t.Fatalf("got %d rows, want 3", len(got))
	}
	full := got[0]
	if *full.Latitude != 34.6704 || *full.ReviewCount != 1234 || !*full.Cards || *full.CID != "18446744073709551615" {
		t.Errorf("got %+v", full)
	}
	var hours []gmaps.DayHours
	if err := json.Unmarshal([]byte(*full.Hours), &hours); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(rows()[0].Place.Hours, hours); diff != "" {
		t.Error(diff)
	}
	if bare := got[1]; bare.Latitude != nil || bare.Cards != nil || bare.Hours != nil || *bare.ReviewCount != 0 {
		t.Errorf("bare place: got %+v, want nulls", bare)
	}
	if want := "=HYPERLINK(\"http://evil.example\")"; *got[2].Title != want {
		t.Errorf("got %q, want %q as it is: nothing runs a Parquet file's text", *got[2].Title, want)
	}
}

func TestParquetWritesRowGroupsOfBoundedSize(t *testing.T) {
	t.Parallel()
	r := rows()[0]
	r.Place.Description = strings.Repeat("x", 100_000)
	list := make([]export.Row, 200) // 20 MB
	for i := range list {
		list[i] = r
	}
	file := write(t, "parquet", export.Options{}, list)
	f, err := parquet.OpenFile(bytes.NewReader(file), int64(len(file)))
	if err != nil {
		t.Fatal(err)
	}
	if len(f.RowGroups()) < 2 || f.NumRows() != 200 {
		t.Errorf("got %d row groups and %d rows, want several groups and 200 rows", len(f.RowGroups()), f.NumRows())
	}
}

func TestGeoJSONReadsBack(t *testing.T) {
	t.Parallel()
	var got struct {
		Type     string
		Features []struct {
			Type, ID string
			Geometry *struct {
				Type        string
				Coordinates []float64
			}
			Properties map[string]any
		}
	}
	if err := json.Unmarshal(write(t, "geojson", export.Options{}, rows()), &got); err != nil {
		t.Fatal(err)
	}
	if got.Type != "FeatureCollection" || len(got.Features) != 3 {
		t.Fatalf("got %s with %d features", got.Type, len(got.Features))
	}
	full, bare := got.Features[0], got.Features[1]
	if diff := cmp.Diff([]float64{33.0425, 34.6704}, full.Geometry.Coordinates); diff != "" {
		t.Errorf("longitude comes first: %s", diff)
	}
	if full.ID != "0x1:0xffffffffffffffff" || full.Properties["cid"] != "18446744073709551615" || full.Properties["rating"] != 4.5 {
		t.Errorf("got %+v", full)
	}
	if bare.Geometry != nil {
		t.Errorf("a place without a location has the geometry %+v, want null", bare.Geometry)
	}
}

func TestEmptyExportsAreWellFormed(t *testing.T) {
	t.Parallel()
	for _, format := range export.Formats() {
		file := write(t, format, export.Options{}, nil)
		var err error
		switch format {
		case "csv":
			var table [][]string
			if table, err = csv.NewReader(bytes.NewReader(file)).ReadAll(); len(table) != 1 {
				t.Errorf("csv: got %d lines, want the header alone", len(table))
			}
		case "json", "geojson":
			var v any
			err = json.Unmarshal(file, &v)
		case "ndjson":
			if len(file) != 0 {
				t.Errorf("ndjson: got %q, want nothing", file)
			}
		case "xlsx":
			_, err = excelize.OpenReader(bytes.NewReader(file))
		case "parquet":
			_, err = parquet.OpenFile(bytes.NewReader(file), int64(len(file)))
		}
		if err != nil {
			t.Errorf("%s: %v", format, err)
		}
		if export.ContentType(format) == "" || export.Extension(format) != "."+format {
			t.Errorf("%s: content type %q, extension %q", format, export.ContentType(format), export.Extension(format))
		}
	}
}

func TestNothingIsWrittenBeforeTheFirstFlushAndAllAfterIt(t *testing.T) {
	t.Parallel()
	for _, format := range []string{"csv", "json", "ndjson", "geojson"} {
		var b bytes.Buffer
		w, err := export.New(format, &b, export.Options{})
		if err != nil {
			t.Fatal(err)
		}
		if b.Len() != 0 {
			t.Errorf("%s: New wrote %q", format, b.String())
		}
		for i, r := range rows() {
			if err := w.Write(r); err != nil {
				t.Fatal(err)
			}
			if err := w.Flush(); err != nil {
				t.Fatal(err)
			}
			if !strings.Contains(b.String(), r.Place.DataID) {
				t.Errorf("%s: row %d is not there after Flush", format, i)
			}
		}
	}
}

func TestUnknownColumnNamesTheNearest(t *testing.T) {
	t.Parallel()
	for name, nearest := range map[string]string{
		"adress": "address", "Phone": "phone", "lattitude": "latitude", "place-id": "place_id", "reviews_6": "reviews_1", "qqqqqqq": "", "": "",
	} {
		_, err := export.New("csv", io.Discard, export.Options{Columns: []string{"title", name}})
		var unknown *export.UnknownColumnError
		if !errors.As(err, &unknown) {
			t.Errorf("%q: got %v, want an UnknownColumnError", name, err)
			continue
		}
		if unknown.Nearest != nearest || unknown.Name != name {
			t.Errorf("%q: got nearest %q, want %q", name, unknown.Nearest, nearest)
		}
	}
	if _, err := export.New("csv", io.Discard, export.Options{Columns: []string{"title", "title"}}); err == nil {
		t.Error("a column named twice was taken")
	}
	if _, err := export.New("xls", io.Discard, export.Options{}); err == nil || !strings.Contains(err.Error(), "xlsx") {
		t.Errorf("got %v, want an error that names the formats", err)
	}
}

type broken struct{}

func (broken) Write([]byte) (int, error) { return 0, errors.New("disk full") }

func TestWriteErrorsAreReturned(t *testing.T) {
	t.Parallel()
	for _, format := range export.Formats() {
		w, err := export.New(format, broken{}, export.Options{})
		if err != nil {
			t.Fatal(err)
		}
		err = w.Write(rows()[0])
		err = errors.Join(err, w.Flush(), w.Close())
		if err == nil || !strings.Contains(err.Error(), "disk full") {
			t.Errorf("%s: got %v, want disk full", format, err)
		}
	}
}

// TestMemoryDoesNotGrowWithRows is about the formats of text; for Parquet see its row groups, for XLSX its spool.
func TestMemoryDoesNotGrowWithRows(t *testing.T) {
	for _, format := range []string{"csv", "json", "ndjson", "geojson"} {
		w, err := export.New(format, io.Discard, export.Options{})
		if err != nil {
			t.Fatal(err)
		}
		r := rows()[0]
		liveAfter := func(n int) uint64 {
			for i := range n {
				r.Place.DataID = fmt.Sprintf("0x%x:0x1", i)
				if err := w.Write(r); err != nil {
					t.Fatal(err)
				}
			}
			runtime.GC()
			var m runtime.MemStats
			runtime.ReadMemStats(&m)
			return m.HeapAlloc
		}
		before := liveAfter(1_000)
		after := liveAfter(5_000) // 15 MB of text
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		if after > before+4<<20 {
			t.Errorf("%s: %d kB live after 1,000 rows, %d kB after 6,000", format, before>>10, after>>10)
		}
	}
}
