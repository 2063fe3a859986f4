// Package gmaps turns queries into places: it builds the requests that Google's own Maps page makes
// and decodes the positional JSON that comes back. It depends on the standard library only.
package gmaps

import "time"

// Point is a position in degrees, WGS84.
type Point struct {
	Lat float64 `json:"lat"`
	Lng float64 `json:"lng"`
}

// Place is everything one payload says of a place. A field that Google did not send is its zero value;
// the lists are nil then. Texts are in the language of the query.
type Place struct {
	// DataID is Google's feature id, "0x14e7…:0xe541…". It is the identity of a place: see Key.
	DataID string `json:"data_id"`
	// CID is the second half of DataID as an unsigned decimal. It exceeds int64, hence a string.
	CID string `json:"cid"`
	// PlaceID is the id of Google's public APIs, "ChIJ…".
	PlaceID     string `json:"place_id"`
	KnowledgeID string `json:"knowledge_id,omitempty"` // "/g/11…"

	Title       string   `json:"title"`
	Categories  []string `json:"categories,omitempty"` // the first is the main one
	CategoryIDs []string `json:"category_ids,omitempty"`
	Description string   `json:"description,omitempty"`
	Tagline     string   `json:"tagline,omitempty"`
	OwnerText   string   `json:"owner_text,omitempty"`

	// FormattedAddress is Google's one-line address and begins with the title; Address is the same without the title.
	FormattedAddress string       `json:"formatted_address,omitempty"`
	Address          string       `json:"address,omitempty"`
	AddressLines     []string     `json:"address_lines,omitempty"`
	AddressParts     AddressParts `json:"address_parts"`
	Neighborhood     string       `json:"neighborhood,omitempty"`
	// PlusCode is "M2CR+6X Limassol"; where Google sent none, it equals GlobalPlusCode.
	PlusCode string `json:"plus_code,omitempty"`
	// GlobalPlusCode is "8G6MM2CR+6X", computed from Location where Google sent none.
	GlobalPlusCode string `json:"global_plus_code,omitempty"`
	// Location is nil for a service-area business that shows no position.
	Location *Point `json:"location,omitempty"`
	Timezone string `json:"timezone,omitempty"` // IANA

	Phone              string `json:"phone,omitempty"`        // as shown
	PhoneDigits        string `json:"phone_digits,omitempty"` // digits only
	PhoneInternational string `json:"phone_international,omitempty"`
	Website            string `json:"website,omitempty"`
	Domain             string `json:"domain,omitempty"`
	Link               string `json:"link,omitempty"`
	ReviewsLink        string `json:"reviews_link,omitempty"`

	Rating      float64 `json:"rating,omitempty"` // 1 to 5; 0: none
	ReviewCount int     `json:"review_count,omitempty"`
	// Histogram counts the reviews with 1, 2, 3, 4 and 5 stars.
	Histogram     *[5]int `json:"histogram,omitempty"`
	ReviewSummary string  `json:"review_summary,omitempty"`
	PriceRange    string  `json:"price_range,omitempty"` // "€€"
	PriceText     string  `json:"price_text,omitempty"`  // "Moderately expensive"

	// Status is the opening state as shown, "Closed ⋅ Opens 12:30 pm Tue", localised.
	Status string `json:"status,omitempty"`
	// Closed is empty for a place in business.
	Closed       Closure      `json:"closed,omitempty"`
	Hours        []DayHours   `json:"hours,omitempty"`         // Monday first
	PopularTimes []DayTraffic `json:"popular_times,omitempty"` // Monday first
	TimeSpent    string       `json:"time_spent,omitempty"`

	Thumbnail     string         `json:"thumbnail,omitempty"`
	Images        []Image        `json:"images,omitempty"`
	StreetViewURL string         `json:"street_view_url,omitempty"`
	About         []AboutSection `json:"about,omitempty"`
	// CreditCards is nil when the place does not say.
	CreditCards *bool `json:"credit_cards_accepted,omitempty"`

	Owner        Owner    `json:"owner"`
	Menu         Link     `json:"menu"`
	Reservations []Link   `json:"reservations,omitempty"`
	OrderOnline  []Link   `json:"order_online,omitempty"`
	AlsoSearched []string `json:"people_also_search,omitempty"` // titles

	// Reviews are those inside the place payload (8 at most); ExtraReviews were asked for page by page.
	Reviews      []Review `json:"reviews,omitempty"`
	ExtraReviews []Review `json:"extra_reviews,omitempty"`
	// ReviewsToken asks for the page after Reviews. Empty: there is none.
	ReviewsToken string `json:"-"`

	// Detailed says that the fields come from a place payload and not only from a listing.
	Detailed bool `json:"detailed,omitempty"`
}

// AddressParts is the address in the pieces that Google keeps.
type AddressParts struct {
	Borough     string `json:"borough,omitempty"`
	Street      string `json:"street,omitempty"`
	City        string `json:"city,omitempty"`
	PostalCode  string `json:"postal_code,omitempty"`
	State       string `json:"state,omitempty"`
	CountryCode string `json:"country_code,omitempty"` // ISO 3166-1 alpha-2
}

// Closure says that a place is out of business.
type Closure string

// The kinds of Closure.
const (
	ClosedPermanently Closure = "permanently"
	ClosedTemporarily Closure = "temporarily"
)

// DayHours are the opening hours of one weekday. No Open interval: closed that day.
type DayHours struct {
	Weekday int        `json:"weekday"` // 1 Monday to 7 Sunday
	Name    string     `json:"name"`    // in the query's language
	Text    []string   `json:"text"`    // as shown, "12:30–10 pm"
	Open    []Interval `json:"open,omitempty"`
}

// Interval is a span of one day in minutes after midnight. CloseMinute may pass 1440: after midnight.
type Interval struct {
	OpenMinute  int `json:"open_minute"`
	CloseMinute int `json:"close_minute"`
}

// DayTraffic is how busy a place is on one weekday.
type DayTraffic struct {
	Weekday int           `json:"weekday"` // 1 Monday to 7 Sunday
	Hours   []HourTraffic `json:"hours"`
}

// HourTraffic is how busy a place is in the hour that begins at Hour (0 to 23), in percent of its peak.
type HourTraffic struct {
	Hour        int `json:"hour"`
	BusyPercent int `json:"busy_percent"`
}

// Image is the first picture of a group such as "All" or "Menu".
type Image struct {
	Title string `json:"title"`
	URL   string `json:"url"`
}

// AboutSection is a titled list of what a place offers.
type AboutSection struct {
	ID      string        `json:"id"`
	Name    string        `json:"name"`
	Options []AboutOption `json:"options"`
}

// AboutOption is one feature of a place and whether it has it.
type AboutOption struct {
	ID     string   `json:"id"`
	Name   string   `json:"name"`
	On     bool     `json:"on"`
	Values []string `json:"values,omitempty"`
}

// Owner is the account that claimed a place.
type Owner struct {
	ID   string `json:"id,omitempty"`
	Name string `json:"name,omitempty"`
	Link string `json:"link,omitempty"`
}

// Link is an outside page and who runs it.
type Link struct {
	URL    string `json:"url,omitempty"`
	Source string `json:"source,omitempty"`
}

// Review is one visitor's review. Rating is on Source's own scale: 0 to RatingMax.
type Review struct {
	ID          string    `json:"id"`
	Author      Author    `json:"author"`
	Source      string    `json:"source,omitempty"` // "Google", "Tripadvisor"
	Rating      float64   `json:"rating"`
	RatingMax   int       `json:"rating_max"`
	Text        string    `json:"text,omitempty"`
	Language    string    `json:"language,omitempty"`
	Translated  string    `json:"translated,omitempty"`
	When        string    `json:"when,omitempty"` // as shown, "2 months ago"
	PostedAt    time.Time `json:"posted_at,omitzero"`
	EditedAt    time.Time `json:"edited_at,omitzero"`
	Photos      []string  `json:"photos,omitempty"`
	OwnersReply *Reply    `json:"owners_reply,omitempty"`
}

// Author is who wrote a review.
type Author struct {
	ID          string `json:"id,omitempty"`
	Name        string `json:"name,omitempty"`
	Picture     string `json:"picture,omitempty"`
	Link        string `json:"link,omitempty"`
	ReviewCount int    `json:"review_count,omitempty"`
	PhotoCount  int    `json:"photo_count,omitempty"`
}

// Reply is the owner's answer to a review.
type Reply struct {
	Text       string    `json:"text,omitempty"`
	Language   string    `json:"language,omitempty"`
	Translated string    `json:"translated,omitempty"`
	PostedAt   time.Time `json:"posted_at,omitzero"`
	EditedAt   time.Time `json:"edited_at,omitzero"`
}

// Key identifies a place within a job: its data id, or what stands in for one when Google sent none.
// Titles never identify: two queries return one place under different titles.
func (p *Place) Key() string {
	switch {
	case p.DataID != "":
		return p.DataID
	case p.CID != "":
		return "cid:" + p.CID
	default:
		return "pid:" + p.PlaceID
	}
}
