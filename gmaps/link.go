package gmaps

import (
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"strconv"
	"strings"
)

// ErrNotLink says that a text is no URL at all: it is a keyword.
var ErrNotLink = errors.New("not a link")

// ParseLink reads a Google Maps URL as a query: a search page, a place page, a CID or place id link, or a short link, whose target
// only Google knows (Query.Place.URL; an Engine resolves it). Language and country are taken from hl and gl.
// It returns ErrNotLink for a text that is no URL, and another error for a URL that is not Google Maps' or names neither place nor search.
func ParseLink(s string) (Query, error) {
	s = strings.TrimSpace(s)
	if !strings.Contains(s, "://") {
		if !bareLink.MatchString(s) {
			return Query{}, ErrNotLink
		}
		s = "https://" + s
	}
	u, err := url.Parse(s)
	if err != nil || strings.ContainsAny(s, " \t\r\n") {
		if !strings.HasPrefix(s, "http://") && !strings.HasPrefix(s, "https://") {
			return Query{}, ErrNotLink
		}
		return Query{}, fmt.Errorf("link %q is not a URL", s)
	}
	switch {
	case u.Scheme != "http" && u.Scheme != "https":
		return Query{}, fmt.Errorf("link %q: scheme %q is not http or https", s, u.Scheme)
	case u.User != nil || (u.Port() != "" && u.Port() != "80" && u.Port() != "443"):
		return Query{}, fmt.Errorf("link %q: a Google Maps link has no user and no port", u.Redacted())
	case IsShortLink(u):
		return Query{Place: &PlaceRef{URL: u.String()}}, nil
	case !IsGoogleHost(u.Hostname()):
		return Query{}, fmt.Errorf("link %q: %s is not Google Maps", s, u.Hostname())
	}
	q := parseGoogle(u)
	if q.Keyword == "" && q.Place == nil {
		return Query{}, fmt.Errorf("link %q names neither a place nor a search", s)
	}
	q.Lang, q.Country = u.Query().Get("hl"), strings.ToUpper(u.Query().Get("gl"))
	return q, nil
}

// bareLink is a link typed without its scheme.
var bareLink = regexp.MustCompile(`^(?i:(?:(?:www|maps)\.)?google\.[a-z]{2,3}(?:\.[a-z]{2})?/|maps\.app\.goo\.gl/|goo\.gl/maps/)`)

// googleHost is Google's own name under com, cat, a country, or a country's com or co. Anything before "google." but www and maps,
// and anything after the suffix, makes it a lookalike.
var googleHost = regexp.MustCompile(`^(?i:(?:(?:www|maps)\.)?google\.(?:com|cat|[a-z]{2}|com\.[a-z]{2}|co\.[a-z]{2}))$`)

// IsGoogleHost says whether host (no port) is where Google serves Maps, under any country's domain.
func IsGoogleHost(host string) bool { return googleHost.MatchString(host) }

// IsShortLink says whether u is a link that leads to a Maps URL by redirects.
func IsShortLink(u *url.URL) bool {
	switch strings.ToLower(u.Hostname()) {
	case "maps.app.goo.gl":
		return len(u.Path) > 1
	case "goo.gl":
		return strings.HasPrefix(u.Path, "/maps/")
	default:
		return false
	}
}

var (
	// The data= part of a link is a pb; its 1s is a feature id.
	linkFeature = regexp.MustCompile(`!1s(0x[0-9a-fA-F]{1,16}:0x[0-9a-fA-F]{1,16})`)
	linkPlaceID = regexp.MustCompile(`!19s([\w-]{20,})`)
	// @lat,lng and a zoom (13z) or, on satellite images, a height (900m).
	linkView = regexp.MustCompile(`^@(-?\d+(?:\.\d+)?),(-?\d+(?:\.\d+)?)(?:,(\d+(?:\.\d+)?)([zm]))?`)
)

func parseGoogle(u *url.URL) Query {
	values := u.Query()
	if ref := refOfValues(values); ref != nil {
		return Query{Place: ref}
	}
	// The last feature is the place; an earlier one is what the user came from.
	if m := linkFeature.FindAllStringSubmatch(unescaped(u.EscapedPath())+"!"+values.Get("data"), -1); m != nil {
		return Query{Place: &PlaceRef{DataID: strings.ToLower(m[len(m)-1][1])}}
	}
	if m := linkPlaceID.FindStringSubmatch(unescaped(u.EscapedPath())); m != nil {
		return Query{Place: &PlaceRef{PlaceID: m[1]}}
	}

	q := Query{Keyword: firstOf(values.Get("query"), values.Get("q"))}
	segments := strings.Split(u.EscapedPath(), "/")
	for i, segment := range segments {
		switch {
		case (segment == "search" || segment == "place") && i+1 < len(segments) && q.Keyword == "":
			// A plus is a space in these paths.
			if next := segments[i+1]; !strings.HasPrefix(next, "@") && !strings.HasPrefix(next, "data=") {
				q.Keyword = strings.TrimSpace(unescaped(strings.ReplaceAll(next, "+", "%20")))
			}
		case strings.HasPrefix(segment, "@"):
			q.Viewport = parseView(segment)
		}
	}
	return q
}

func refOfValues(values url.Values) *PlaceRef {
	if id := values.Get("query_place_id"); id != "" {
		return &PlaceRef{PlaceID: id}
	}
	for _, name := range []string{"q", "query"} {
		if id, ok := strings.CutPrefix(values.Get(name), "place_id:"); ok && id != "" {
			return &PlaceRef{PlaceID: id}
		}
	}
	if id := strings.ToLower(values.Get("ftid")); ValidDataID(id) {
		return &PlaceRef{DataID: id}
	}
	if cid := values.Get("cid"); cid != "" {
		if _, err := strconv.ParseUint(cid, 10, 64); err == nil {
			return &PlaceRef{CID: cid}
		}
	}
	return nil
}

func parseView(segment string) *Viewport {
	m := linkView.FindStringSubmatch(segment)
	if m == nil {
		return nil
	}
	lat, latErr := strconv.ParseFloat(m[1], 64)
	lng, lngErr := strconv.ParseFloat(m[2], 64)
	if latErr != nil || lngErr != nil || lat < -90 || lat > 90 || lng < -180 || lng > 180 {
		return nil
	}
	diameter := ZoomDiameter(lat, 15) // no zoom named: a neighbourhood
	if size, err := strconv.ParseFloat(m[3], 64); err == nil {
		diameter = min(size, earthDiameterMeters)
		if m[4] == "z" {
			diameter = ZoomDiameter(lat, min(size, 21))
		}
	}
	return &Viewport{Center: Point{Lat: lat, Lng: lng}, RadiusMeters: diameter / 2}
}

func unescaped(s string) string {
	if t, err := url.PathUnescape(s); err == nil {
		return t
	}
	return s
}

func firstOf(a, b string) string {
	if a != "" {
		return a
	}
	return b
}
