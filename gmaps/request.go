package gmaps

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/url"
	"regexp"
	"strconv"
	"strings"
)

// PageSize is how many places one search request asks for.
const PageSize = 20

// ReviewPageSize is how many reviews one request should ask for: Google gives 60 at most, whatever is asked (measured by others, 2026).
const ReviewPageSize = 60

// earthDiameterMeters as a viewport stands for "anywhere": Google then takes the place from the query's words.
const earthDiameterMeters = 25_000_000

// The constant rest of each pb. A pb is Google's protobuf in a URL: !{field}{type}{value}, where type m opens a message of as many
// items as its value says, nested ones counted. Only leaves vary here, so the counts, which a test checks, stay right;
// a wrong one would give an empty answer, not an error. Both texts were in use by public scrapers in 2026.
const (
	searchPBView = "!2m3!1f0!2f0!3f0!3m2!1i1024!2i768!4f13.1!7i20!8i"
	searchPBRest = "!10b1!12m6!1m1!18b1!2m1!20e3!6m1!114b1!17m1!3e1!20m57!2m2!1i203!2i100!3m2!2i4!5b1!6m6!1m2!1i86!2i86!1m2!1i408!2i240" +
		"!7m33!1m3!1e1!2b0!3e3!1m3!1e2!2b1!3e2!1m3!1e2!2b0!3e3!1m3!1e8!2b0!3e3!1m3!1e10!2b0!3e3!1m3!1e10!2b1!3e2!1m3!1e10!2b0!3e4!1m3!1e9!2b1!3e2!2b1!9b0" +
		"!15m8!1m7!1m2!1m1!1e2!2m2!1i195!2i195!3i20"
	placePBView = "!3m8!1m3!1d5000!2d0!3d0!3m2!1i1024!2i768!4f13.1!4m2!3d0!4d0!12m4!2m3!1i360!2i120!4i8!13m57!2m2!1i203!2i100!3m2!2i4!5b1" +
		"!6m6!1m2!1i86!2i86!1m2!1i408!2i240!7m33!1m3!1e1!2b0!3e3!1m3!1e2!2b1!3e2!1m3!1e2!2b0!3e3!1m3!1e8!2b0!3e3!1m3!1e10!2b0!3e3" +
		"!1m3!1e10!2b1!3e2!1m3!1e10!2b0!3e4!1m3!1e9!2b1!3e2!2b1!9b0!15m8!1m7!1m2!1m1!1e2!2m2!1i195!2i195!3i20!14m3!1s"
	placePBRest = "!7e81!15i10112!15m108!1m26!13m9!2b1!3b1!4b1!6i1!8b1!9b1!14b1!20b1!25b1!18m15!3b1!4b1!5b1!6b1!13b1!14b1!17b1!21b1!22b1!30b1!32b1!33m1!1b1!34b1!36e2" +
		"!10m1!8e3!11m1!3e1!17b1!20m2!1e3!1e6!24b1!25b1!26b1!27b1!29b1!30m1!2b1!36b1!37b1!39m3!2m2!2i1!3i1!43b1!52b1!54m1!1b1!55b1!56m1!1b1!61m2!1m1!1e1" +
		"!65m5!3m4!1m3!1m2!1i224!2i298!72m22!1m8!2b1!5b1!7b1!12m4!1b1!2b1!4m1!1e1!4b1!8m10!1m6!4m1!1e1!4m1!1e3!4m1!1e4" +
		"!3sother_user_google_review_posts__and__hotel_and_vr_partner_review_posts!6m1!1e1!9b1!89b1!90m2!1m1!1e2!98m3!1b1!2b1!3b1!103b1!113b1!114m3!1b1!2m1!1b1" +
		"!117b1!122m1!1b1!126b1!127b1!128m1!1b0!21m0!22m1!1e81!30m8!3b1!6m2!1b1!2b1!7m2!1e3!2b1!9b1!34m5!7b1!10b1!14b1!15m1!1b0!37i785"
)

// SearchURL is the request for the PageSize places of q that follow the first offset ones.
// base is scheme and host, "https://www.google.com".
func SearchURL(base string, q Query, offset int) string {
	diameter, center := float64(earthDiameterMeters), Point{}
	if v := q.Viewport; v != nil {
		diameter, center = min(2*v.RadiusMeters, earthDiameterMeters), v.Center
	}
	b := make([]byte, 0, 1024)
	b = append(b, base...)
	b = append(b, "/search?tbm=map&authuser=0"...)
	b = appendLocale(b, q.Lang, q.Country)
	b = append(b, "&q="...)
	b = append(b, url.QueryEscape(q.Keyword)...)
	b = append(b, "&pb=!4m12!1m3!1d"...)
	b = strconv.AppendFloat(b, diameter, 'f', -1, 64)
	b = append(b, "!2d"...)
	b = strconv.AppendFloat(b, center.Lng, 'f', -1, 64)
	b = append(b, "!3d"...)
	b = strconv.AppendFloat(b, center.Lat, 'f', -1, 64)
	b = append(b, searchPBView...)
	b = strconv.AppendInt(b, int64(offset), 10)
	b = append(b, searchPBRest...)
	return string(b)
}

// PlaceURL is the request for the payload of the place dataID, which must be one that ValidDataID accepts.
func PlaceURL(base, dataID, lang, country string) string {
	b := make([]byte, 0, 2048)
	b = append(b, base...)
	b = append(b, "/maps/preview/place?authuser=0"...)
	b = appendLocale(b, lang, country)
	b = append(b, "&pb=!1m13!1s"...)
	b = append(b, dataID...)
	b = append(b, placePBView...)
	b = append(b, eventToken(dataID)...)
	b = append(b, placePBRest...)
	return string(b)
}

// ReviewsURL is the request for pageSize reviews of the place dataID in the given order. token is ReviewPage.Next of the page before, "" for the first.
func ReviewsURL(base, dataID, lang string, order ReviewOrder, pageSize int, token string) string {
	inner := make([]any, 12, 20)
	inner[1], inner[9], inner[11] = orderNumber(order), pageSize, []string{dataID}
	if token != "" {
		inner = inner[:20]
		inner[19] = token
	}
	outer := make([]any, 10)
	outer[9] = inner
	payload, _ := json.Marshal([]any{nil, outer}) // numbers, texts and nulls always encode

	b := make([]byte, 0, 512)
	b = append(b, base...)
	b = append(b, "/httpservice/web/PrivateLocalSearchUiDataService/GetLocalBoqProxy?msc=gwsrpc"...)
	b = appendLocale(b, lang, "")
	b = append(b, "&reqpld="...)
	b = append(b, url.QueryEscape(string(payload))...)
	return string(b)
}

// SessionURL is the page that sets Google's cookies.
func SessionURL(base, lang string) string {
	return string(appendLocale([]byte(base+"/maps?"), lang, ""))
}

func appendLocale(b []byte, lang, country string) []byte {
	if lang == "" {
		lang = "en"
	}
	if b[len(b)-1] != '?' {
		b = append(b, '&')
	}
	b = append(b, "hl="...)
	b = append(b, url.QueryEscape(lang)...)
	if country != "" {
		b = append(b, "&gl="...)
		b = append(b, url.QueryEscape(strings.ToLower(country))...)
	}
	return b
}

// eventToken is the 28 characters that the place request wants; any will do, but one for all would stand out.
func eventToken(dataID string) string {
	sum := sha256.Sum256([]byte(dataID))
	return base64.RawURLEncoding.EncodeToString(sum[:21])
}

func orderNumber(o ReviewOrder) int {
	switch o {
	case OrderNewest:
		return 2
	case OrderHighest:
		return 3
	case OrderLowest:
		return 4
	default:
		return 1
	}
}

var dataIDPattern = regexp.MustCompile(`^0x[0-9a-f]{1,16}:0x[0-9a-f]{1,16}$`)

// ValidDataID says whether s is a feature id, "0x14e7…:0xe541…", in lower case.
func ValidDataID(s string) bool { return dataIDPattern.MatchString(s) }

// ErrNoFeature says that a PlaceRef holds nothing from which a feature id can be had.
var ErrNoFeature = errors.New("no feature id")

// FeatureID is the data id by which Google is asked for r. A place id of a business holds its feature id; a CID is its second half, and
// Google accepts 0x0 for the first. It returns ErrNoFeature for a URL, which has to be resolved first, and for place ids of streets and addresses.
func (r PlaceRef) FeatureID() (string, error) {
	switch {
	case r.DataID != "":
		id := strings.ToLower(r.DataID)
		if !ValidDataID(id) {
			return "", fmt.Errorf("data id %q: %w", r.DataID, ErrNoFeature)
		}
		return id, nil
	case r.PlaceID != "":
		return featureOfPlaceID(r.PlaceID)
	case r.CID != "":
		n, err := strconv.ParseUint(r.CID, 10, 64)
		if err != nil {
			return "", fmt.Errorf("cid %q: %w", r.CID, ErrNoFeature)
		}
		return "0x0:0x" + strconv.FormatUint(n, 16), nil
	default:
		return "", ErrNoFeature
	}
}

// featureOfPlaceID undoes base64url(0a 12 09 first-half 11 second-half), the halves little-endian (5 of 5 payloads agree).
func featureOfPlaceID(id string) (string, error) {
	b, err := base64.RawURLEncoding.DecodeString(strings.TrimRight(id, "="))
	if err != nil || len(b) != 20 || b[0] != 0x0a || b[1] != 0x12 || b[2] != 0x09 || b[11] != 0x11 {
		return "", fmt.Errorf("place id %q: %w", id, ErrNoFeature)
	}
	return fmt.Sprintf("0x%x:0x%x", binary.LittleEndian.Uint64(b[3:]), binary.LittleEndian.Uint64(b[12:])), nil
}

// metersPerPixel is the width of a pixel of a Web Mercator map at the equator at zoom 0: the earth's circumference over 256 pixels.
const metersPerPixel = 156543.03392

// viewPixels is the shorter side of the window that our requests describe (1024 × 768).
const viewPixels = 768

// ZoomDiameter is the diameter in metres of what a map window shows at a latitude (degrees) and a zoom (0 the earth, 21 a house), by Web Mercator.
// It is at most the whole earth.
func ZoomDiameter(lat, zoom float64) float64 {
	d := metersPerPixel * math.Cos(lat*math.Pi/180) / math.Exp2(zoom) * viewPixels
	return min(d, earthDiameterMeters)
}

// DiameterZoom is the zoom at which a map window at a latitude (degrees) shows a diameter in metres; it undoes ZoomDiameter and is kept within 0 to 21.
func DiameterZoom(lat, diameterMeters float64) float64 {
	if diameterMeters <= 0 {
		return 21
	}
	return min(max(math.Log2(metersPerPixel*math.Cos(lat*math.Pi/180)*viewPixels/diameterMeters), 0), 21)
}
