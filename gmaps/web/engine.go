package web

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"net/url"
	"sync/atomic"

	"gmaps-scraper/gmaps"
)

// Engine is a gmaps.Engine over Google's own requests. It is safe for concurrent searches, which share sessions, exits and limits.
type Engine struct {
	config   Config
	base     *url.URL
	google   bool // base is Google itself
	browser  browser
	host     gate
	exits    *exits
	sessions *sessions
	bodies   bodies
	count    counters
	repeated atomic.Bool // a first repeat was told
}

var _ gmaps.Engine = (*Engine)(nil)

// New makes an Engine; it asks nothing yet. An error names the field of c and its bound, and never repeats a proxy's credentials.
func New(c Config) (*Engine, error) {
	c, base, err := c.withDefaults()
	if err != nil {
		return nil, err
	}
	pool, err := newExits(c)
	if err != nil {
		return nil, err
	}
	return &Engine{
		config: c, base: base, google: gmaps.IsGoogleHost(base.Hostname()),
		browser: newBrowser(c.ChromeVersion, c.BaseURL),
		host:    newGate(c.HostRatePerSecond, c.HostInFlight),
		exits:   pool, sessions: newSessions(c),
	}, nil
}

// Close ends the idle connections. Searches under way go on.
func (e *Engine) Close() { e.exits.close() }

const (
	barrenPages = 2 // in a row that bring nothing new: the end of a search
	// A search over a viewport that ends by itself after so many places ended at a limit of Google's, not of the area.
	googleLimit = 120
	// A last page with so many entries is full: advertisements and places without an id may be missing from 20.
	fullPage = gmaps.PageSize * 3 / 4
)

// Search is gmaps.Engine's. A search ends after q.MaxPages pages, after two pages in a row that bring nothing new, or with a first
// page of one entry, which is Google's answer to a keyword that names one place. Its last page is Saturated when
//   - q.MaxPages ended it, although the last page was full and brought something new, or
//   - it had a viewport and found 120 places or more: that many end at Google's limit.
//
// A place comes once within a call. A place whose payload or reviews cannot be had comes as the listing shows it.
func (e *Engine) Search(ctx context.Context, q gmaps.Query, from gmaps.Cursor) iter.Seq2[gmaps.Page, error] {
	return func(yield func(gmaps.Page, error) bool) {
		q, at, err := e.start(ctx, q, from)
		if err != nil {
			yield(gmaps.Page{}, err)
			return
		}
		if q.Place != nil {
			place, err := e.lookUp(ctx, q)
			if err != nil {
				yield(gmaps.Page{}, err)
				return
			}
			e.count.places.Add(1)
			yield(gmaps.Page{Places: []gmaps.Place{place}}, nil)
			return
		}
		c := course{position: at, before: at.Seen, seen: map[uint64]bool{}}
		for {
			page, err := e.page(ctx, q, &c)
			if err != nil {
				yield(gmaps.Page{}, err)
				return
			}
			e.count.places.Add(int64(len(page.Places)))
			if !yield(page, nil) || page.Cursor == "" {
				return
			}
		}
	}
}

// start checks q, resolves its short link and reads the cursor.
func (e *Engine) start(ctx context.Context, q gmaps.Query, from gmaps.Cursor) (gmaps.Query, position, error) {
	at, err := parseCursor(from)
	if err != nil {
		return q, at, err
	}
	if ctx.Err() != nil {
		return q, at, context.Cause(ctx)
	}
	if q.Place != nil && q.Place.URL != "" && *q.Place == (gmaps.PlaceRef{URL: q.Place.URL}) {
		if q, err = e.resolve(ctx, q); err != nil {
			return q, at, err
		}
	}
	if q.Keyword == "" && q.Place == nil {
		return q, at, errors.New("query names neither a keyword nor a place")
	}
	return q, at, nil
}

// course is a search under way.
type course struct {
	position
	before filter          // the places of earlier calls
	seen   map[uint64]bool // the places of this call, by hashKey
}

// page asks for the next page of c, completes its places and moves c behind it.
func (e *Engine) page(ctx context.Context, q gmaps.Query, c *course) (gmaps.Page, error) {
	listing, err := e.list(ctx, q, c.Offset)
	if err != nil {
		return gmaps.Page{}, err
	}
	fresh := 0
	places := listing.Places[:0]
	for _, p := range listing.Places {
		hash := hashKey(p.Key())
		if c.seen[hash] {
			continue
		}
		c.seen[hash] = true
		places = append(places, p)
		if !c.before.has(hash) {
			fresh++
			c.Seen.add(hash)
		}
	}
	if err := e.completeAll(ctx, q, places); err != nil {
		return gmaps.Page{}, err
	}

	single := c.Offset == 0 && c.Pages == 0 && listing.Entries == 1
	c.Pages++
	c.Found += fresh
	c.Barren++
	if fresh > 0 {
		c.Barren = 0
	}
	if c.Found > filterPlaces {
		c.Seen = filter{}
	}
	// An empty page is asked again, as another session: in limited view there is nothing behind the first page.
	if listing.Entries > 0 {
		c.Offset += gmaps.PageSize
	}

	page := gmaps.Page{Places: places}
	atGoogleLimit := q.Viewport != nil && c.Found >= googleLimit
	switch {
	case c.Barren >= barrenPages || single:
		page.Saturated = atGoogleLimit
	case q.MaxPages > 0 && c.Pages >= q.MaxPages:
		page.Saturated = atGoogleLimit || fresh > 0 && listing.Entries >= fullPage
	default:
		page.Cursor = c.cursor()
	}
	return page, nil
}

// limitedTries is how often a page in limited view is asked again. After that it is taken as it is: its places are real, only trimmed.
const limitedTries = 2

// list asks for one search page and refuses those that are degraded or, at first, in limited view.
func (e *Engine) list(ctx context.Context, q gmaps.Query, offset int) (gmaps.SearchPage, error) {
	var listing gmaps.SearchPage
	trimmedTries := 0
	target := gmaps.SearchURL(e.config.BaseURL, q, offset)
	err := e.ask(ctx, q.Lang, target, func(payload []byte) error {
		var err error
		if listing, err = gmaps.DecodeSearch(payload, e.config.Drift); err != nil {
			return err
		}
		if degraded(q, offset, listing.Places) {
			return &gmaps.BlockedError{Kind: gmaps.BlockedDegraded, URL: brief(target)}
		}
		if trimmed(listing.Places) && trimmedTries < min(limitedTries, e.config.Retries) {
			trimmedTries++
			return &gmaps.BlockedError{Kind: gmaps.BlockedLimited, URL: brief(target)}
		}
		return nil
	})
	if err != nil && !isLimited(err) {
		return gmaps.SearchPage{}, fmt.Errorf("search %q at offset %d: %w", q.Keyword, offset, err)
	}
	e.count.searchPages.Add(1)
	return listing, nil
}

func isLimited(err error) bool {
	blocked, ok := errors.AsType[*gmaps.BlockedError](err)
	return ok && blocked.Kind == gmaps.BlockedLimited
}

// trimmed says that most places of a page lack what Google trims.
func trimmed(places []gmaps.Place) bool {
	n := 0
	for i := range places {
		if places[i].Trimmed() {
			n++
		}
	}
	return n*2 > len(places)
}
