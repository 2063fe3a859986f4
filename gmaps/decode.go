package gmaps

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"
)

// Why a payload cannot be read at all. A field that is missing or has moved is never among the reasons: see Drift.
var (
	errNotArray  = errors.New("no array: not an answer of Google Maps")
	errTruncated = errors.New("payload ends early")
	errNoPlace   = errors.New("no place in it")
)

// SearchPage is one answer of the search endpoint.
type SearchPage struct {
	Places []Place
	// Entries counts the results that the answer held, including those without any id, which Places lacks.
	Entries int
}

// bodyLength is how many elements of a place's body are looked at; the highest index in use is 243.
const bodyLength = 244

// DecodePlace reads a place payload: the answer of the place detail request, or the string in a place page's state.
// All that it asks of the payload is one id (data id, CID or place id); every other field may be missing or strange, which drift counts.
// Texts are copied: the place does not hold on to payload.
func DecodePlace(payload []byte, drift *Drift) (Place, error) {
	root := rootOf(payload)
	if root.kind() != kindArray {
		return Place{}, fmt.Errorf("decode place: %w", errNotArray)
	}
	d, _ := root.at(6)
	if d.kind() != kindArray {
		return Place{}, fmt.Errorf("decode place: %w", errNoPlace)
	}
	var elements [bodyLength]value
	if d.splitAll(elements[:]) == 0 {
		return Place{}, fmt.Errorf("decode place: %w", errTruncated)
	}
	r := newReading()
	defer drift.add(&r.drift)
	f := fields{"place", elements[:], &r}
	p := Place{Detailed: true}
	// The head of a payload repeats both halves of the data id in decimal.
	if !p.decodeIdentity(f) || p.DataID == "" {
		ids, _ := root.at(25, 3, 0, 13, 0, 0)
		if id, ok := parseDecimalID(ids); ok {
			p.setIdentity(id)
		}
	}
	if p.DataID == "" && p.PlaceID == "" {
		return Place{}, fmt.Errorf("decode place: %w", errNoPlace)
	}
	p.decode(f)
	return p, nil
}

// DecodeSearch reads a search response of either layout; which one depends on the request. No results is an empty page, not an error.
func DecodeSearch(payload []byte, drift *Drift) (SearchPage, error) {
	root := rootOf(payload)
	if root.kind() != kindArray {
		return SearchPage{}, fmt.Errorf("decode search: %w", errNotArray)
	}
	r := newReading()
	var page SearchPage
	for _, entries := range [...][]int{{0, 1, each, 14}, {64, each, 1}} {
		results, entry := entries[:len(entries)-2], entries[len(entries)-1]
		end := root.visit(entries, func(v value, rest []int) (end int) {
			switch len(rest) {
			case 0:
				return page.add(v, entry, &r)
			case 1:
				r.drift.count("search", "result", entry)
			default:
				r.drift.count("search", "results", results...)
			}
			return 0
		})
		if end == 0 {
			return SearchPage{}, fmt.Errorf("decode search: %w", errTruncated)
		}
		if page.Entries > 0 {
			break
		}
	}
	drift.add(&r.drift)
	return page, nil
}

// add decodes one entry, which stands at in its result, and returns where it ends.
func (s *SearchPage) add(entry value, at int, r *reading) (end int) {
	s.Entries++
	var elements [bodyLength]value
	if end = entry.splitAll(elements[:]); end == 0 {
		r.drift.count("search", "entry", at)
		return 0
	}
	f := fields{"entry", elements[:], r}
	var p Place
	if !p.decodeIdentity(f) {
		r.drift.count("entry", "identity")
		return end
	}
	p.decode(f)
	if s.Places == nil {
		s.Places = make([]Place, 0, PageSize)
	}
	s.Places = append(s.Places, p)
	return end
}

// Trimmed reports whether Google left out what it usually sends, as it does for callers without a session:
// the number of reviews beside a rating, or all hours but today's.
func (p *Place) Trimmed() bool {
	return p.Rating > 0 && p.ReviewCount == 0 || len(p.Hours) == 1
}

// rootOf returns the outermost value of an answer. It cuts the )]}' that keeps scripts from running an answer,
// and unpacks an answer that is itself a JSON string, alone or as "d" of an object (the search endpoint with tch=1).
func rootOf(payload []byte) value {
	const prefix = ")]}'"
	b := bytes.TrimPrefix(payload, []byte("\xef\xbb\xbf"))
	b = bytes.TrimPrefix(bytes.TrimSpace(b), []byte(prefix))
	v := valueAt(b, 0)
	if v.kind() == kindOther && v[0] == '{' {
		_, packed, _ := bytes.Cut(v, []byte(`"d":`))
		v = valueAt(packed, 0)
	}
	if s, ok := v.text(); ok {
		v = valueAt([]byte(strings.TrimPrefix(strings.TrimSpace(s), prefix)), 0)
	}
	return v
}

// parseDecimalID reads a pair of decimal halves.
func parseDecimalID(v value) (featureID, bool) {
	high, _ := v.at(0)
	low, _ := v.at(1)
	h, ok1 := high.text()
	l, ok2 := low.text()
	if !ok1 || !ok2 {
		return featureID{}, false
	}
	first, err1 := strconv.ParseUint(h, 10, 64)
	second, err2 := strconv.ParseUint(l, 10, 64)
	return featureID{first, second}, err1 == nil && err2 == nil && second != 0
}

// decode reads everything but the ids. A place payload's body and a search entry have one layout.
// Paths: checked against payloads of 2023 to 2024; those marked (read) are known from other scrapers only.
func (p *Place) decode(f fields) {
	p.KnowledgeID = f.text("knowledge_id", 89)
	p.Title = f.text("title", 11)
	p.Categories = f.column("categories", f.list("categories", 13))
	p.CategoryIDs = f.column("category_ids", f.list("category_ids", 76), 0)
	p.Description = cmp.Or(f.text("description", 32, 1, 1), f.text("description", 161, 1)) // (read) the second of hotels
	p.Tagline = f.text("tagline", 32, 0, 1)
	p.OwnerText = f.text("owner_text", 154, 0, 0)
	p.Timezone = f.text("timezone", 30)
	p.decodeAddress(f)
	p.decodeContact(f)

	var elements [15]value
	reviews := f.sub(elements[:], "reviews", 175)
	reviews.array += "[175]"
	p.decodeRating(f, reviews)
	p.ReviewSummary = reviews.text("summary", 14, 0) // (read)
	p.decodeInlineReviews(reviews)

	p.Status = f.text("status", 34, 4, 4)
	if f.get("status", 34, 4) == nil { // else Google chose to show none
		p.Status = f.text("status", 203, 1, 4, 0)
	}
	p.Closed = closureOf(f, p.Status)
	p.decodeHours(f)
	p.PopularTimes = decodePopularTimes(f)
	p.TimeSpent = f.text("time_spent", 117, 0) // (read)
	p.decodeImages(f)
	p.decodeAbout(f)
	p.decodeActions(f)
	p.AlsoSearched = f.column("also_searched", f.list("also_searched", 99, 0, 0, 1), 1, 11)
}

func (p *Place) decodeAddress(f fields) {
	p.AddressLines = f.column("address_lines", f.list("address_lines", 2))
	p.FormattedAddress = f.text("formatted_address", 18)
	// The title stands in the middle where the town comes first (Hungary): only [39] is sure to be without it.
	p.Address = cmp.Or(f.text("address", 39), cutTitle(p.FormattedAddress, p.Title, strings.Join(p.AddressLines, ", ")))
	p.Neighborhood = f.text("neighborhood", 14)

	var parts [7]value
	a := f.sub(parts[:], "address", 183, 1)
	if f.get("address", 183, 1) == nil { // an older copy, without what follows the city
		a = f.sub(parts[:], "address", 82)
	}
	a.array += ".address"
	p.AddressParts = AddressParts{
		Borough:     a.text("borough", 0),
		Street:      cmp.Or(a.text("street", 1), a.text("street", 2)),
		City:        a.text("city", 3),
		PostalCode:  a.text("postal_code", 4),
		State:       a.text("state", 5),
		CountryCode: cmp.Or(a.text("country_code", 6), f.text("country_code", 243)),
	}

	p.Location = decodeLocation(f)
	p.GlobalPlusCode = f.text("global_plus_code", 183, 2, 1, 0)
	p.PlusCode = f.text("plus_code", 183, 2, 2, 0)
	if p.GlobalPlusCode == "" && p.Location != nil {
		p.GlobalPlusCode = plusCode(*p.Location)
	}
	// A code without a town beside it must be the long one.
	p.PlusCode = cmp.Or(p.PlusCode, p.GlobalPlusCode)
}

// cutTitle returns the one-line address without the place's name at its front.
func cutTitle(formatted, title, lines string) string {
	if formatted == "" || formatted == title {
		return lines
	}
	if rest, ok := strings.CutPrefix(formatted, title+", "); ok && title != "" {
		return rest
	}
	if lines != "" && strings.HasSuffix(formatted, lines) {
		return lines
	}
	return formatted
}

// decodeLocation returns nil for a business that comes to its customers and shows no position, and for a position that is not on earth.
func decodeLocation(f fields) *Point {
	if f.get("latitude", 9, 2) == nil && f.get("longitude", 9, 3) == nil {
		return nil
	}
	lat, ok1 := f.lookUpNumber("latitude", 9, 2)
	lng, ok2 := f.lookUpNumber("longitude", 9, 3)
	p := Point{Lat: lat, Lng: lng}
	if !ok1 || !ok2 || lat < -90 || lat > 90 || lng < -180 || lng > 180 || p == (Point{}) {
		f.drift.count(f.array, "location", 9)
		return nil
	}
	return &p
}

func (p *Place) decodeContact(f fields) {
	p.Phone = f.text("phone", 178, 0, 0)
	p.PhoneDigits = f.text("phone_digits", 178, 0, 3)
	p.PhoneInternational = f.text("phone_international", 178, 0, 1, 1, 0)
	p.Website = unwrapLink(f.text("website", 7, 0))
	p.Domain = f.text("domain", 7, 1)
	p.Link = f.text("link", 27)
	if p.Link == "" && p.CID != "" {
		p.Link = "https://www.google.com/maps?cid=" + p.CID
	}
	if p.Link == "" {
		p.Link = "https://www.google.com/maps/place/?q=place_id:" + url.QueryEscape(p.PlaceID)
	}
	p.ReviewsLink = f.text("reviews_link", 4, 3, 0)
	if p.ReviewsLink == "" {
		p.ReviewsLink = "https://search.google.com/local/reviews?placeid=" + url.QueryEscape(p.PlaceID)
	}
}

// unwrapLink returns where Google's redirection /url?q=… leads; any other link as it is.
func unwrapLink(link string) string {
	if strings.HasPrefix(link, "//") {
		link = "https:" + link
	}
	if !strings.Contains(link, "/url?") {
		return link
	}
	u, err := url.Parse(link)
	if err != nil || u.Path != "/url" || u.Host != "" && !strings.Contains(u.Host, "google.") {
		return link
	}
	query := u.Query()
	return cmp.Or(query.Get("q"), query.Get("url"), link)
}

func (p *Place) decodeRating(f, reviews fields) {
	p.Rating = f.number("rating", 4, 7)
	if p.Rating < 0 || p.Rating > 5 {
		f.drift.count(f.array, "rating", 4, 7)
		p.Rating = 0
	}
	p.ReviewCount = f.count("review_count", 4, 8)
	// In the limited view the count moves to 37,1 (read), where else the number of photos stands behind a list of them.
	if p.ReviewCount == 0 && p.Rating > 0 && f.get("photos", 37, 0) == nil {
		p.ReviewCount = f.count("review_count", 37, 1)
	}
	p.Histogram = decodeHistogram(reviews)
	if p.ReviewCount == 0 && p.Histogram != nil {
		for _, n := range p.Histogram {
			p.ReviewCount += n
		}
	}
	p.PriceRange = cmp.Or(f.text("price_range", 4, 2), f.text("price_range", 4, 4))
	p.PriceText = f.text("price_text", 4, 10)
}

func decodeHistogram(f fields) *[5]int {
	list := f.list("histogram", 3)
	if list == nil {
		return nil
	}
	var stars [5]value
	list.split(stars[:])
	counts := fields{f.array + ".histogram", stars[:], f.reading}
	h := new([5]int)
	for i := range h {
		h[i] = counts.count("stars", i)
	}
	if *h == ([5]int{}) {
		return nil
	}
	return h
}
