package simulator

import (
	"compress/gzip"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Config is what a Simulator serves and how badly. The zero value serves 10,000 synthetic places without faults.
type Config struct {
	// CapturesDir holds search-*.json and place-*.json, payloads whose )]}' prefix is cut. Empty: no captures.
	CapturesDir string
	// Synthetic is how many places each synthetic set has, 1 to 2,000,000,000. 0: 10,000.
	Synthetic int
	// Seed makes the places and the faults. Equal seeds give equal places.
	Seed uint64
	// MaxPerQuery bounds the places of one search, as Google does. 0: 200. Unbounded (-1): none.
	// The keyword `syntheticall` and shards have no bound in any case.
	MaxPerQuery int
	// Latency is the mean time before an answer to a Google endpoint; each differs by up to a fifth. Default 0.
	Latency time.Duration
	// ErrorRate is the share, 0 to 1, of searches, details and reviews that fail: status 500, an answer cut in the middle, a lost connection.
	ErrorRate float64
	// BlockRate is the share, 0 to 1, of searches, details and reviews that are refused: status 429, the captcha page,
	// or, for a search with a viewport, a degraded answer.
	BlockRate float64
	// Consent redirects requests without a SOCS or CONSENT cookie to the consent page, as in Europe.
	Consent bool
	// Fault, if set, decides for every request to a Google endpoint, before the rates do. It is called concurrently.
	Fault func(*http.Request) Fault
	// Logger receives one Debug line a request. Nil: none.
	Logger *slog.Logger
}

// Unbounded as Config.MaxPerQuery lets a search page through all that its viewport holds.
const Unbounded = -1

const (
	defaultSynthetic   = 10_000
	defaultMaxPerQuery = 200
	maxSynthetic       = 2_000_000_000
	pageSize           = 20
)

func (c *Config) validate() error {
	rate := func(name string, v float64) error {
		if v >= 0 && v <= 1 {
			return nil
		}
		return fmt.Errorf("simulator: %s: %v is not within 0 and 1", name, v)
	}
	var errs []error
	if c.Synthetic < 0 || c.Synthetic > maxSynthetic {
		errs = append(errs, fmt.Errorf("simulator: Synthetic: %d is not within 0 and %d", c.Synthetic, maxSynthetic))
	}
	if c.MaxPerQuery < Unbounded {
		errs = append(errs, fmt.Errorf("simulator: MaxPerQuery: %d is below %d", c.MaxPerQuery, Unbounded))
	}
	if c.Latency < 0 || c.Latency > time.Minute {
		errs = append(errs, fmt.Errorf("simulator: Latency: %v is not within 0s and 1m", c.Latency))
	}
	return errors.Join(append(errs, rate("ErrorRate", c.ErrorRate), rate("BlockRate", c.BlockRate))...)
}

// Simulator is an http.Handler that answers as Google Maps does. It is safe for concurrent use and starts no goroutine.
type Simulator struct {
	config   Config
	world    *world
	captures *captures
	log      *slog.Logger
	mux      *http.ServeMux
	lists    resultCache
	ordinal  atomic.Uint64 // of requests to Google endpoints: the rates' faults depend on it
	counters counters
	buffers  sync.Pool // *encoder
	gzips    sync.Pool // *gzip.Writer
}

// New reads the captures and returns a Simulator. It fails if a field of c is out of its bounds or CapturesDir cannot be read.
// A captures file that is not a payload is an error too: it names the file.
func New(c Config) (*Simulator, error) {
	if err := c.validate(); err != nil {
		return nil, err
	}
	if c.Synthetic == 0 {
		c.Synthetic = defaultSynthetic
	}
	if c.MaxPerQuery == 0 {
		c.MaxPerQuery = defaultMaxPerQuery
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	found, err := readCaptures(c.CapturesDir)
	if err != nil {
		return nil, err
	}
	s := &Simulator{config: c, world: newWorld(c.Seed, c.Synthetic), captures: found, log: c.Logger, mux: http.NewServeMux()}
	s.buffers.New = func() any { return &encoder{b: make([]byte, 0, 128<<10)} }
	s.gzips.New = func() any {
		w, err := gzip.NewWriterLevel(nil, gzip.BestSpeed)
		if err != nil {
			panic(err) // the level is a constant of the package
		}
		return w
	}
	s.routes()
	return s, nil
}

func (s *Simulator) routes() {
	google := func(pattern string, kind requestKind, h http.HandlerFunc) {
		s.mux.Handle(pattern, s.guard(kind, h))
	}
	google("GET /maps", kindSession, s.serveSession)
	google("GET /search", kindSearch, s.serveSearch)
	google("GET /maps/preview/place", kindDetail, s.serveDetail)
	google("GET /httpservice/web/PrivateLocalSearchUiDataService/GetLocalBoqProxy", kindReviews, s.serveReviews)
	google("GET /maps/rpc/listugcposts", kindReviews, s.serveNoReviews)
	google("GET /maps/place/", kindPage, s.servePage)
	google("GET /maps/search/", kindPage, s.servePage)
	google("GET /s/{code}", kindShortLink, s.serveShortLink)

	s.mux.HandleFunc("GET /consent", s.serveConsent)
	s.mux.HandleFunc("POST "+consentAction, s.acceptConsent)
	s.mux.HandleFunc("GET /sorry/", s.serveSorry)
	s.mux.HandleFunc("GET /{$}", s.serveIndex)
	s.mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	s.mux.HandleFunc("GET /simulator/stats", s.serveStats)
	s.mux.HandleFunc("GET /simulator/places", s.serveLedger)
}

// ServeHTTP answers as Google Maps does. For a fault that cuts the connection it panics with http.ErrAbortHandler, as net/http prescribes.
func (s *Simulator) ServeHTTP(w http.ResponseWriter, r *http.Request) { s.mux.ServeHTTP(w, r) }

// guard counts a request to a Google endpoint, delays it, asks for consent and lets the faults have their way.
func (s *Simulator) guard(kind requestKind, next http.HandlerFunc) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.counters.requests[kind].Add(1)
		chance := newRandom(s.config.Seed, s.ordinal.Add(1))
		if !s.delay(r, &chance) {
			return
		}
		fault := s.chooseFault(r, kind, &chance)
		if fault == FaultNone && s.config.Consent && !hasConsent(r) {
			fault = FaultConsent
		}
		s.log.Debug("request answered", "kind", kind.String(), "fault", string(fault), "path", r.URL.Path)
		if fault != FaultNone {
			s.counters.fault(fault)
		}
		s.serveFault(fault, w, r, next)
	})
}

// delay waits out the latency; it is false if the client left meanwhile.
func (s *Simulator) delay(r *http.Request, chance *random) bool {
	if s.config.Latency == 0 {
		return true
	}
	timer := time.NewTimer(time.Duration(float64(s.config.Latency) * (0.8 + 0.4*chance.float())))
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-r.Context().Done():
		return false
	}
}

const jsonPrefix = ")]}'\n"

// answer sends what build appends after Google's prefix, with gzip if the client takes it.
func (s *Simulator) answer(w http.ResponseWriter, r *http.Request, build func(e *encoder)) {
	e := s.buffers.Get().(*encoder)
	defer s.buffers.Put(e)
	e.b = append(e.b[:0], jsonPrefix...)
	e.quirks, e.depth = quirks{}, 0
	build(e)
	s.send(w, r, "application/json; charset=UTF-8", e.b)
}

func (s *Simulator) send(w http.ResponseWriter, r *http.Request, contentType string, body []byte) {
	h := w.Header()
	h.Set("Content-Type", contentType)
	h.Set("Cache-Control", "no-store")
	if !strings.Contains(r.Header.Get("Accept-Encoding"), "gzip") {
		n, _ := w.Write(body) // a client that left is no concern of ours
		s.counters.bytes.Add(int64(n))
		return
	}
	h.Set("Content-Encoding", "gzip")
	h.Set("Vary", "Accept-Encoding")
	counted := countingWriter{w: w, n: &s.counters.bytes}
	z := s.gzips.Get().(*gzip.Writer)
	defer s.gzips.Put(z)
	z.Reset(counted)
	_, _ = z.Write(body)
	_ = z.Close()
}

type countingWriter struct {
	w http.ResponseWriter
	n *atomic.Int64
}

func (c countingWriter) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.n.Add(int64(n))
	return n, err
}
