package web

import (
	"math"
	"strings"

	"gmaps-scraper/gmaps"
)

// An answer is degraded when Google ignored the viewport and sent what lies near the exit. Searches do reach beyond a viewport, farther
// where places are rare and with each page, so only what lies beyond slackRadii radii + slackMeters + slackPerPage a page counts as far.
const (
	slackRadii   = 3
	slackMeters  = 50_000
	slackPerPage = 5_000
)

// degraded says that most located places of a page are far from the viewport, and not because the keyword names where they are
// ("coffee in Berlin", asked over Athens, is answered with Berlin). A search of the whole earth has no viewport to ignore.
func degraded(q gmaps.Query, offset int, places []gmaps.Place) bool {
	if q.Viewport == nil {
		return false
	}
	limit := slackRadii*q.Viewport.RadiusMeters + slackMeters + slackPerPage*float64(offset/gmaps.PageSize)
	keyword := strings.ToLower(q.Keyword)
	located, far := 0, 0
	for i := range places {
		p := &places[i]
		if p.Location == nil {
			continue
		}
		located++
		if distanceMeters(q.Viewport.Center, *p.Location) > limit && !namedBy(keyword, p) {
			far++
		}
	}
	return far*2 > located
}

// namedBy says that the keyword (lower case) names the place or the town it is in.
func namedBy(keyword string, p *gmaps.Place) bool {
	a := p.AddressParts
	country := p.Address[strings.LastIndex(p.Address, ",")+1:]
	for _, name := range []string{p.Title, a.City, a.Borough, a.State, country} {
		if name = strings.ToLower(strings.TrimSpace(name)); len(name) > 2 && strings.Contains(keyword, name) {
			return true
		}
	}
	return false
}

const earthRadiusMeters = 6_371_000

// distanceMeters is the great-circle distance (haversine).
func distanceMeters(a, b gmaps.Point) float64 {
	rad := math.Pi / 180
	lat, lng := math.Sin((b.Lat-a.Lat)*rad/2), math.Sin((b.Lng-a.Lng)*rad/2)
	h := lat*lat + math.Cos(a.Lat*rad)*math.Cos(b.Lat*rad)*lng*lng
	return 2 * earthRadiusMeters * math.Asin(min(1, math.Sqrt(h)))
}
