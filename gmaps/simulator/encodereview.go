package simulator

import (
	"html"
	"strconv"
	"strings"
	"time"

	"gmaps-scraper/gmaps"
)

// opinions writes what stands at 175 of a place.
func (e *encoder) opinions(l *list, p *synthetic, sh shape) {
	if p.Histogram != nil && !sh.noHistogram {
		l.nest(3, func(l *list) {
			for i, n := range p.Histogram {
				l.int(i, n)
			}
		})
	}
	if len(p.Reviews) > 0 {
		l.nest2(9, func(l *list) {
			l.nest(0, func(l *list) {
				for i := range p.Reviews {
					l.nest(l.next, func(l *list) { l.nest(0, func(l *list) { e.review(l, &p.Reviews[i]) }) })
				}
			})
			l.str(6, p.ReviewsToken)
		})
	}
	if p.ReviewSummary != "" {
		l.nest(14, func(l *list) { l.str(0, p.ReviewSummary) })
	}
}

// review writes R, a review inside a place.
func (e *encoder) review(l *list, v *gmaps.Review) {
	l.str(0, v.ID)
	l.nest(1, func(l *list) {
		l.raw(0, `"0x0:0x1"`)
		e.micros(l, 2, v.PostedAt)
		e.micros(l, 3, v.EditedAt)
		l.nest(4, func(l *list) { e.author(l, &v.Author) })
		l.str(6, v.When)
		if e.quirks.oldReviews {
			l.str(10, v.Author.ID)
		}
		l.nest(13, func(l *list) { l.str(0, v.Source); l.int(4, v.RatingMax) })
	})
	l.nest(2, func(l *list) {
		if v.RatingMax == 5 {
			l.nest(0, func(l *list) { l.int(0, int(v.Rating)) })
		}
		if len(v.Photos) > 0 {
			l.nest(2, func(l *list) {
				for _, photo := range v.Photos {
					l.nest(l.next, func(l *list) {
						l.raw(0, `"AF1Qip"`)
						l.nest(1, func(l *list) { l.nest(6, func(l *list) { l.link(0, photo) }) })
					})
				}
			})
		}
		if v.RatingMax != 5 {
			l.nest(8, func(l *list) { l.float(1, v.Rating) })
		}
		e.text(l, 14, v.Text, v.Language, v.Translated)
	})
	if r := v.OwnersReply; r != nil {
		l.nest(3, func(l *list) {
			e.micros(l, 1, r.PostedAt)
			e.micros(l, 2, r.EditedAt)
			e.text(l, 13, r.Text, r.Language, r.Translated)
		})
	}
}

// text writes the languages at index and the text with its translation after it.
func (e *encoder) text(l *list, index int, text, language, translated string) {
	if text == "" {
		return
	}
	l.nest(index, func(l *list) {
		l.str(0, language)
		if translated != "" {
			l.raw(1, `"en"`)
		}
	})
	l.nest(index+1, func(l *list) {
		l.nest(0, func(l *list) { l.str(0, text) })
		if translated != "" {
			l.nest(1, func(l *list) { l.str(0, translated) })
		}
	})
}

func (e *encoder) micros(l *list, index int, t time.Time) {
	l.at(index)
	e.b = strconv.AppendInt(e.b, t.UnixMicro(), 10)
}

// author writes today's layout, or that of 2023 where name and picture stand in the first element.
func (e *encoder) author(l *list, a *gmaps.Author) {
	if e.quirks.oldReviews {
		l.nest(0, func(l *list) {
			l.raw(0, "[3,null,0]")
			l.int(1, a.ReviewCount)
			l.link(3, a.Picture)
			l.str(4, a.Name)
			l.link(5, a.Link)
			l.str(13, a.ID)
		})
		l.nest(1, func(l *list) { l.link(0, a.Link); l.str(1, a.Name); l.link(2, a.Picture) })
		l.nest(2, func(l *list) { l.link(0, a.Link); l.str(1, a.Name); l.link(2, a.Picture) })
		return
	}
	l.nest(2, func(l *list) { l.link(0, a.Link) })
	l.nest(5, func(l *list) {
		l.str(0, a.Name)
		l.link(1, a.Picture)
		l.nest(2, func(l *list) { l.link(0, a.Link) })
		l.str(3, a.ID)
		l.int(5, a.ReviewCount)
	})
}

// boqReview writes B, a review as GetLocalBoqProxy gives it. Translations were seen at 37; where photos (somewhere after 6)
// and replies stand is not known, so the places here are guesses that a client has to find by looking.
func (e *encoder) boqReview(l *list, v *gmaps.Review) {
	l.int(1, int(v.Rating))
	l.nest(2, func(l *list) { l.str(0, v.When); l.str(2, strconv.FormatInt(v.PostedAt.UnixMilli(), 10)) })
	l.nest(3, func(l *list) {
		l.str(0, v.Author.Name)
		l.link(1, v.Author.Picture)
		l.link(2, v.Author.Link)
		l.int(3, v.Author.ReviewCount)
		l.int(4, v.Author.PhotoCount)
	})
	l.str(5, v.ID)
	if len(v.Photos) > 0 {
		l.nest(14, func(l *list) {
			for _, photo := range v.Photos {
				l.nest(l.next, func(l *list) { l.raw(0, `"AF1Qip"`); l.nest(1, func(l *list) { l.link(0, photo) }) })
			}
		})
	}
	if v.Text != "" {
		l.str(26, v.Language)
		l.str(27, markup(v.Text))
	}
	if r := v.OwnersReply; r != nil {
		l.nest(29, func(l *list) {
			l.str(0, markup(r.Text))
			l.nest(1, func(l *list) { l.str(0, v.When); l.str(2, strconv.FormatInt(r.PostedAt.UnixMilli(), 10)) })
		})
	}
	if v.Translated != "" {
		l.str(37, markup(v.Translated))
	}
}

// markup is the little HTML in which the endpoint sends texts.
func markup(s string) string { return strings.ReplaceAll(html.EscapeString(s), "\n", "<br>") }
