package gmaps

import (
	"net/url"
	"strings"
)

func (p *Place) decodeImages(f fields) {
	p.Thumbnail = absolute(f.text("thumbnail", 72, 0, 1, 6, 0))
	if p.Thumbnail == "" {
		p.Thumbnail = absolute(f.text("thumbnail", 72, 0, 0, 6, 0))
	}
	if p.Thumbnail == "" {
		p.Thumbnail = f.firstPhoto()
	}
	var pano string
	array := f.array + ".images"
	for _, group := range f.list("images", 171, 0).all() {
		if group == nil {
			continue
		}
		var elements [4]value
		group.split(elements[:])
		g := fields{array, elements[:], f.reading}
		image := Image{Title: g.text("title", 2), URL: absolute(g.text("url", 3, 0, 6, 0))}
		if image == (Image{}) {
			continue
		}
		p.Images = append(p.Images, image)
		if pano == "" {
			pano = panoID(image)
		}
	}
	if pano == "" {
		pano = panoID(Image{URL: f.firstPhoto()})
	}
	if pano != "" {
		p.StreetViewURL = "https://www.google.com/maps/@?api=1&map_action=pano&pano=" + url.QueryEscape(pano)
	}
}

// firstPhoto returns the URL of the picture at the head of the page, often of the street. In the limited view other things stand at its path.
func (f fields) firstPhoto() string {
	v, _ := f.get("photos", 37).at(0, 0, 6, 0)
	s, _ := v.text()
	return absolute(s)
}

// panoID returns the id of the panorama that an image was cut from, "" for a plain picture. Google's own panoramas carry it as panoid=;
// those of visitors are known by the angles of view (-ya is the yaw) that follow the id, in every language of the title.
func panoID(image Image) string {
	if strings.Contains(image.URL, "panoid=") {
		u, err := url.Parse(image.URL)
		if err != nil {
			return ""
		}
		return u.Query().Get("panoid")
	}
	_, file, _ := strings.Cut(image.URL, "googleusercontent.com/p/")
	id, options, ok := strings.Cut(file, "=")
	if !ok {
		return ""
	}
	if strings.Contains(options, "-ya") && strings.Contains(options, "-fo") || strings.Contains(image.Title, "Street View") {
		return id
	}
	return ""
}

// absolute completes a link that leaves its scheme to the page.
func absolute(link string) string {
	if strings.HasPrefix(link, "//") {
		return "https:" + link
	}
	return link
}

// Options of about that say whether credit cards are taken; labels are localised, ids are not.
const (
	optionCardTypes   = "/geo/type/establishment_poi/pay_credit_card_types_accepted"
	optionCreditCards = "/geo/type/establishment_poi/pay_credit_card"
)

func (p *Place) decodeAbout(f fields) {
	array := f.array + ".about"
	for _, v := range f.list("about", 100, 1).all() {
		if v == nil {
			continue
		}
		var elements [3]value
		v.split(elements[:])
		s := fields{array, elements[:], f.reading}
		section := AboutSection{ID: s.text("id", 0), Name: s.text("name", 1)}
		section.Options = decodeOptions(s, s.list("options", 2))
		if section.Name != "" || section.Options != nil {
			p.About = append(p.About, section)
		}
	}
	p.CreditCards = creditCards(p.About)
	if amenities := decodeAmenities(f); amenities != nil {
		p.About = append(p.About, AboutSection{ID: "amenities", Name: "Amenities", Options: amenities})
	}
}

// decodeAmenities reads what a hotel offers: [64,2] = [[…, name at 2, on at 3 if 1]…] (read). It has no title of its own.
func decodeAmenities(f fields) []AboutOption {
	var options []AboutOption
	for _, v := range f.list("amenities", 64, 2).all() {
		name, _ := v.at(2)
		on, _ := v.at(3)
		if s, _ := f.reading.text(name); s != "" {
			n, _ := on.smallInt()
			options = append(options, AboutOption{Name: s, On: n == 1})
		}
	}
	return options
}

func decodeOptions(section fields, list value) []AboutOption {
	if list == nil {
		return nil
	}
	array := section.array + ".option"
	var some [16]AboutOption // on the stack: most sections have fewer
	options := some[:0]
	for _, v := range list.all() {
		if v == nil {
			continue
		}
		var elements [3]value
		v.split(elements[:])
		if option, ok := decodeOption(fields{array, elements[:], section.reading}); ok {
			options = append(options, option)
		}
	}
	return append([]AboutOption(nil), options...)
}

// decodeOption reads one option. [2][0] is its kind: 1 is had or not ([2][1][0][0]), 2 has one value ([2][3]), 3 has several ([2][4][1][0][0]).
func decodeOption(o fields) (AboutOption, bool) {
	option := AboutOption{ID: o.text("id", 0), Name: o.text("name", 1)}
	if option.Name == "" && option.ID == "" {
		return option, false
	}
	var facts [5]value
	o = o.sub(facts[:], "facts", 2)
	option.Values = appendValue(option.Values, o.list("value", 3))
	for _, one := range o.list("values", 4, 1, 0, 0).all() {
		option.Values = appendValue(option.Values, one)
	}
	option.On = len(option.Values) > 0 || o.number("on", 1, 0, 0) == 1
	return option, true
}

// appendValue appends the name of the value v, which stands at [2] or [3].
func appendValue(values []string, v value) []string {
	for _, i := range [...]int{2, 3} {
		name, _ := v.at(i)
		if s, _ := name.text(); s != "" {
			return append(values, s)
		}
	}
	return values
}

func creditCards(about []AboutSection) *bool {
	var accepted *bool
	for i := range about {
		for j := range about[i].Options {
			switch o := &about[i].Options[j]; o.ID {
			case optionCardTypes:
				return new(o.On)
			case optionCreditCards:
				accepted = new(o.On)
			}
		}
	}
	return accepted
}

// decodeActions reads who runs the place and where else one can act on it.
func (p *Place) decodeActions(f fields) {
	p.Owner = Owner{Name: f.text("owner", 57, 1), ID: f.text("owner", 57, 2)}
	if p.Owner.ID != "" {
		p.Owner.Link = "https://www.google.com/maps/contrib/" + url.PathEscape(p.Owner.ID)
	}
	p.Menu = Link{URL: unwrapLink(f.text("menu", 38, 0)), Source: f.text("menu", 38, 1)} // (read)
	p.Reservations = decodeLinks(f, "reservations", f.list("reservations", 46), []int{0}, []int{1})
	for _, i := range [...]int{1, 0, 2} {
		links := decodeLinks(f, "order_online", f.list("order_online", 75, 0, i, 2), []int{1, 2, 0}, []int{0, 0})
		switch kind, _ := f.get("order_online", 75, 0, i, 0).smallInt(); {
		case kind == reserveTable && p.Reservations == nil:
			p.Reservations = links
		case kind != reserveTable && p.OrderOnline == nil:
			p.OrderOnline = links
		}
	}
}

// reserveTable is the kind of the groups in [75,0] whose links book a table; 4 orders food.
const reserveTable = 1

func decodeLinks(f fields, name string, list value, link, source []int) []Link {
	var links []Link
	for _, v := range list.all() {
		if v == nil {
			continue
		}
		u, _ := v.at(link...)
		s, _ := v.at(source...)
		target, ok := u.text()
		if !ok {
			f.drift.count(f.array, name, link...)
			continue
		}
		run, _ := s.text()
		links = append(links, Link{URL: unwrapLink(target), Source: run})
	}
	return links
}
