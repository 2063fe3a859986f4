package simulator

import (
	"strconv"
	"strings"

	"gmaps-scraper/gmaps"
)

// shape is how much of a place an answer shows.
type shape struct {
	detail  bool // all fields, as in a place payload; else those of a listing
	browser bool // a listing with owner, thumbnail and about, as the short layout has
	limited bool // limited view: the hours of one day, the review count at 37,1
	// Without a session Google leaves these out of some answers.
	noCount, noHistogram, noTraffic, noGallery, noAbout bool
}

// encoder appends Google's positional JSON. Besides its buffer it holds the arrays that are open and the quirks of the place at hand.
type encoder struct {
	b      []byte
	quirks quirks
	lists  [maxDepth]list // here and not on the stack, from where they would escape to the heap
	depth  int
}

// maxDepth is above the deepest array that is written here.
const maxDepth = 32

// list is an array being written: elements are set by rising index and the gaps become null.
type list struct {
	e    *encoder
	next int
}

const nulls = "null,null,null,null,null,null,null,null,null,null,null,null,null,null,null,null," // 16

func (e *encoder) list() *list {
	e.b = append(e.b, '[')
	l := &e.lists[e.depth]
	*l = list{e: e}
	e.depth++
	return l
}

// at moves to element index, which the caller writes next. Indices must rise.
func (l *list) at(index int) {
	if l.next > 0 {
		l.e.b = append(l.e.b, ',')
	}
	for gap := index - l.next; gap > 0; gap -= 16 {
		l.e.b = append(l.e.b, nulls[:5*min(gap, 16)]...)
	}
	l.next = index + 1
}

// add moves to the next element.
func (l *list) add() { l.at(l.next) }

func (l *list) close() {
	l.e.b = append(l.e.b, ']')
	l.e.depth--
}

func (l *list) str(index int, s string) {
	if s != "" {
		l.at(index)
		l.e.str(s)
	}
}

func (l *list) link(index int, s string) {
	if s != "" {
		l.at(index)
		l.e.link(s)
	}
}

func (l *list) int(index, v int) {
	l.at(index)
	l.e.b = strconv.AppendInt(l.e.b, int64(v), 10)
}

func (l *list) float(index int, v float64) {
	l.at(index)
	l.e.b = strconv.AppendFloat(l.e.b, v, 'f', -1, 64)
}

// raw writes JSON that is known to be good.
func (l *list) raw(index int, json string) {
	l.at(index)
	l.e.b = append(l.e.b, json...)
}

// strs writes [s, …]; nothing for an empty list.
func (l *list) strs(index int, list []string) {
	if len(list) == 0 {
		return
	}
	l.at(index)
	inner := l.e.list()
	for _, s := range list {
		inner.add()
		l.e.str(s)
	}
	inner.close()
}

// nest writes what f does inside an array at index.
func (l *list) nest(index int, f func(l *list)) {
	l.at(index)
	inner := l.e.list()
	f(inner)
	inner.close()
}

// nest2 writes what f does two arrays deep: nest2(72, f) fills 72,0.
func (l *list) nest2(index int, f func(l *list)) {
	l.nest(index, func(l *list) { l.nest(0, f) })
}

func (e *encoder) str(s string) {
	e.b = append(e.b, '"')
	from := 0
	for i := range len(s) {
		c := s[i]
		if c >= ' ' && c != '"' && c != '\\' {
			continue
		}
		e.b = append(e.b, s[from:i]...)
		from = i + 1
		switch {
		case c == '"' || c == '\\':
			e.b = append(e.b, '\\', c)
		case e.quirks.rawNewlines && (c == '\n' || c == '\t'):
			e.b = append(e.b, c)
		case c == '\n':
			e.b = append(e.b, `\n`...)
		case c == '\t':
			e.b = append(e.b, `\t`...)
		default:
			e.b = append(e.b, `\u00`...)
			e.b = append(e.b, "0123456789abcdef"[c>>4], "0123456789abcdef"[c&15])
		}
	}
	e.b = append(e.b, s[from:]...)
	e.b = append(e.b, '"')
}

// link writes a URL, whose = and & Google escapes twice in some payloads.
func (e *encoder) link(s string) {
	if !e.quirks.escapedLinks {
		e.str(s)
		return
	}
	e.b = append(e.b, '"')
	for i := range len(s) {
		switch s[i] {
		case '=':
			e.b = append(e.b, `\\u003d`...)
		case '&':
			e.b = append(e.b, `\\u0026`...)
		default:
			e.b = append(e.b, s[i])
		}
	}
	e.b = append(e.b, '"')
}

// place writes D, the body of a place: 244 elements.
func (e *encoder) place(p *synthetic, sh shape) {
	e.quirks = p.quirks
	full := sh.detail
	d := e.list()
	d.raw(0, `"vWFdZ_7JMNefhbIPxqWFmAc"`)
	d.strs(2, p.AddressLines)
	if p.ReviewCount > 0 || p.PriceRange != "" {
		d.nest(4, func(l *list) { e.rating(l, p, sh) })
	}
	if p.Website != "" {
		d.nest(7, func(l *list) {
			site := p.Website
			if p.quirks.wrappedSite {
				site = "/url?q=" + strings.NewReplacer(":", "%3A", "/", "%2F", "?", "%3F", "=", "%3D", "&", "%26").Replace(site) + "&opi=79508299"
			}
			l.link(0, site)
			l.str(1, p.Domain)
		})
	}
	if p.Location != nil {
		d.nest(9, func(l *list) { l.float(2, p.Location.Lat); l.float(3, p.Location.Lng) })
	}
	d.str(10, p.DataID)
	d.str(11, p.Title)
	d.strs(13, p.Categories)
	d.str(14, p.Neighborhood)
	d.str(18, p.FormattedAddress)
	if full && !p.quirks.noLink {
		d.link(27, p.Link)
	}
	d.str(30, p.Timezone)
	if p.Description != "" || p.Tagline != "" {
		d.nest(32, func(l *list) {
			if p.Tagline != "" {
				l.nest(0, func(l *list) { l.str(1, p.Tagline) })
			}
			if p.Description != "" {
				l.nest(1, func(l *list) { l.str(1, p.Description) })
			}
		})
	}
	if p.quirks.olderHours || p.Closed != "" {
		d.nest(34, func(l *list) { e.olderHours(l, p, sh) })
	}
	if sh.limited && p.ReviewCount > 0 {
		d.nest(37, func(l *list) { l.int(1, p.ReviewCount) })
	}
	if full && p.Menu.URL != "" {
		d.nest(38, func(l *list) { l.link(0, p.Menu.URL); l.str(1, p.Menu.Source) })
	}
	d.str(39, p.Address)
	if full && len(p.Reservations) > 0 {
		d.nest(46, func(l *list) {
			for _, r := range p.Reservations {
				l.nest(l.next, func(l *list) { l.link(0, r.URL); l.str(1, r.Source) })
			}
		})
	}
	if (full || sh.browser) && p.Owner.ID != "" {
		d.nest(57, func(l *list) { l.str(1, p.Owner.Name); l.str(2, p.Owner.ID) })
	}
	if (full || sh.browser) && p.Thumbnail != "" {
		d.nest(72, func(l *list) { e.thumbnail(l, p) })
	}
	if full && len(p.OrderOnline) > 0 {
		d.nest2(75, func(l *list) { e.orders(l, p) })
	}
	d.nest(76, func(l *list) {
		for _, id := range p.CategoryIDs {
			l.nest(l.next, func(l *list) { l.str(0, id) })
		}
	})
	d.str(78, p.PlaceID)
	if full && len(p.PopularTimes) > 0 && !sh.noTraffic {
		d.nest(84, func(l *list) { l.nest(0, func(l *list) { e.traffic(l, p) }) })
	}
	d.nest(88, func(l *list) { l.str(0, closedFlag(p)); l.raw(1, `"SearchResult.TYPE_LOCAL"`) })
	d.str(89, p.KnowledgeID)
	if full && len(p.AlsoSearched) > 0 {
		d.nest2(99, func(l *list) { e.alsoSearched(l, p) })
	}
	if len(p.About) > 0 && !sh.noAbout {
		d.nest(100, func(l *list) { l.nest(1, func(l *list) { e.about(l, p.About) }) })
	}
	if full && p.TimeSpent != "" {
		d.nest(117, func(l *list) { l.str(0, p.TimeSpent) })
	}
	if full && p.OwnerText != "" {
		d.nest2(154, func(l *list) { l.str(0, p.OwnerText) })
	}
	if full && len(p.Images) > 0 && !sh.noGallery {
		d.nest(171, func(l *list) { l.nest(0, func(l *list) { e.images(l, p) }) })
	}
	if full {
		d.nest(175, func(l *list) { e.opinions(l, p, sh) })
	}
	if p.Phone != "" {
		d.nest2(178, func(l *list) {
			l.str(0, p.Phone)
			l.nest(1, func(l *list) {
				l.nest(0, func(l *list) { l.str(0, p.Phone); l.int(1, 1) })
				l.nest(1, func(l *list) { l.str(0, p.PhoneInternational); l.int(1, 2) })
			})
			l.str(3, p.PhoneDigits)
		})
	}
	d.nest(183, func(l *list) { e.address(l, p, full) })
	if p.quirks.newerHours {
		d.nest(203, func(l *list) { e.newerHours(l, p, sh) })
	}
	d.str(243, p.AddressParts.CountryCode)
	d.close()
}

// closedFlag is what stands at 88,0: it also holds highlights.
func closedFlag(p *synthetic) string {
	switch {
	case p.Closed == gmaps.ClosedPermanently:
		return "CLOSED"
	case p.Closed == gmaps.ClosedTemporarily:
		return "TEMPORARILY_CLOSED"
	case p.ref.index%9 == 0:
		return "Brunch"
	default:
		return ""
	}
}

func (e *encoder) rating(l *list, p *synthetic, sh shape) {
	l.str(2, p.PriceRange)
	if p.ReviewCount > 0 {
		l.nest(3, func(l *list) { l.link(0, p.ReviewsLink); l.str(1, strconv.Itoa(p.ReviewCount)+" reviews") })
		l.float(7, p.Rating)
		if !sh.noCount && !sh.limited {
			l.int(8, p.ReviewCount)
		}
	}
	l.str(10, p.PriceText)
}

func (e *encoder) thumbnail(l *list, p *synthetic) {
	image := func(l *list) { l.nest(6, func(l *list) { l.link(0, p.Thumbnail) }) }
	l.nest(0, func(l *list) {
		if p.quirks.newThumb {
			l.nest(0, image)
			return
		}
		l.nest(1, image)
	})
}

func (e *encoder) orders(l *list, p *synthetic) {
	index := 1
	if p.quirks.firstOrders {
		index = 0
	}
	l.nest(index, func(l *list) {
		l.int(0, 4)
		l.nest(2, func(l *list) {
			for _, o := range p.OrderOnline {
				l.nest(l.next, func(l *list) {
					l.nest(0, func(l *list) { l.str(0, o.Source) })
					l.nest(1, func(l *list) { l.nest(2, func(l *list) { l.link(0, o.URL) }) })
				})
			}
		})
	})
}

func (e *encoder) traffic(l *list, p *synthetic) {
	days := p.PopularTimes
	if last := len(days) - 1; days[last].Weekday == 7 { // the payload begins with Sunday
		days = append([]gmaps.DayTraffic{days[last]}, days[:last]...)
	}
	for n, day := range days {
		if p.quirks.holes && n%3 == 1 {
			l.raw(l.next, "null") // a day without data
		}
		l.nest(l.next, func(l *list) {
			l.int(0, day.Weekday)
			l.nest(1, func(l *list) {
				for i, h := range day.Hours {
					if i > 0 && day.Hours[i-1].Hour != h.Hour-1 {
						l.raw(l.next, "null")
					}
					l.nest(l.next, func(l *list) {
						l.int(0, h.Hour)
						l.int(1, h.BusyPercent)
						l.raw(2, `"Usually a little busy",""`)
						l.next++
						l.str(4, clock(60*h.Hour))
					})
				}
			})
			l.int(2, 0)
		})
	}
}

func (e *encoder) alsoSearched(l *list, p *synthetic) {
	l.nest(0, func(l *list) {
		l.raw(0, `"People also search for"`)
		l.nest(1, func(l *list) {
			for i, title := range p.AlsoSearched {
				l.nest(l.next, func(l *list) {
					l.raw(0, `"0x0:0x`+strconv.FormatUint(mix(uint64(p.ref.index)+uint64(i)), 16)+`"`)
					l.nest(1, func(l *list) { l.str(11, title); l.strs(13, p.Categories) })
				})
			}
		})
	})
}

func (e *encoder) about(l *list, sections []gmaps.AboutSection) {
	for i := range sections {
		l.nest(l.next, func(l *list) {
			l.str(0, sections[i].ID)
			l.str(1, sections[i].Name)
			l.nest(2, func(l *list) {
				for j := range sections[i].Options {
					l.nest(l.next, func(l *list) { e.option(l, &sections[i].Options[j]) })
				}
			})
		})
	}
}

func (e *encoder) option(l *list, o *gmaps.AboutOption) {
	l.str(0, o.ID)
	l.str(1, o.Name)
	l.nest(2, func(l *list) {
		if o.Values != nil {
			l.int(0, 3)
			l.nest(4, func(l *list) {
				l.nest2(1, func(l *list) {
					l.nest(0, func(l *list) {
						for _, v := range o.Values {
							l.nest(l.next, func(l *list) { l.raw(0, `"/g/11g9h0tjcp"`); l.str(2, v); l.str(3, v) })
						}
					})
					l.raw(2, "[1]")
				})
			})
			return
		}
		on := 0
		if o.On {
			on = 1
		}
		l.int(0, 1)
		l.nest2(1, func(l *list) { l.int(0, on); l.str(1, o.Name) })
		l.nest(2, func(l *list) { l.int(0, on); l.str(1, o.Name); l.str(2, o.Name) })
	})
	l.raw(4, "[1],0")
	l.next++
}

func (e *encoder) images(l *list, p *synthetic) {
	for _, image := range p.Images {
		l.nest(l.next, func(l *list) {
			l.raw(0, `"CgIgAQ=="`)
			l.str(2, image.Title)
			l.nest2(3, func(l *list) {
				l.raw(0, `"AF1Qip"`)
				l.nest(6, func(l *list) { l.link(0, image.URL) })
			})
		})
	}
}

func (e *encoder) address(l *list, p *synthetic, full bool) {
	a := &p.AddressParts
	l.nest(1, func(l *list) {
		l.str(0, a.Borough)
		l.str(1, a.Street)
		l.str(2, a.Street)
		l.str(3, a.City)
		l.str(4, a.PostalCode)
		l.str(5, a.State)
		l.str(6, a.CountryCode)
	})
	if full && p.PlusCode != "" {
		l.nest(2, func(l *list) {
			l.nest(1, func(l *list) { l.str(0, p.GlobalPlusCode) })
			l.nest(2, func(l *list) { l.str(0, p.PlusCode) })
		})
	}
}
