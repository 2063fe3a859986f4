package export

import (
	"strconv"

	"gmaps-scraper/gmaps"
)

// compatColumns are the columns of gosom/google-maps-scraper v1.16 with its names, order and JSON shapes (its gmaps/entry.go,
// CsvHeaders and CsvRow, 2026), so that what reads its files reads ours.
func compatColumns() []column {
	byName := map[string]column{}
	for _, c := range columns() {
		byName[c.name] = c
	}
	same := func(name, ours string) column {
		return column{name: name, kind: byName[ours].kind, value: byName[ours].value}
	}
	return []column{
		same("input_id", "input_id"),
		same("link", "link"),
		same("title", "title"),
		same("category", "category"),
		same("address", "address"),
		{name: "open_hours", kind: structured, value: compatHours},
		{name: "popular_times", kind: structured, value: compatTraffic},
		same("website", "website"),
		same("phone", "phone"),
		same("plus_code", "plus_code"),
		same("review_count", "review_count"),
		same("review_rating", "rating"),
		{name: "reviews_per_rating", kind: structured, value: compatHistogram},
		same("latitude", "latitude"),
		same("longitude", "longitude"),
		same("cid", "cid"),
		same("status", "status"),
		same("descriptions", "description"),
		same("reviews_link", "reviews_link"),
		same("thumbnail", "thumbnail"),
		same("timezone", "timezone"),
		same("price_range", "price_range"),
		same("data_id", "data_id"),
		same("street_view_url", "street_view_url"),
		same("place_id", "place_id"),
		{name: "images", kind: structured, value: compatImages},
		{name: "reservations", kind: structured, value: func(r *Row) any { return compatLinks(r.Place.Reservations) }},
		{name: "order_online", kind: structured, value: func(r *Row) any { return compatLinks(r.Place.OrderOnline) }},
		{name: "menu", kind: structured, value: compatMenu},
		{name: "owner", kind: structured, value: compatOwner},
		{name: "complete_address", kind: structured, value: compatAddress},
		same("credit_cards_accepted", "credit_cards_accepted"),
		{name: "about", kind: structured, value: compatAbout},
		{name: "user_reviews", kind: structured, value: func(r *Row) any { return compatReviews(r.Place.Reviews) }},
		{name: "user_reviews_extended", kind: structured, value: func(r *Row) any { return compatReviews(r.Place.ExtraReviews) }},
		{name: "emails", kind: text, value: func(*Row) any { return nil }}, // enrichment of websites; the column stays for its readers
	}
}

func compatHours(r *Row) any {
	if len(r.Place.Hours) == 0 {
		return nil
	}
	days := make(map[string][]string, 7)
	for _, d := range r.Place.Hours {
		days[d.Name] = append([]string{}, d.Text...)
	}
	return days
}

// compatTraffic names the weekdays in English whatever the query's language, as the original does.
func compatTraffic(r *Row) any {
	if len(r.Place.PopularTimes) == 0 {
		return nil
	}
	english := [...]string{"", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"}
	week := make(map[string]map[int]int, 7)
	for _, d := range r.Place.PopularTimes {
		if d.Weekday < 1 || d.Weekday > 7 {
			continue
		}
		hours := make(map[int]int, len(d.Hours))
		for _, h := range d.Hours {
			hours[h.Hour] = h.BusyPercent
		}
		week[english[d.Weekday]] = hours
	}
	return week
}

func compatHistogram(r *Row) any {
	if r.Place.Histogram == nil {
		return nil
	}
	counts := make(map[string]int, 5)
	for i, n := range r.Place.Histogram {
		counts[strconv.Itoa(i+1)] = n
	}
	return counts
}

func compatImages(r *Row) any {
	type image struct {
		Title string `json:"title"`
		Image string `json:"image"`
	}
	var images []image
	for _, i := range r.Place.Images {
		images = append(images, image{i.Title, i.URL})
	}
	return list(images)
}

type compatLink struct {
	Link   string `json:"link"`
	Source string `json:"source"`
}

func compatLinks(links []gmaps.Link) any {
	var out []compatLink
	for _, l := range links {
		out = append(out, compatLink{l.URL, l.Source})
	}
	return list(out)
}

func compatMenu(r *Row) any {
	if r.Place.Menu == (gmaps.Link{}) {
		return nil
	}
	return compatLink{r.Place.Menu.URL, r.Place.Menu.Source}
}

func compatOwner(r *Row) any {
	o := r.Place.Owner
	if o == (gmaps.Owner{}) {
		return nil
	}
	return struct {
		ID   string `json:"id"`
		Name string `json:"name"`
		Link string `json:"link"`
	}{o.ID, o.Name, o.Link}
}

func compatAddress(r *Row) any {
	a := r.Place.AddressParts
	if a == (gmaps.AddressParts{}) {
		return nil
	}
	return struct {
		Borough    string `json:"borough"`
		Street     string `json:"street"`
		City       string `json:"city"`
		PostalCode string `json:"postal_code"`
		State      string `json:"state"`
		Country    string `json:"country"`
	}{a.Borough, a.Street, a.City, a.PostalCode, a.State, a.CountryCode}
}

func compatAbout(r *Row) any {
	type option struct {
		Name    string `json:"name"`
		Enabled bool   `json:"enabled"`
	}
	type section struct {
		ID      string   `json:"id"`
		Name    string   `json:"name"`
		Options []option `json:"options"`
	}
	var sections []section
	for _, a := range r.Place.About {
		s := section{ID: a.ID, Name: a.Name}
		for _, o := range a.Options {
			s.Options = append(s.Options, option{o.Name, o.On})
		}
		sections = append(sections, s)
	}
	return list(sections)
}

// compatReviews writes Go's field names, as the original's type has no JSON names, and dates as year-month-day without zeros.
func compatReviews(reviews []gmaps.Review) any {
	type review struct {
		Name           string
		ProfilePicture string
		Rating         int
		Description    string
		Images         []string
		When           string
	}
	var out []review
	for _, r := range reviews {
		when := r.When
		if !r.PostedAt.IsZero() {
			when = r.PostedAt.UTC().Format("2006-1-2")
		}
		out = append(out, review{r.Author.Name, r.Author.Picture, int(r.Rating), r.Text, r.Photos, when})
	}
	return list(out)
}
