package export

import (
	"fmt"
	"slices"
	"strings"

	"gmaps-scraper/gmaps"
)

// Compat stands, alone as the list of columns, for the columns of gosom/google-maps-scraper in its order and shapes.
const Compat = "compat"

// kind is the type of a column's values.
type kind int

const (
	text       kind = iota // string
	integer                // int
	number                 // float64
	boolean                // bool
	structured             // anything that encoding/json writes; JSON text where the format has cells
)

// column is one field of a row. value returns a Go value of kind's type, or nil for a field that the place does not have.
type column struct {
	name  string
	kind  kind
	value func(r *Row) any
	doc   string
}

// Column describes a column for people.
type Column struct{ Name, Doc string }

// Columns returns all columns in the order in which they are written by default.
func Columns() []Column {
	var list []Column
	for _, c := range columns() {
		list = append(list, Column{c.name, c.doc})
	}
	return list
}

// columns is the one table of our columns.
func columns() []column {
	return []column{
		{"input_id", text, func(r *Row) any { return str(r.InputID) }, "the id given with the input line"},
		{"title", text, func(r *Row) any { return str(r.Place.Title) }, "name of the place"},
		{"category", text, func(r *Row) any { return str(mainCategory(&r.Place)) }, "main category"},
		{"categories", structured, func(r *Row) any { return list(r.Place.Categories) }, "all categories, the main one first"},
		{"address", text, func(r *Row) any { return str(r.Place.Address) }, "address in one line"},
		{"street", text, func(r *Row) any { return str(r.Place.AddressParts.Street) }, "street and number"},
		{"borough", text, func(r *Row) any { return str(r.Place.AddressParts.Borough) }, "part of the city"},
		{"neighborhood", text, func(r *Row) any { return str(r.Place.Neighborhood) }, "neighborhood"},
		{"city", text, func(r *Row) any { return str(r.Place.AddressParts.City) }, "city"},
		{"postal_code", text, func(r *Row) any { return str(r.Place.AddressParts.PostalCode) }, "postal code"},
		{"state", text, func(r *Row) any { return str(r.Place.AddressParts.State) }, "state or region"},
		{"country_code", text, func(r *Row) any { return str(r.Place.AddressParts.CountryCode) }, "ISO 3166-1 alpha-2"},
		{"latitude", number, latitude, "degrees north, WGS84; empty for a business that shows no position"},
		{"longitude", number, longitude, "degrees east, WGS84"},
		{"plus_code", text, func(r *Row) any { return str(r.Place.PlusCode) }, "open location code with its city"},
		{"phone", text, func(r *Row) any { return str(r.Place.Phone) }, "phone as shown"},
		{"phone_international", text, func(r *Row) any { return str(r.Place.PhoneInternational) }, "phone with its country code"},
		{"website", text, func(r *Row) any { return str(r.Place.Website) }, "website"},
		{"domain", text, func(r *Row) any { return str(r.Place.Domain) }, "domain of the website"},
		{"rating", number, rating, "1 to 5; empty without reviews"},
		{"review_count", integer, func(r *Row) any { return r.Place.ReviewCount }, "number of reviews"},
		{"reviews_1", integer, stars(1), "reviews with 1 star"},
		{"reviews_2", integer, stars(2), "reviews with 2 stars"},
		{"reviews_3", integer, stars(3), "reviews with 3 stars"},
		{"reviews_4", integer, stars(4), "reviews with 4 stars"},
		{"reviews_5", integer, stars(5), "reviews with 5 stars"},
		{"review_summary", text, func(r *Row) any { return str(r.Place.ReviewSummary) }, "Google's summary of the reviews"},
		{"price_range", text, func(r *Row) any { return str(r.Place.PriceRange) }, "price level as shown, €€"},
		{"price_text", text, func(r *Row) any { return str(r.Place.PriceText) }, "price level in words"},
		{"status", text, func(r *Row) any { return str(r.Place.Status) }, "opening state when it was fetched, as shown"},
		{"closed", text, func(r *Row) any { return str(string(r.Place.Closed)) }, "permanently, temporarily, or empty for a place in business"},
		{"hours", structured, func(r *Row) any { return list(r.Place.Hours) }, "opening hours by weekday, 1 is Monday"},
		{"popular_times", structured, func(r *Row) any { return list(r.Place.PopularTimes) }, "how busy each hour is, in percent of the peak"},
		{"time_spent", text, func(r *Row) any { return str(r.Place.TimeSpent) }, "how long people stay, as shown"},
		{"timezone", text, func(r *Row) any { return str(r.Place.Timezone) }, "IANA time zone"},
		{"description", text, func(r *Row) any { return str(r.Place.Description) }, "Google's description"},
		{"tagline", text, func(r *Row) any { return str(r.Place.Tagline) }, "short description"},
		{"owner_text", text, func(r *Row) any { return str(r.Place.OwnerText) }, "the owner's description"},
		{"link", text, func(r *Row) any { return str(r.Place.Link) }, "page on Google Maps"},
		{"reviews_link", text, func(r *Row) any { return str(r.Place.ReviewsLink) }, "page of the reviews"},
		{"thumbnail", text, func(r *Row) any { return str(r.Place.Thumbnail) }, "main picture"},
		{"images", structured, func(r *Row) any { return list(r.Place.Images) }, "first picture of each group"},
		{"street_view_url", text, func(r *Row) any { return str(r.Place.StreetViewURL) }, "Street View picture"},
		{"about", structured, func(r *Row) any { return list(r.Place.About) }, "what the place offers, by section"},
		{"owner_name", text, func(r *Row) any { return str(r.Place.Owner.Name) }, "account that claimed the place"},
		{"owner_id", text, func(r *Row) any { return str(r.Place.Owner.ID) }, "id of that account"},
		{"owner_link", text, func(r *Row) any { return str(r.Place.Owner.Link) }, "page of that account"},
		{"menu", text, func(r *Row) any { return str(r.Place.Menu.URL) }, "menu"},
		{"reservations", structured, func(r *Row) any { return list(r.Place.Reservations) }, "where to book"},
		{"order_online", structured, func(r *Row) any { return list(r.Place.OrderOnline) }, "where to order"},
		{"credit_cards_accepted", boolean, creditCards, "empty when the place does not say"},
		{"people_also_search", structured, func(r *Row) any { return list(r.Place.AlsoSearched) }, "titles of similar places"},
		{"data_id", text, func(r *Row) any { return str(r.Place.DataID) }, "Google's feature id, the identity of the place"},
		{"cid", text, func(r *Row) any { return str(r.Place.CID) }, "customer id: text, since it has more digits than a spreadsheet's number"},
		{"place_id", text, func(r *Row) any { return str(r.Place.PlaceID) }, "id of Google's public APIs"},
		{"knowledge_id", text, func(r *Row) any { return str(r.Place.KnowledgeID) }, "id in Google's knowledge graph"},
		{"reviews", structured, func(r *Row) any { return list(r.Place.Reviews) }, "reviews of the place page, 8 at most"},
		{"extra_reviews", structured, func(r *Row) any { return list(r.Place.ExtraReviews) }, "reviews that were asked for page by page"},
	}
}

// The helpers turn a zero value into nil: an empty cell, a null.

func str(s string) any {
	if s == "" {
		return nil
	}
	return s
}

func list[T any](l []T) any {
	if len(l) == 0 {
		return nil
	}
	return l
}

func mainCategory(p *gmaps.Place) string {
	if len(p.Categories) == 0 {
		return ""
	}
	return p.Categories[0]
}

func latitude(r *Row) any {
	if r.Place.Location == nil {
		return nil
	}
	return r.Place.Location.Lat
}

func longitude(r *Row) any {
	if r.Place.Location == nil {
		return nil
	}
	return r.Place.Location.Lng
}

func rating(r *Row) any {
	if r.Place.Rating == 0 {
		return nil
	}
	return r.Place.Rating
}

func stars(n int) func(*Row) any {
	return func(r *Row) any {
		if r.Place.Histogram == nil {
			return nil
		}
		return r.Place.Histogram[n-1]
	}
}

func creditCards(r *Row) any {
	if r.Place.CreditCards == nil {
		return nil
	}
	return *r.Place.CreditCards
}

// UnknownColumnError says that a column was asked for which is not there.
type UnknownColumnError struct {
	Name string
	// Nearest is the column that was probably meant; empty if none is near.
	Nearest string
}

func (e *UnknownColumnError) Error() string {
	if e.Nearest != "" {
		return fmt.Sprintf("column %q is not known: did you mean %q?", e.Name, e.Nearest)
	}
	return fmt.Sprintf("column %q is not known: give %q alone, or names of %s", e.Name, Compat, strings.Join(columnNames(), ", "))
}

func columnNames() []string {
	var names []string
	for _, c := range columns() {
		names = append(names, c.name)
	}
	return names
}

// choose returns the columns named, all for none.
func choose(names []string) ([]column, error) {
	all := columns()
	if len(names) == 0 {
		return all, nil
	}
	if len(names) == 1 && strings.TrimSpace(names[0]) == Compat {
		return compatColumns(), nil
	}
	chosen := make([]column, 0, len(names))
	for _, name := range names {
		name = strings.TrimSpace(name)
		i := slices.IndexFunc(all, func(c column) bool { return c.name == name })
		if i < 0 {
			return nil, &UnknownColumnError{Name: name, Nearest: Nearest(name, columnNames())}
		}
		if slices.ContainsFunc(chosen, func(c column) bool { return c.name == name }) {
			return nil, fmt.Errorf("column %q is named twice", name)
		}
		chosen = append(chosen, all[i])
	}
	return chosen, nil
}

// Nearest returns the candidate that takes the fewest edits to reach from name, "" if it takes more than half of name's letters.
func Nearest(name string, candidates []string) string {
	best, bestEdits := "", len(name)/2+1
	for _, c := range candidates {
		if n := edits(strings.ToLower(name), c); n < bestEdits {
			best, bestEdits = c, n
		}
	}
	return best
}

// edits is the Levenshtein distance of a and b in bytes.
func edits(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			change := diagonal
			if a[i] != b[j] {
				change++
			}
			diagonal = row[j+1]
			row[j+1] = min(change, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
