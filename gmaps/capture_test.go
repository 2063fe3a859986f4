package gmaps_test

import (
	"bytes"
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"gmaps-scraper/gmaps"
)

// capture returns a recorded answer. Recordings are not ours to publish, so that a checkout may lack them.
func capture(t testing.TB, name string) []byte {
	t.Helper()
	dir := os.Getenv("GMAPS_CAPTURES")
	if dir == "" {
		dir = filepath.Join("..", "..", "shared", "captures")
	}
	b, err := os.ReadFile(filepath.Join(dir, name))
	if os.IsNotExist(err) {
		t.Skipf("NO CAPTURES: %s is not in %s; set GMAPS_CAPTURES to the folder that holds it", name, dir)
	}
	if err != nil {
		t.Fatalf("read capture: %v", err)
	}
	return b
}

// expectedPlace is what a person read out of a capture. null: Google sent none.
type expectedPlace struct {
	Title              string              `json:"title"`
	Categories         []string            `json:"categories"`
	AddressLines       []string            `json:"address_lines"`
	FormattedAddress   *string             `json:"formatted_address"`
	Phone              *string             `json:"phone"`
	Website            *string             `json:"website"`
	Latitude           *float64            `json:"latitude"`
	Longitude          *float64            `json:"longitude"`
	Rating             *float64            `json:"rating"`
	ReviewCount        *int                `json:"review_count"`
	Histogram          []int               `json:"histogram"`
	PriceRange         *string             `json:"price_range"`
	Status             *string             `json:"status"`
	Timezone           *string             `json:"timezone"`
	PlusCode           *string             `json:"plus_code"`
	DataID             string              `json:"data_id"`
	CID                string              `json:"cid"`
	PlaceID            string              `json:"place_id"`
	Description        *string             `json:"description"`
	Thumbnail          *string             `json:"thumbnail"`
	OwnerID            *string             `json:"owner_id"`
	OwnerName          *string             `json:"owner_name"`
	Address            map[string]*string  `json:"address"`
	Hours              map[string][]string `json:"hours"`
	PopularTimesDays   []string            `json:"popular_times_days"`
	PopularTimesSample map[string]int      `json:"popular_times_sample"`
	ImageGroups        []gmaps.Image       `json:"image_groups"`
	AboutSections      []expectedSection   `json:"about_sections"`
	InlineReviews      int                 `json:"inline_reviews"`
	Link               *string             `json:"link"`
	ReviewsLink        *string             `json:"reviews_link"`
	Menu               *string             `json:"menu"`
	Reservations       int                 `json:"reservations"`
	OrderOnline        int                 `json:"order_online"`
}

type expectedSection struct {
	ID      string   `json:"id"`
	Name    string   `json:"name"`
	Options []string `json:"options"`
}

// readExpected refuses fields that the struct above does not know: a value nobody compares is no expectation.
func readExpected(t *testing.T, name string, into any) {
	t.Helper()
	d := json.NewDecoder(bytes.NewReader(capture(t, name)))
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
}

func TestCapturedPlaceDecodesToAllExpectedFields(t *testing.T) {
	t.Parallel()
	payload := capture(t, "place-kipriakon-en.json")
	var want expectedPlace
	readExpected(t, "place-kipriakon-en.expected.json", &want)

	var drift gmaps.Drift
	got, err := gmaps.DecodePlace(payload, &drift)
	if err != nil {
		t.Fatal(err)
	}
	checkPlace(t, got, want)
	if diff := cmp.Diff(map[string]int64{}, drift.Counts()); diff != "" {
		t.Errorf("drift (-want +got):\n%s", diff)
	}

	if !got.Detailed || got.Trimmed() {
		t.Errorf("Detailed = %t, Trimmed = %t; want true, false", got.Detailed, got.Trimmed())
	}
	if got.PhoneDigits != "25101555" || got.PhoneInternational != "+357 25 101555" {
		t.Errorf("phone digits %q, international %q", got.PhoneDigits, got.PhoneInternational)
	}
	if got.GlobalPlusCode != "8G6MM2CR+6X" || got.KnowledgeID != "/g/11c54_9hlz" || got.PriceText != "Moderately expensive" {
		t.Errorf("plus code %q, knowledge id %q, price %q", got.GlobalPlusCode, got.KnowledgeID, got.PriceText)
	}
	if got.Address != "Old port, Limassol 3042" {
		t.Errorf("address %q still holds the title", got.Address)
	}
	if got.CreditCards == nil || !*got.CreditCards {
		t.Errorf("credit cards = %v, want true", got.CreditCards)
	}
	if !strings.HasSuffix(got.StreetViewURL, "&pano=AF1QipMwkHP8GmDCSuwnWS7pYVQvtDWdsdk-CUwxtsXL") {
		t.Errorf("street view %q", got.StreetViewURL)
	}
	for _, day := range got.Hours {
		if diff := cmp.Diff([]gmaps.Interval{{OpenMinute: 12*60 + 30, CloseMinute: 22 * 60}}, day.Open); diff != "" {
			t.Errorf("%s (-want +got):\n%s", day.Name, diff)
		}
	}
	if want := []string{"foody.com.cy", "wolt.com"}; len(got.OrderOnline) == 2 && (got.OrderOnline[0].Source != want[0] || got.OrderOnline[1].Source != want[1]) {
		t.Errorf("order online = %v, want sources %v", got.OrderOnline, want)
	}
	if len(got.AlsoSearched) != 5 {
		t.Errorf("%d also searched, want the 5 with titles", len(got.AlsoSearched))
	}
}

// The authors of 2023 stand in a layout of their own; losing it loses every inline review's author.
func TestCapturedInlineReviewsHaveAuthors(t *testing.T) {
	t.Parallel()
	p, err := gmaps.DecodePlace(capture(t, "place-kipriakon-en.json"), nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range p.Reviews {
		a := r.Author
		if r.ID == "" || a.Name == "" || a.ID == "" || a.Picture == "" || a.Link == "" || a.ReviewCount == 0 {
			t.Errorf("review %q lacks its author: %+v", r.ID, a)
		}
		if r.Text == "" || r.Language != "en" || r.Rating != 5 || r.RatingMax != 5 || r.Source != "Google" || r.When == "" || r.PostedAt.IsZero() {
			t.Errorf("review %q is incomplete: %+v", r.ID, r)
		}
		if r.OwnersReply != nil {
			t.Errorf("review %q has a reply that nobody wrote: %+v", r.ID, r.OwnersReply)
		}
	}
	if got := len(p.Reviews[0].Photos); got != 3 {
		t.Errorf("first review has %d photos, want 3", got)
	}
	if want := time.UnixMicro(1688125590509285).UTC(); !p.Reviews[0].PostedAt.Equal(want) {
		t.Errorf("posted %v, want %v", p.Reviews[0].PostedAt, want)
	}
}

func TestCapturedSearchDecodesToAllExpectedFieldsInBothLayouts(t *testing.T) {
	t.Parallel()
	payload := capture(t, "search-coffee-ilion.json")
	var want []expectedPlace
	readExpected(t, "search-coffee-ilion.expected.json", &want)

	for name, payload := range map[string][]byte{"list at 0,1": payload, "list at 64": otherSearchLayout(t, payload)} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var drift gmaps.Drift
			got, err := gmaps.DecodeSearch(payload, &drift)
			if err != nil {
				t.Fatal(err)
			}
			if got.Entries != len(want) || len(got.Places) != len(want) {
				t.Fatalf("%d places of %d entries, want %d", len(got.Places), got.Entries, len(want))
			}
			for i := range want {
				checkPlace(t, got.Places[i], want[i])
				if got.Places[i].Detailed || got.Places[i].Trimmed() {
					t.Errorf("%s: Detailed = %t, Trimmed = %t; want neither", want[i].Title, got.Places[i].Detailed, got.Places[i].Trimmed())
				}
			}
			if diff := cmp.Diff(map[string]int64{}, drift.Counts()); diff != "" {
				t.Errorf("drift (-want +got):\n%s", diff)
			}
		})
	}
}

// otherSearchLayout moves the entries of a search response from [0][1][i][14] to [64][i][1].
func otherSearchLayout(t *testing.T, payload []byte) []byte {
	t.Helper()
	var root []json.RawMessage
	var head, list []json.RawMessage
	mustUnmarshal(t, payload, &root)
	mustUnmarshal(t, root[0], &head)
	mustUnmarshal(t, head[1], &list)
	var moved []any
	for _, item := range list[1:] {
		var entry []json.RawMessage
		mustUnmarshal(t, item, &entry)
		moved = append(moved, []any{nil, entry[14]})
	}
	other := make([]any, 65)
	other[0] = []any{head[0]}
	other[64] = moved
	b, err := json.Marshal(other)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func mustUnmarshal(t *testing.T, b []byte, into any) {
	t.Helper()
	if err := json.Unmarshal(b, into); err != nil {
		t.Fatal(err)
	}
}

func checkPlace(t *testing.T, got gmaps.Place, want expectedPlace) {
	t.Helper()
	eq := func(field string, want, got any) {
		t.Helper()
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: %s (-want +got):\n%s", want, field, diff)
		}
	}
	text := func(field string, want *string, got string) {
		t.Helper()
		eq(field, deref(want), got)
	}
	eq("title", want.Title, got.Title)
	eq("categories", want.Categories, got.Categories)
	eq("address lines", want.AddressLines, got.AddressLines)
	text("formatted address", want.FormattedAddress, got.FormattedAddress)
	text("phone", want.Phone, got.Phone)
	text("website", want.Website, got.Website)
	if want.Latitude == nil {
		eq("location", (*gmaps.Point)(nil), got.Location)
	} else {
		eq("location", &gmaps.Point{Lat: *want.Latitude, Lng: *want.Longitude}, got.Location)
	}
	eq("rating", deref(want.Rating), got.Rating)
	eq("review count", deref(want.ReviewCount), got.ReviewCount)
	var histogram []int
	if got.Histogram != nil {
		histogram = got.Histogram[:]
	}
	eq("histogram", want.Histogram, histogram)
	text("price range", want.PriceRange, got.PriceRange)
	text("status", want.Status, got.Status)
	text("timezone", want.Timezone, got.Timezone)
	if want.PlusCode != nil || want.Latitude == nil {
		text("plus code", want.PlusCode, got.PlusCode)
	} else if got.PlusCode != got.GlobalPlusCode || len(got.PlusCode) != len("8G6MM2CR+6X") {
		t.Errorf("%s: plus code %q is not computed", want.Title, got.PlusCode)
	}
	eq("data id", want.DataID, got.DataID)
	eq("cid", want.CID, got.CID)
	eq("place id", want.PlaceID, got.PlaceID)
	text("description", want.Description, got.Description)
	text("thumbnail", want.Thumbnail, got.Thumbnail)
	text("owner id", want.OwnerID, got.Owner.ID)
	text("owner name", want.OwnerName, got.Owner.Name)
	eq("address", gmaps.AddressParts{
		Borough: deref(want.Address["borough"]), Street: deref(want.Address["street"]), City: deref(want.Address["city"]),
		PostalCode: deref(want.Address["postal_code"]), State: deref(want.Address["state"]), CountryCode: deref(want.Address["country"]),
	}, got.AddressParts)

	hours := make(map[string][]string)
	for _, day := range got.Hours {
		hours[day.Name] = day.Text
	}
	eq("hours", want.Hours, hours)

	days := make([]string, 0, 7)
	sampled := len(want.PopularTimesSample) == 0
	for _, day := range got.PopularTimes {
		days = append(days, strconv.Itoa(day.Weekday))
		busy := make(map[string]int)
		for _, h := range day.Hours {
			busy[strconv.Itoa(h.Hour)] = h.BusyPercent
		}
		sampled = sampled || cmp.Equal(want.PopularTimesSample, busy)
	}
	slices.Sort(want.PopularTimesDays)
	eq("popular times days", want.PopularTimesDays, days)
	if !sampled {
		t.Errorf("%s: no day of popular times equals the sample: %v", want.Title, got.PopularTimes)
	}

	eq("images", want.ImageGroups, append([]gmaps.Image{}, got.Images...))
	sections := []expectedSection{}
	for _, s := range got.About {
		names := []string{}
		for _, o := range s.Options {
			names = append(names, o.Name)
		}
		sections = append(sections, expectedSection{ID: s.ID, Name: s.Name, Options: names})
	}
	eq("about", want.AboutSections, sections)
	eq("inline reviews", want.InlineReviews, len(got.Reviews))
	if want.Link != nil {
		text("link", want.Link, got.Link)
	} else {
		eq("link", "https://www.google.com/maps?cid="+want.CID, got.Link)
	}
	if want.ReviewsLink != nil {
		text("reviews link", want.ReviewsLink, got.ReviewsLink)
	} else {
		eq("reviews link", "https://search.google.com/local/reviews?placeid="+want.PlaceID, got.ReviewsLink)
	}
	text("menu", want.Menu, got.Menu.URL)
	eq("reservations", want.Reservations, len(got.Reservations))
	eq("order online", want.OrderOnline, len(got.OrderOnline))
}

func deref[T any](p *T) T {
	if p == nil {
		return *new(T)
	}
	return *p
}

func TestCapturedReviewOfGoogleHasReplyAndTranslations(t *testing.T) {
	t.Parallel()
	r := capturedReview(t, "review-native-with-reply.json")
	if r.Rating != 1 || r.RatingMax != 5 || r.Source != "Google" || r.Language != "de" || r.When != "2 months ago" {
		t.Errorf("review = %+v", r)
	}
	a := r.Author
	if a.ID != "116111130377271376564" || a.Name != "E. Ö." || a.ReviewCount != 2 || a.Picture == "" || !strings.Contains(a.Link, "/contrib/"+a.ID) {
		t.Errorf("author = %+v", a)
	}
	if !strings.HasPrefix(r.Text, "Ich bin sehr") || !strings.HasPrefix(r.Translated, "I am very") {
		t.Errorf("text %.20q, translated %.20q", r.Text, r.Translated)
	}
	if want := time.UnixMicro(1772186522193853).UTC(); !r.PostedAt.Equal(want) || !r.EditedAt.Equal(want) {
		t.Errorf("posted %v, edited %v, want %v", r.PostedAt, r.EditedAt, want)
	}
	reply := r.OwnersReply
	if reply == nil {
		t.Fatal("the owner's reply is lost")
	}
	if !strings.HasPrefix(reply.Text, "Es tut uns") || !strings.HasPrefix(reply.Translated, "We are very") || reply.Language != "de" {
		t.Errorf("reply = %+v", reply)
	}
	if want := time.UnixMicro(1772266947000000).UTC(); !reply.PostedAt.Equal(want) || !reply.EditedAt.Equal(want) {
		t.Errorf("reply posted %v, edited %v, want %v", reply.PostedAt, reply.EditedAt, want)
	}
}

func TestCapturedReviewOfAnotherSiteKeepsItsScale(t *testing.T) {
	t.Parallel()
	r := capturedReview(t, "review-aggregator.json")
	if r.Source != "Tripadvisor" || r.RatingMax != 10 || math.Abs(r.Rating-8.5) > 1e-9 || r.Author.Name != "Tripadvisor User" || r.OwnersReply != nil {
		t.Errorf("review = %+v", r)
	}
}

// capturedReview puts a captured review into the answer that it comes in.
func capturedReview(t *testing.T, name string) gmaps.Review {
	t.Helper()
	element := bytes.TrimSpace(capture(t, name))
	if bytes.HasPrefix(element, []byte("[[[")) {
		element = element[1 : len(element)-1]
	}
	payload := slices.Concat([]byte(")]}'\n[null,\"token\",["), element, []byte("]]"))
	var drift gmaps.Drift
	page, err := gmaps.DecodeReviews(payload, &drift)
	if err != nil {
		t.Fatal(err)
	}
	if len(page.Reviews) != 1 || page.Next != "token" || len(drift.Counts()) != 0 {
		t.Fatalf("%d reviews, next %q, drift %v", len(page.Reviews), page.Next, drift.Counts())
	}
	return page.Reviews[0]
}

func BenchmarkDecodePlace(b *testing.B) {
	payload := capture(b, "place-kipriakon-en.json")
	b.SetBytes(int64(len(payload)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := gmaps.DecodePlace(payload, nil); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkDecodeSearch(b *testing.B) {
	payload := capture(b, "search-coffee-ilion.json")
	b.SetBytes(int64(len(payload)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := gmaps.DecodeSearch(payload, nil); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkUnmarshalPlaceIntoAny(b *testing.B) {
	payload := capture(b, "place-kipriakon-en.json")
	b.SetBytes(int64(len(payload)))
	b.ReportAllocs()
	for b.Loop() {
		var v any
		if err := json.Unmarshal(payload, &v); err != nil {
			b.Fatal(err)
		}
	}
}
