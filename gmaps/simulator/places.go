package simulator

import (
	"math"
	"net/url"
	"strconv"
	"strings"

	"gmaps-scraper/gmaps"
)

// quirks are the ways in which payloads of equal meaning differ. Each is drawn per place.
type quirks struct {
	olderHours   bool // hours at 34,1
	newerHours   bool // hours at 203,0
	escapedLinks bool // = and & of links are escaped twice
	rawNewlines  bool // line breaks stand unescaped inside JSON strings
	wrappedSite  bool // website as /url?q=
	newThumb     bool // thumbnail at 72,0,0 and not 72,0,1
	firstOrders  bool // order online at 75,0,0 and not 75,0,1
	panoURL      bool // street view as panoid= and not as a photo
	oldReviews   bool // review layout of 2023
	noLink       bool
	holes        bool // null days and slots in popular times
}

// synthetic is a place with what the payload needs besides.
type synthetic struct {
	gmaps.Place
	ref    ref
	quirks quirks
	spot   spot
	stars  [5]int // reviews with 1 to 5 stars
}

// reviewTotal is how many reviews a place has: 0 to 500, few for most.
func (w *world) reviewTotal(r ref) int {
	s := w.stream(r, streamReview)
	if s.chance(8) {
		return 0
	}
	f := s.float()
	return 1 + int(499*f*f*f)
}

// listing fills what a search entry carries.
func (w *world) listing(r ref) *synthetic {
	s := w.stream(r, streamListing)
	at := w.spot(r)
	c := &w.cities[at.city]
	tongue := w.languages[c.lang]
	kind := w.category(r)
	cat := &w.categories[kind]
	low := w.cid(r)
	high := w.featureHigh(low)

	p := &synthetic{ref: r, spot: at}
	p.DataID = "0x" + strconv.FormatUint(high, 16) + ":0x" + strconv.FormatUint(low, 16)
	p.CID = strconv.FormatUint(low, 10)
	p.PlaceID = placeID(high, low)
	p.KnowledgeID = "/g/11" + strings.ToLower(s.token(8))
	name := s.pick(tongue.names)
	p.Title = expand(tongue.title, "k", tongue.kinds[kind], "n", name)
	if s.chance(30) {
		p.Title += " " + strconv.Itoa(2+s.below(98))
	}
	p.Categories, p.CategoryIDs = []string{cat.name}, []string{cat.id}
	if s.chance(25) {
		if other := &w.categories[s.below(len(w.categories))]; other != cat {
			p.Categories, p.CategoryIDs = append(p.Categories, other.name), append(p.CategoryIDs, other.id)
		}
	}
	p.Timezone = c.timezone
	p.AddressParts = gmaps.AddressParts{City: c.name, CountryCode: c.code}
	if !cat.mobile || !s.chance(50) {
		w.address(p, c, &s)
	}
	if s.chance(90) {
		w.phone(p, c, &s)
	}
	if s.chance(70) {
		p.Domain = "place" + strconv.FormatUint(low%1e9, 36) + "." + c.domain
		p.Website = "https://www." + p.Domain + "/"
		if s.chance(30) {
			p.Website += "?utm_source=google&utm_medium=maps&id=" + strconv.Itoa(int(r.index))
		}
	}
	p.quirks = quirks{escapedLinks: s.chance(20), rawNewlines: s.chance(5), wrappedSite: s.chance(15), newThumb: s.chance(50),
		firstOrders: s.chance(50), panoURL: s.chance(50), oldReviews: s.chance(30), noLink: s.chance(10), holes: s.chance(30)}
	p.quirks.olderHours = s.chance(60)
	p.quirks.newerHours = !p.quirks.olderHours || s.chance(60)

	w.rate(p)
	if cat.food && s.chance(70) {
		n := 1 + s.below(3)
		p.PriceRange = strings.Repeat(c.currency, n)
		p.PriceText = []string{"Inexpensive", "Moderately expensive", "Expensive"}[n-1]
	}
	if s.chance(40) {
		p.Description = "A " + strings.ToLower(cat.name) + " in " + c.english + ".\nRun by the family of " + name + " since " + strconv.Itoa(1900+s.below(120)) + "."
		p.Tagline = "Known for \"" + name + "\" & more"
	}
	w.openingHours(p, &s)
	w.about(p, cat, &s)
	p.Link = "https://www.google.com/maps?cid=" + p.CID
	if p.ReviewCount > 0 {
		p.ReviewsLink = "https://search.google.com/local/reviews?placeid=" + p.PlaceID + "&q=" + url.QueryEscape(p.Title) + "&authuser=0&hl=en&gl=" + c.code
	} else {
		p.ReviewsLink = "https://search.google.com/local/reviews?placeid=" + p.PlaceID
	}
	return p
}

func (w *world) address(p *synthetic, c *city, s *random) {
	number, postal := strconv.Itoa(1+s.below(220)), fillDigits(c.postal, s)
	street, borough := s.pick(c.streets), ""
	if c.boroughs != nil {
		borough = s.pick(c.boroughs)
	}
	text := expand(c.address, "s", street, "n", number, "p", postal, "c", c.name, "b", borough)
	p.AddressLines = strings.Split(text, "|")
	if c.country != "" {
		p.AddressLines = append(p.AddressLines, c.country)
	}
	p.Address = strings.Join(p.AddressLines, ", ")
	p.FormattedAddress = p.Title + ", " + p.Address
	first := street + " " + number
	if strings.HasPrefix(c.address, "{n} ") {
		first = number + " " + street
	}
	p.AddressParts = gmaps.AddressParts{Borough: borough, Street: first, City: c.name, PostalCode: postal, State: c.state, CountryCode: c.code}
	if s.chance(40) {
		p.Neighborhood = c.english + " Quarter " + strconv.Itoa(1+p.spot.neighborhood)
	}
	p.Location = &gmaps.Point{Lat: p.spot.lat, Lng: p.spot.lng}
	p.GlobalPlusCode = plusCode(p.spot.lat, p.spot.lng)
	p.PlusCode = p.GlobalPlusCode[4:] + " " + c.english
}

func (w *world) phone(p *synthetic, c *city, s *random) {
	national := fillDigits(c.phone, s)
	p.Phone = national
	p.PhoneDigits = strings.Map(func(r rune) rune {
		if r < '0' || r > '9' {
			return -1
		}
		return r
	}, national)
	// The trunk prefix, 0 or Russia's 8, is left out abroad.
	abroad := strings.ReplaceAll(strings.TrimPrefix(national, "("), ")", "")
	switch {
	case c.dial == "7":
		abroad = strings.TrimPrefix(abroad, "8 ")
	case c.code != "US" && c.code != "CA":
		abroad = strings.TrimPrefix(abroad, "0")
	}
	p.PhoneInternational = "+" + c.dial + " " + abroad
}

// expand replaces {x} in pattern, where the pairs name x and its text. A name is one letter.
func expand(pattern string, pairs ...string) string {
	out := make([]byte, 0, 64)
	for {
		at := strings.IndexByte(pattern, '{')
		if at < 0 || at+2 >= len(pattern) {
			return string(append(out, pattern...))
		}
		out = append(out, pattern[:at]...)
		for i := 0; i < len(pairs); i += 2 {
			if pairs[i] == pattern[at+1:at+2] {
				out = append(out, pairs[i+1]...)
			}
		}
		pattern = pattern[at+3:]
	}
}

// fillDigits replaces every # by a digit.
func fillDigits(pattern string, s *random) string {
	b := []byte(pattern)
	for i := range b {
		if b[i] == '#' {
			b[i] = byte('0' + s.below(10))
		}
	}
	return string(b)
}

// rate counts the stars of all reviews; the rating is their mean.
func (w *world) rate(p *synthetic) {
	n := w.reviewTotal(p.ref)
	if n == 0 {
		return
	}
	sum := 0
	for j := range n {
		stars := w.reviewStars(p.ref, j)
		p.stars[stars-1]++
		sum += stars
	}
	p.ReviewCount = n
	p.Rating = math.Round(10*float64(sum)/float64(n)) / 10
}

// plusCode is the full Open Location Code with ten digits (github.com/google/open-location-code, specification 2019).
func plusCode(lat, lng float64) string {
	const alphabet = "23456789CFGHJMPQRVWX"
	const cell = 1250 // 1/8000 degree in units of 1e-7; integers, so that a border falls on its own side
	y := min(int64(math.Round((lat+90)*1e7)), 180e7-1) / cell
	x := (int64(math.Round((lng+180)*1e7)) + 360e7) % 360e7 / cell
	var b [11]byte
	for i := 10; i > 0; i -= 2 {
		at := i - 1
		if i <= 8 {
			at = i - 2
		}
		b[at], b[at+1] = alphabet[y%20], alphabet[x%20]
		y, x = y/20, x/20
	}
	b[8] = '+'
	return string(b[:])
}
