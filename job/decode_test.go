package job_test

import (
	"bytes"
	"encoding/json"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"gmaps-scraper/gmaps"
	"gmaps-scraper/job"
)

// withoutJSON leaves aside what encoding/json never sets.
var withoutJSON = cmpopts.IgnoreFields(job.Found{}, "JSON")

// sameAsEncodingJSON holds DecodeBatch to encoding/json, and what it kept to the place.
func sameAsEncodingJSON(t *testing.T, body string) job.Batch {
	t.Helper()
	var got, want job.Batch
	err, wantErr := job.DecodeBatch([]byte(body), &got), json.Unmarshal([]byte(body), &want)
	if (err == nil) != (wantErr == nil) {
		t.Fatalf("%s: error %v, encoding/json has %v", body, err, wantErr)
	}
	if diff := cmp.Diff(want, got, withoutJSON); diff != "" && err == nil {
		t.Fatalf("%s (-encoding/json +got):\n%s", body, diff)
	}
	for _, f := range got.Places {
		if f.JSON == "" {
			continue
		}
		var kept gmaps.Place
		if err := json.Unmarshal([]byte(f.JSON), &kept); err != nil {
			t.Fatalf("kept %s: %v", f.JSON, err)
		}
		if diff := cmp.Diff(f.Place, kept); diff != "" {
			t.Fatalf("kept %s (-place +kept):\n%s", f.JSON, diff)
		}
	}
	return got
}

// fill sets every field of v, often to a zero value.
func fill(r *rand.Rand, v reflect.Value) {
	texts := []string{"", "café", `"quoted" \ and/or <b>&amp;`, "line\nbreak \u2028 \x7f", "\x00", "日本 😀", "cut \xe6\x97", "\uFFFD", "\uFFFD & more", strings.Repeat("long ", 50)}
	if v.Type() == reflect.TypeFor[time.Time]() {
		v.Set(reflect.ValueOf(time.UnixMicro(r.Int64N(1 << 50)).UTC()))
		return
	}
	if r.IntN(5) == 0 {
		return
	}
	switch v.Kind() {
	case reflect.String:
		v.SetString(texts[r.IntN(len(texts))])
	case reflect.Bool:
		v.SetBool(r.IntN(2) == 0)
	case reflect.Int, reflect.Int64:
		v.SetInt(r.Int64() - 1<<62)
	case reflect.Float64:
		v.SetFloat((r.Float64() - 0.5) * []float64{1, 1e-9, 1e25}[r.IntN(3)])
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(r, v.Elem())
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), r.IntN(4), 4))
		fallthrough
	case reflect.Array:
		for i := range v.Len() {
			fill(r, v.Index(i))
		}
	case reflect.Struct:
		for i := range v.NumField() {
			if tag := v.Type().Field(i).Tag.Get("json"); tag != "-" {
				fill(r, v.Field(i))
			}
		}
	}
}

func TestPlainBatchIsReadAsByEncodingJSONAndKeptAsItCame(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(1, 2))
	for range 80 {
		var b job.Batch
		for b.Places == nil {
			fill(r, reflect.ValueOf(&b).Elem())
		}
		body, err := json.Marshal(b)
		if err != nil {
			t.Fatal(err)
		}
		got := sameAsEncodingJSON(t, string(body)+"\n")
		for i := range got.Places {
			want, err := json.Marshal(got.Places[i].Place)
			if err != nil {
				t.Fatal(err)
			}
			if kept := got.Places[i].JSON; kept != string(want) && (kept != "" || !bytes.Contains(body, []byte(`\ufffd`)) && !bytes.Contains(body, []byte("\uFFFD"))) {
				t.Fatalf("kept %q of %s", kept, want)
			}
		}
	}
}

// oddBatches are texts that encoding/json would not write.
var oddBatches = []string{
	``, "\u00a0{}", "{}\v", "\u0085{}\f", "\t\r\n {}\n", `null`, `{}`, ` { } `, `[]`, `{"places":null}`, `{"places":[]}`, `{"places":[{}]}`, `{"places":[null]}`, `{"places":{}}`, `{"places":[`,
	`{"tasks":[{"task_id":1,"done":true}],"places":[{"task_id":1,"place":{"data_id":"a"}}]}`,
	`{"places":[{"task_id":1,"place":{"data_id":"a"}}]} x`,
	`{"places":[{"task_id":1,"place":{"data_id":"a"}}],}`,
	`{"places":[{"task_id":1,"place":{"data_id":"a"},"more":1}]}`,
	`{"places":[{"place":{"data_id":"a"},"task_id":1}]}`,
	`{"places":[{"task_id":1,"place":null}]}`,
	`{"places":[{"task_id":1,"place":{}}]}`,
	`{"places":[{"task_id":1,"place":{"title":"b","data_id":"a"}}]}`,
	`{"places":[{"task_id":1,"place":{"data_id":"a","data_id":"b"}}]}`,
	`{"places":[{"task_id":1,"place":{"DATA_ID":"a"}}]}`,
	`{"places":[{"task_id":1,"place":{"unknown":{"deep":[1,2,{}]},"title":"t"}}]}`,
	`{"places":[{"task_id":1,"place":{"title":"t","Rating":"high"}}]}`,
	`{"places":[{"task_id":1,"place":{"title":"t","rating":"high"}}]}`,
	`{"places":[{"task_id":1,"place":{"title":"t","rating":1e999}}]}`,
	`{"places":[{"task_id":1,"place":{"title":"t","rating":01}}]}`,
	`{"places":[{"task_id":1,"place":{"title":"t","rating":+1}}]}`,
	`{"places":[{"task_id":1,"place":{"title":"t","rating":1.}}]}`,
	`{"places":[{"task_id":1,"place":{"title":"t","rating":-0.0e-0}}]}`,
	`{"places":[{"task_id":1,"place":{"title":"t","review_count":1.5}}]}`,
	`{"places":[{"task_id":1,"place":{"title":"t","review_count":99999999999999999999}}]}`,
	`{"places":[{"task_id":1,"place":{"title":"t","histogram":[1,2,3]}}]}`,
	`{"places":[{"task_id":1,"place":{"title":"t","histogram":[1,2,3,4,5,6]}}]}`,
	`{"places":[{"task_id":1,"place":{"title":"t","histogram":null}}]}`,
	`{"places":[{"task_id":1,"place":{"title":null}}]}`,
	`{"places":[{"task_id":1,"place":{"title":"\ud800 \ud83d\ude00 \/ \u0000"}}]}`,
	`{"places":[{"task_id":1,"place":{"title":"\x"}}]}`,
	`{"places":[{"task_id":1,"place":{"title":"` + "\xff" + `"}}]}`,
	`{"places":[{"task_id":1,"place":{"title":"` + "\x01" + `"}}]}`,
	`{"places":[{"task_id":1,"place":{"title":"open}}]}`,
	`{"places":[{"task_id":1,"place":{"title":"t\`,
	`{"places":[{"task_id":1,"place":{"reviews":[{"id":"r","author":{},"rating":1,"rating_max":5,"posted_at":"yesterday"}]}}]}`,
	`{"places":[{"task_id":1,"place":{"reviews":[{"id":"r","author":{},"rating":1,"rating_max":5,"posted_at":"2026-01-02T03:04:05+02:00"}]}}]}`,
	`{"places":[{"task_id":1,"place":{"reviews":[{"id":"r","author":{},"rating":1,"rating_max":5,"posted_at":12}]}}]}`,
	`{"tasks":[{"task_id":1,"retry_after":"5s"},{"task_id":2,"retry_after":5},{"task_id":3,"cursor":"c","error":"e"}]}`,
}

func TestOddBatchIsReadAsByEncodingJSON(t *testing.T) {
	t.Parallel()
	for _, body := range oddBatches {
		sameAsEncodingJSON(t, body)
	}
}

func FuzzDecodeBatch(f *testing.F) {
	for _, body := range oddBatches {
		f.Add(body)
	}
	f.Fuzz(func(t *testing.T, body string) { sameAsEncodingJSON(t, body) })
}
