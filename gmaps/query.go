package gmaps

import "context"

// Query is one search of one viewport, or one known place. It is what a task of a job asks an Engine.
type Query struct {
	// Keyword is what a person would type. Empty when Place is set.
	Keyword string `json:"keyword,omitempty"`
	// Place names one known place instead of a search.
	Place *PlaceRef `json:"place,omitempty"`
	// Lang is the language of the answers (hl), "en" if empty.
	Lang string `json:"lang,omitempty"`
	// Country is Google's gl, ISO 3166-1 alpha-2; empty leaves it to Google.
	Country string `json:"country,omitempty"`
	// Viewport is where to search; nil is the whole earth, where the keyword's own words name the place.
	Viewport *Viewport `json:"viewport,omitempty"`
	// MaxPages bounds the pages of 20 that are asked for; 0 goes on until two pages bring nothing new.
	MaxPages int `json:"max_pages,omitempty"`
	// Detail says when a place's own payload is fetched. Empty is DetailAuto.
	Detail Detail `json:"detail,omitempty"`
	// Reviews asks for reviews beyond the inline ones.
	Reviews Reviews `json:"reviews,omitzero"`
	// Known spares requests for places that whoever asks has already. nil: there are none. It belongs to one call of Search and is never stored.
	Known Known `json:"-"`
}

// Known knows places that need no payload and no reviews of their own: they come as the listing shows them.
type Known interface {
	// Known says of each Place.Key, in their order, whether the place is there. nil: of none. It is asked once a page.
	Known(ctx context.Context, keys []string) []bool
}

// PlaceRef names a place by one of its ids; the first that is set counts.
type PlaceRef struct {
	DataID  string `json:"data_id,omitempty"`
	PlaceID string `json:"place_id,omitempty"`
	CID     string `json:"cid,omitempty"`
	// URL is a link that only Google can resolve (maps.app.goo.gl).
	URL string `json:"url,omitempty"`
}

// Viewport is a circle on the map.
type Viewport struct {
	Center       Point   `json:"center"`
	RadiusMeters float64 `json:"radius_meters"`
}

// Detail says when a place's own payload is fetched besides its listing.
type Detail string

// The choices of Detail.
const (
	DetailAuto   Detail = "auto"   // when the listing lacks a field that listings usually carry
	DetailAlways Detail = "always" // for every place: histogram, popular times, images, owner, inline reviews
	DetailNever  Detail = "never"
)

// Reviews asks for reviews page by page. Max 0: none.
type Reviews struct {
	Max   int         `json:"max,omitempty"`
	Order ReviewOrder `json:"order,omitempty"`
}

// ReviewOrder is the order in which reviews are asked for.
type ReviewOrder string

// The orders of reviews. Empty is OrderRelevant.
const (
	OrderRelevant ReviewOrder = "relevant"
	OrderNewest   ReviewOrder = "newest"
	OrderHighest  ReviewOrder = "highest"
	OrderLowest   ReviewOrder = "lowest"
)
