package gmaps

import (
	"cmp"
	"slices"
	"time"
)

const minutesPerDay = 24 * 60

// openThatDay stands at a day's [5] in both layouts, 2 on a closed day (all 266 days of a captured search, 2024).
const openThatDay = 1

// decodeHours reads the opening hours, Monday first: Google begins with today, so that equal hours would differ from day to day.
// The newer list sometimes holds today alone while the older one still has the week.
func (p *Place) decodeHours(f fields) {
	p.Hours = decodeDays(f, newDays, 203, 0)
	if len(p.Hours) < 7 {
		if days := decodeDays(f, oldDays, 34, 1); len(days) > len(p.Hours) {
			p.Hours = days
		}
	}
	slices.SortStableFunc(p.Hours, func(a, b DayHours) int { return cmp.Compare(a.Weekday, b.Weekday) })
}

// dayLayout is a constant and no function value, because what an unknown function is called with escapes to the heap.
type dayLayout int

const (
	newDays dayLayout = iota
	oldDays
)

func (l dayLayout) decode(f fields) (DayHours, bool) {
	if l == oldDays {
		return decodeOldDay(f)
	}
	return decodeDay(f)
}

func decodeDays(f fields, layout dayLayout, path ...int) []DayHours {
	list := f.list("hours", path...)
	if list == nil {
		return nil
	}
	array := f.array + ".hours"
	days := make([]DayHours, 0, 7)
	for _, v := range list.all() {
		if v == nil {
			continue
		}
		var elements [7]value
		v.split(elements[:])
		day, ok := layout.decode(fields{array, elements[:], f.reading})
		if !ok {
			f.drift.count(f.array, "hours", path...)
			continue
		}
		days = append(days, day)
	}
	if len(days) == 0 {
		return nil
	}
	return days
}

// decodeDay reads [name, weekday, [y,m,d], [[text, [[h,m],[h,m]]]…]].
func decodeDay(f fields) (DayHours, bool) {
	day := DayHours{Name: f.text("name", 0), Weekday: f.count("weekday", 1)}
	if day.Weekday < 1 || day.Weekday > 7 {
		date := time.Date(f.count("date", 2, 0), time.Month(f.count("date", 2, 1)), f.count("date", 2, 2), 0, 0, 0, 0, time.UTC)
		if f.get("date", 2) == nil {
			return day, false
		}
		day.Weekday = weekdayOf(date)
	}
	clocked := false
	for _, span := range f.list("spans", 3).all() {
		var elements [2]value
		span.split(elements[:])
		s := fields{f.array, elements[:], f.reading}
		if text := s.text("text", 0); text != "" {
			day.Text = append(day.Text, text)
		}
		var ends [2]value
		if clock := s.list("clock", 1); clock != nil {
			clocked = true
			clock.split(ends[:])
			day.add(f, clockMinutes(ends[0], 0), clockMinutes(ends[1], 0))
		}
	}
	day.openAllDay(f, clocked)
	return day, true
}

// decodeOldDay reads [name, [text…], …, "y-m-d", …, [[h,m,h,m]…]], the layout of older places.
func decodeOldDay(f fields) (DayHours, bool) {
	day := DayHours{Name: f.text("name", 0)}
	date, err := time.Parse("2006-1-2", f.text("date", 4))
	if err != nil {
		return day, false
	}
	day.Weekday = weekdayOf(date)
	day.Text = f.column("text", f.list("text", 1))
	clocked := false
	for _, clock := range f.list("clock", 6).all() {
		if clock != nil {
			clocked = true
			day.add(f, clockMinutes(clock, 0), clockMinutes(clock, 2))
		}
	}
	day.openAllDay(f, clocked)
	return day, true
}

// openAllDay gives a day that is open, but has no clock, all its hours.
func (d *DayHours) openAllDay(f fields, clocked bool) {
	if !clocked && f.count("state", 5) == openThatDay {
		d.Open = []Interval{{OpenMinute: 0, CloseMinute: minutesPerDay}}
	}
}

// add appends an interval. One that does not end after it begins ends on the next day: noon to 2 am, midnight to midnight.
func (d *DayHours) add(f fields, opens, closes int) {
	if opens < 0 || opens >= minutesPerDay || closes < 0 || closes > 2*minutesPerDay {
		f.drift.count(f.array, "interval")
		return
	}
	if closes <= opens {
		closes += minutesPerDay
	}
	d.Open = append(d.Open, Interval{OpenMinute: opens, CloseMinute: closes})
}

// clockMinutes reads hour and minute at i and i+1 of v; either may be omitted and is 0 then. It returns -1 for what is no time.
func clockMinutes(v value, i int) int {
	if v != nil && v.kind() != kindArray {
		return -1
	}
	var elements [4]value
	v.split(elements[:])
	hour, ok1 := smallIntOr0(elements[i])
	minute, ok2 := smallIntOr0(elements[i+1])
	if !ok1 || !ok2 || hour < 0 || hour > 48 || minute < 0 || minute > 59 {
		return -1
	}
	return hour*60 + minute
}

func smallIntOr0(v value) (_ int, ok bool) {
	if v == nil {
		return 0, true
	}
	return v.smallInt()
}

// weekdayOf returns 1 for Monday to 7 for Sunday.
func weekdayOf(t time.Time) int { return (int(t.Weekday())+6)%7 + 1 }

// decodePopularTimes reads [[weekday, [[hour, busy %, …]…]]…], Monday first. Days and hours may be null.
func decodePopularTimes(f fields) []DayTraffic {
	list := f.list("popular_times", 84, 0)
	if list == nil {
		return nil
	}
	week := make([]DayTraffic, 0, 7)
	for _, v := range list.all() {
		if v == nil {
			continue
		}
		var elements [2]value
		v.split(elements[:])
		weekday, ok := elements[0].smallInt()
		if !ok || weekday < 1 || weekday > 7 {
			f.drift.count(f.array, "popular_times", 84, 0)
			continue
		}
		if hours := decodeTraffic(f, elements[1]); hours != nil {
			week = append(week, DayTraffic{Weekday: weekday, Hours: hours})
		}
	}
	if len(week) == 0 {
		return nil
	}
	slices.SortStableFunc(week, func(a, b DayTraffic) int { return cmp.Compare(a.Weekday, b.Weekday) })
	return week
}

func decodeTraffic(f fields, v value) []HourTraffic {
	if v == nil {
		return nil
	}
	hours := make([]HourTraffic, 0, 24)
	for _, slot := range v.all() {
		if slot == nil {
			continue
		}
		h, _ := slot.at(0)
		b, _ := slot.at(1)
		hour, ok1 := smallIntOr0(h)
		busy, ok2 := smallIntOr0(b)
		if slot.kind() != kindArray || !ok1 || !ok2 || hour < 0 || hour > 23 || busy < 0 || busy > 100 {
			f.drift.count(f.array, "popular_times.hour", 84, 0)
			continue
		}
		hours = append(hours, HourTraffic{Hour: hour, BusyPercent: busy})
	}
	if len(hours) == 0 {
		return nil
	}
	return hours
}
