package simulator

import (
	"strconv"

	"gmaps-scraper/gmaps"
)

// firstDay is the day of January 2026 that is the Monday of the dates beside the hours.
const firstDay = 5

// days are the opening hours that sh shows.
func (sh shape) days(p *synthetic) []gmaps.DayHours {
	if len(p.Hours) == 0 {
		return nil
	}
	today := int(p.ref.index % 7) // the payload begins with today, which the fixed seed needs fixed too
	if sh.limited {
		return p.Hours[today : today+1]
	}
	return append(p.Hours[today:len(p.Hours):len(p.Hours)], p.Hours[:today]...)
}

func (e *encoder) newerHours(l *list, p *synthetic, sh shape) {
	if days := sh.days(p); len(days) > 0 {
		l.nest(0, func(l *list) {
			for i := range days {
				l.nest(l.next, func(l *list) { e.newerDay(l, &days[i]) })
			}
		})
	}
	if p.Status != "" {
		l.nest(1, func(l *list) { l.nest(4, func(l *list) { l.str(0, p.Status) }) })
	}
}

func (e *encoder) newerDay(l *list, day *gmaps.DayHours) {
	l.str(0, day.Name)
	l.int(1, day.Weekday)
	l.nest(2, func(l *list) { l.int(0, 2026); l.int(1, 1); l.int(2, firstDay-1+day.Weekday) })
	l.nest(3, func(l *list) {
		if len(day.Open) == 0 {
			l.strs(0, day.Text)
			return
		}
		for i, span := range day.Open {
			l.nest(l.next, func(l *list) {
				l.str(0, day.Text[i])
				l.nest(1, func(l *list) { e.time(l, span.OpenMinute); e.time(l, span.CloseMinute) })
			})
		}
	})
	l.int(4, 0)
	l.int(5, dayState(day))
}

// dayState is 1 for a day on which the place opens, else 2.
func dayState(day *gmaps.DayHours) int {
	if len(day.Open) == 0 {
		return 2
	}
	return 1
}

// time writes [hour, minute], where zeros are left out as far as the places of the others allow.
func (e *encoder) time(l *list, minute int) {
	hour, minute := minute/60, minute%60
	if hour > 24 || hour == 24 && minute > 0 {
		hour -= 24
	}
	l.nest(l.next, func(l *list) {
		if hour > 0 {
			l.int(0, hour)
		}
		if minute > 0 {
			l.int(1, minute)
		}
	})
}

func (e *encoder) olderHours(l *list, p *synthetic, sh shape) {
	if days := sh.days(p); len(days) > 0 && p.quirks.olderHours {
		l.nest(1, func(l *list) {
			for i := range days {
				l.nest(l.next, func(l *list) { e.olderDay(l, &days[i]) })
			}
		})
	}
	if p.Status != "" {
		l.nest(4, func(l *list) { l.str(4, p.Status) })
	}
}

func (e *encoder) olderDay(l *list, day *gmaps.DayHours) {
	l.str(0, day.Name)
	l.strs(1, day.Text)
	l.str(4, "2026-01-"+strconv.Itoa(100 + firstDay - 1 + day.Weekday)[1:])
	l.int(5, dayState(day))
	if len(day.Open) == 0 {
		return
	}
	l.nest(6, func(l *list) {
		for _, span := range day.Open {
			l.nest(l.next, func(l *list) {
				l.int(0, span.OpenMinute/60)
				l.int(1, span.OpenMinute%60)
				hour, minute := span.CloseMinute/60, span.CloseMinute%60
				if hour > 24 || hour == 24 && minute > 0 {
					hour -= 24
				}
				l.int(2, hour)
				l.int(3, minute)
			})
		}
	})
}
