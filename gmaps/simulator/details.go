package simulator

import (
	"strconv"
	"strings"
	"time"

	"gmaps-scraper/gmaps"
)

func weekdays() [7]string {
	return [7]string{"Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"}
}

const (
	narrowSpace = "\u202f"
	enDash      = "–"
)

func (w *world) openingHours(p *synthetic, s *random) {
	switch {
	case s.chance(3):
		p.Closed, p.Status = gmaps.ClosedPermanently, "Permanently closed"
		return
	case s.chance(3): //nolint:gocritic // another throw of the dice
		p.Closed, p.Status = gmaps.ClosedTemporarily, "Temporarily closed"
		return
	case s.chance(10):
		return // says nothing of its hours
	}
	open := 60*(6+s.below(5)) + 30*s.below(2)
	var usual []gmaps.Interval
	switch s.below(6) {
	case 0:
		usual = []gmaps.Interval{{OpenMinute: 0, CloseMinute: 24 * 60}}
	case 1:
		usual = []gmaps.Interval{{OpenMinute: open, CloseMinute: 13*60 + 30}, {OpenMinute: 17 * 60, CloseMinute: 21 * 60}}
	case 2:
		usual = []gmaps.Interval{{OpenMinute: open + 9*60, CloseMinute: 24*60 + 30*s.below(6)}} // after midnight
	default:
		usual = []gmaps.Interval{{OpenMinute: open, CloseMinute: 60*(17+s.below(6)) + 15*s.below(4)}}
	}
	shown := make([]string, len(usual))
	for i, span := range usual {
		shown[i] = spanText(span)
	}
	rest := s.below(10) // a weekday, or none
	p.Hours = make([]gmaps.DayHours, 0, 7)
	for i, name := range weekdays() {
		day := gmaps.DayHours{Weekday: i + 1, Name: name}
		if i == rest {
			day.Text = []string{"Closed"}
		} else {
			day.Open, day.Text = usual, shown
		}
		p.Hours = append(p.Hours, day)
	}
	p.Status = "Open ⋅ Closes " + clock(usual[len(usual)-1].CloseMinute)
	if usual[0].CloseMinute == 24*60 && usual[0].OpenMinute == 0 {
		p.Status = "Open 24 hours"
	}
}

func spanText(span gmaps.Interval) string {
	if span.OpenMinute == 0 && span.CloseMinute == 24*60 {
		return "Open 24 hours"
	}
	return clock(span.OpenMinute) + enDash + clock(span.CloseMinute)
}

// clock is how Google writes a time of day in English.
func clock(minute int) string {
	hour, minute := minute/60%24, minute%60
	half := "AM"
	if hour >= 12 {
		half = "PM"
	}
	text := strconv.Itoa((hour+11)%12 + 1)
	if minute > 0 {
		text += ":" + strconv.Itoa(minute/10) + strconv.Itoa(minute%10)
	}
	return text + narrowSpace + half
}

const optionPath = "/geo/type/establishment_poi/"

// creditCards is the option whose presence says that credit cards are taken.
const creditCards = optionPath + "pay_credit_card_types_accepted"

// features are the sections of the about list.
func features() []gmaps.AboutSection {
	section := func(id, name string, options ...string) gmaps.AboutSection {
		out := gmaps.AboutSection{ID: id, Name: name}
		for i := 0; i < len(options); i += 2 {
			out.Options = append(out.Options, gmaps.AboutOption{ID: optionPath + options[i], Name: options[i+1]})
		}
		return out
	}
	return []gmaps.AboutSection{
		section("service_options", "Service options", "has_seating_outdoors", "Outdoor seating", "has_delivery", "Delivery", "has_takeout", "Takeaway", "serves_dine_in", "Dine-in"),
		section("accessibility", "Accessibility", "has_wheelchair_accessible_entrance", "Wheelchair-accessible entrance", "has_wheelchair_accessible_restroom", "Wheelchair-accessible toilet"),
		section("offerings", "Offerings", "serves_coffee", "Coffee", "serves_beer", "Beer", "serves_vegan", "Vegan options", "serves_small_plates", "Small plates"),
		section("amenities", "Amenities", "has_restroom", "Toilet", "wi_fi", "Wi-Fi"),
		section("atmosphere", "Atmosphere", "feels_casual", "Casual", "feels_cozy", "Cosy"),
		section("payments", "Payments", "pay_debit_card", "Debit cards", "pay_mobile_nfc", "NFC mobile payments"),
		section("parking", "Parking", "has_parking_street_free", "Free street parking", "has_parking_lot_paid", "Paid parking lot"),
	}
}

func (w *world) about(p *synthetic, cat *category, s *random) {
	for _, all := range w.features {
		if s.chance(35) || (all.ID == "offerings" && !cat.food) {
			continue
		}
		section := gmaps.AboutSection{ID: all.ID, Name: all.Name, Options: make([]gmaps.AboutOption, 0, len(all.Options)+1)}
		for _, option := range all.Options {
			if s.chance(70) {
				option.On = s.chance(80)
				section.Options = append(section.Options, option)
			}
		}
		if all.ID == "payments" && s.chance(70) {
			yes := true
			p.CreditCards = &yes
			values := []string{"Visa", "Mastercard", "American Express"}[:1+s.below(3)]
			section.Options = append(section.Options, gmaps.AboutOption{ID: creditCards, Name: "Credit cards", On: true, Values: values})
		}
		if len(section.Options) > 0 {
			p.About = append(p.About, section)
		}
	}
}

// detail fills everything that a place's own payload carries.
func (w *world) detail(r ref) *synthetic {
	p := w.listing(r)
	p.Detailed = true
	s := w.stream(r, streamDetail)
	c := &w.cities[p.spot.city]
	tongue := w.languages[c.lang]
	if p.ReviewCount > 0 {
		p.Histogram = &p.stars
	}
	if !p.quirks.noLink {
		p.Link = "https://www.google.com/maps/place/" + strings.ReplaceAll(p.Title, " ", "+") + "/data=!4m2!3m1!1s" + p.DataID + "!10m1!1e1"
	}
	if p.Closed == "" && s.chance(60) {
		w.popularTimes(p, &s)
		if s.chance(50) {
			p.TimeSpent = "People typically spend " + []string{"15 min", "up to 1 hour", "1.5 hours"}[s.below(3)] + " here"
		}
	}
	if s.chance(85) {
		w.images(p, &s)
	}
	owned := s.chance(60)
	if owned {
		id := "1" + s.digits(20)
		p.Owner = gmaps.Owner{ID: id, Name: p.Title + " (Owner)", Link: "https://www.google.com/maps/contrib/" + id}
		if s.chance(50) {
			p.OwnerText = "From the owner:\n" + s.pick(tongue.praise) + "\t" + tongue.thanks
		}
	}
	if w.categories[w.category(r)].food {
		w.ordering(p, &s)
	}
	for range s.below(4) {
		p.AlsoSearched = append(p.AlsoSearched, expand(tongue.title, "k", s.pick(tongue.kinds), "n", s.pick(tongue.names)))
	}
	if p.ReviewCount > 20 && s.chance(50) {
		p.ReviewSummary = "Visitors praise the " + strings.ToLower(p.Categories[0]) + " & its staff."
	}
	order := w.reviewOrder(r, gmaps.OrderRelevant)
	for _, j := range order[:min(len(order), inlineReviews)] {
		p.Reviews = append(p.Reviews, w.inlineReview(p, j))
	}
	if len(order) > inlineReviews {
		p.ReviewsToken = reviewToken(w.cid(r), gmaps.OrderRelevant, inlineReviews)
	}
	return p
}

// popularTimes has days and hours missing now and then, as the real ones do.
func (w *world) popularTimes(p *synthetic, s *random) {
	for i := range 7 {
		day := gmaps.DayTraffic{Weekday: i + 1}
		if p.quirks.holes && s.chance(20) {
			continue
		}
		for hour := 6; hour < 24; hour++ {
			busy := s.below(101)
			if p.quirks.holes && s.chance(10) {
				continue
			}
			day.Hours = append(day.Hours, gmaps.HourTraffic{Hour: hour, BusyPercent: busy})
		}
		p.PopularTimes = append(p.PopularTimes, day)
	}
}

const streetViewTitle = "Street View & 360°"

func (w *world) images(p *synthetic, s *random) {
	photo := func(size string) string { return "https://lh5.googleusercontent.com/p/AF1Qip" + s.token(38) + size }
	p.Thumbnail = photo("=w408-h306-k-no")
	for _, title := range []string{"All", "Latest", "Menu", "Vibe", "By owner", "Videos"} {
		if title == "All" || s.chance(50) {
			p.Images = append(p.Images, gmaps.Image{Title: title, URL: photo("=w298-h298-k-no")})
		}
	}
	if !s.chance(60) || p.Location == nil {
		return
	}
	pano := "AF1Qip" + s.token(38)
	link := "https://lh5.googleusercontent.com/p/" + pano + "=w224-h298-k-no-pi-23.425545-ya289.20517-ro-8.658787-fo100"
	if p.quirks.panoURL {
		pano = s.token(22)
		link = "https://streetviewpixels-pa.googleapis.com/v1/thumbnail?panoid=" + pano + "&cb_client=search.gws-prod.gps&w=224&h=298&yaw=" + strconv.Itoa(s.below(360)) + "&pitch=0&thumbfov=100"
	}
	p.Images = append(p.Images, gmaps.Image{Title: streetViewTitle, URL: link})
	p.StreetViewURL = "https://www.google.com/maps/@?api=1&map_action=pano&pano=" + pano
}

func (w *world) ordering(p *synthetic, s *random) {
	site := strings.TrimSuffix(p.Website, "/")
	if p.Domain != "" && s.chance(60) {
		p.Menu = gmaps.Link{URL: "https://www." + p.Domain + "/menu?lang=en", Source: p.Domain}
	}
	if site != "" && s.chance(50) {
		p.Reservations = append(p.Reservations, gmaps.Link{URL: "https://tables.example/book?rid=" + p.CID, Source: "tables.example"})
		if s.chance(30) {
			p.Reservations = append(p.Reservations, gmaps.Link{URL: "https://www." + p.Domain + "/book", Source: p.Domain})
		}
	}
	for _, host := range []string{"eats.example", "orders.example"} {
		if s.chance(40) {
			p.OrderOnline = append(p.OrderOnline, gmaps.Link{URL: "https://" + host + "/store/" + p.CID + "?utm_source=google&utm_campaign=place", Source: host})
		}
	}
}

// epoch is when the newest reviews were written: fixed, so that a seed gives the same places at any time.
func epoch() time.Time { return time.Date(2026, time.October, 1, 12, 0, 0, 0, time.UTC) }
