package simulator

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"time"
)

// Fault is one way in which an answer goes wrong.
type Fault string

// The faults. Each counts in Stats under its name.
const (
	FaultNone      Fault = ""
	FaultError     Fault = "error"      // status 500
	FaultRate      Fault = "rate"       // status 429 with Retry-After: 1
	FaultCaptcha   Fault = "captcha"    // redirect to /sorry/, whose page answers 429
	FaultConsent   Fault = "consent"    // redirect to the consent page, whatever the cookies say
	FaultDegraded  Fault = "degraded"   // a search answers with places near the exit, not near its viewport
	FaultLimited   Fault = "limited"    // limited view: 20 results, the hours of one day, the review count elsewhere
	FaultTruncated Fault = "truncated"  // a whole HTTP answer whose JSON ends in the middle
	FaultCut       Fault = "cut"        // the connection is lost in the middle of the body
	FaultGarbage   Fault = "garbage"    // status 200 with bytes that are no JSON
	FaultHang      Fault = "hang"       // no answer until the client leaves, 10 minutes at most
	FaultNoSession Fault = "no-session" // the answer of a request without NID, whatever it sent
)

// A degraded answer's places lie around the exit. There are two, New York and Bangkok, and the farther one from the viewport is taken,
// thousands of kilometres away, so that such an answer can be told from a true one.
const (
	exitRadiusMeters = 100_000
	// degradableMeters is the largest viewport whose degraded answer can still be recognised.
	degradableMeters = 500_000
)

func exitFrom(a area) area {
	newYork := area{lat: 40.731, lng: -73.994, radiusMeters: exitRadiusMeters}
	bangkok := area{lat: 13.756, lng: 100.502, radiusMeters: exitRadiusMeters}
	from := sphere(a.lat, a.lng)
	if distance2(from, sphere(newYork.lat, newYork.lng)) > distance2(from, sphere(bangkok.lat, bangkok.lng)) {
		return newYork
	}
	return bangkok
}

// chooseFault asks the script, then the rates. Session and HTML pages fail by script only.
func (s *Simulator) chooseFault(r *http.Request, kind requestKind, chance *random) Fault {
	if s.config.Fault != nil {
		if f := s.config.Fault(r); f != FaultNone {
			return f
		}
	}
	if kind != kindSearch && kind != kindDetail && kind != kindReviews {
		return FaultNone
	}
	switch p := chance.float(); {
	case p < s.config.BlockRate:
		faults := [3]Fault{FaultRate, FaultCaptcha, FaultDegraded}
		f := faults[chance.below(3)]
		if f == FaultDegraded && (kind != kindSearch || !s.degradable(r)) {
			return FaultRate
		}
		return f
	case p < s.config.BlockRate+s.config.ErrorRate:
		return [3]Fault{FaultError, FaultTruncated, FaultCut}[chance.below(3)]
	default:
		return FaultNone
	}
}

// degradable says that a client can tell the degraded answer to r from the true one: there is a viewport to ignore,
// and the page is not empty, which would look like the end of the results.
func (s *Simulator) degradable(r *http.Request) bool {
	values := r.URL.Query()
	req, err := readSearch(values.Get("pb"))
	if err != nil || req.area.world() || req.area.radiusMeters > degradableMeters {
		return false
	}
	return len(s.degradedResults(values.Get("q"), req.area)) > req.offset
}

// degradedResults are places near the exit, of any category.
func (s *Simulator) degradedResults(keyword string, a area) []uint32 {
	q, _ := s.world.parse(keyword)
	return s.results(question{set: q.set, all: q.all, category: -1, city: -1}, exitFrom(a))
}

type faultKey struct{}

// faultOf is the fault that the endpoint itself has to act out.
func faultOf(r *http.Request) Fault {
	f, _ := r.Context().Value(faultKey{}).(Fault)
	return f
}

func (s *Simulator) serveFault(f Fault, w http.ResponseWriter, r *http.Request, next http.HandlerFunc) {
	switch f {
	case FaultNone:
		next(w, r)
	case FaultError:
		http.Error(w, "Internal Server Error", http.StatusInternalServerError)
	case FaultRate:
		w.Header().Set("Retry-After", "1")
		http.Error(w, "Too Many Requests", http.StatusTooManyRequests)
	case FaultCaptcha:
		http.Redirect(w, r, "/sorry/index?continue="+url.QueryEscape(r.URL.RequestURI()), http.StatusFound)
	case FaultConsent:
		http.Redirect(w, r, "/consent?continue="+url.QueryEscape(r.URL.RequestURI()), http.StatusFound)
	case FaultGarbage:
		s.send(w, r, "application/json; charset=UTF-8", []byte(")]}'\n[[\"\x00\xff\xfe{{{,,,"))
	case FaultTruncated, FaultCut:
		s.serveHalf(f, w, r, next)
	case FaultHang:
		ctx, cancel := context.WithTimeout(r.Context(), 10*time.Minute)
		defer cancel()
		<-ctx.Done()
	default: // the endpoint itself answers otherwise
		next(w, r.WithContext(context.WithValue(r.Context(), faultKey{}, f)))
	}
}

// serveHalf sends the first half of the true answer: as if it were all of it, or announcing the whole and breaking off.
func (s *Simulator) serveHalf(f Fault, w http.ResponseWriter, r *http.Request, next http.HandlerFunc) {
	plain := r.Clone(r.Context())
	plain.Header.Del("Accept-Encoding")
	rec := recorder{header: http.Header{}}
	next(&rec, plain)
	body := rec.body.Bytes()
	if f == FaultCut {
		w.Header().Set("Content-Type", rec.header.Get("Content-Type"))
		w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	}
	half := body[:len(body)/2]
	if f == FaultTruncated {
		s.send(w, r, rec.header.Get("Content-Type"), half)
		return
	}
	_, _ = w.Write(half)
	_ = http.NewResponseController(w).Flush()
	panic(http.ErrAbortHandler)
}

// recorder keeps an answer instead of sending it.
type recorder struct {
	header http.Header
	body   bytes.Buffer
}

func (r *recorder) Header() http.Header         { return r.header }
func (r *recorder) WriteHeader(int)             {}
func (r *recorder) Write(p []byte) (int, error) { return r.body.Write(p) }

func (s *Simulator) serveSorry(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/html; charset=UTF-8")
	w.WriteHeader(http.StatusTooManyRequests)
	fmt.Fprint(w, `<!doctype html><title>Sorry...</title><body><form id="captcha-form" action="/sorry/index" method="post">
<p>Our systems have detected unusual traffic from your computer network.</p><div id="recaptcha" class="g-recaptcha"></div></form></body>`)
}
