package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"gmaps-scraper/gmaps"
	"gmaps-scraper/gmaps/simulator"
	"gmaps-scraper/gmaps/web"
)

// Searches under way at once, and details within each: the baseline fetches with as many goroutines as that makes requests.
const (
	engineSearches = 4
	engineDetails  = 2
)

// benchEngine lets the engine search the simulator and compares with a bare net/http loop that sends the same requests, headers and all,
// and throws the answers away as they come over the wire. The simulator runs in this process and costs both the same.
func benchEngine(ctx context.Context, rounds int) (result, error) {
	const places = 4000
	sim, err := simulator.New(simulator.Config{Synthetic: places, Seed: 1})
	if err != nil {
		return result{}, err
	}
	base, stop, err := listen(sim)
	if err != nil {
		return result{}, err
	}
	defer stop()

	var r result
	for _, one := range []struct {
		name     string
		detail   gmaps.Detail
		shards   int // that are searched, of as many as make shards of 100 places
		parallel int
	}{
		{"listing", gmaps.DetailNever, 40, engineSearches},
		{"detail", gmaps.DetailAlways, 8, engineSearches * engineDetails},
	} {
		queries := make([]gmaps.Query, one.shards)
		for i := range queries {
			queries[i] = gmaps.Query{Keyword: fmt.Sprintf("synthetic %d/%d", i+1, places/100), Detail: one.detail}
		}
		compared, err := compareEngine(ctx, rounds, base, queries, one.parallel)
		if err != nil {
			return result{}, fmt.Errorf("%s: %w", one.name, err)
		}
		r.ratios = append(r.ratios, ratio{one.name, compared.samples, atLeast(0.5)})
		r.notes = append(r.notes, fmt.Sprintf("%s: %d places in %d requests, %.1f kB a place; ours %.0f places/s, baseline %.0f",
			one.name, compared.places, compared.requests, float64(compared.bytes)/1e3/float64(compared.places), compared.ours, compared.baseline))
	}
	return r, nil
}

type engineComparison struct {
	samples        []float64
	places         int64
	requests       int
	bytes          int64
	ours, baseline float64 // places/s of the last round
}

// compareEngine takes turns after every few queries, so that what else the machine does meets both alike.
func compareEngine(ctx context.Context, rounds int, base string, queries []gmaps.Query, parallel int) (engineComparison, error) {
	var c engineComparison
	var turns []turn
	for few := range slices.Chunk(queries, engineSearches) {
		t, err := record(ctx, base, few)
		if err != nil {
			return c, err
		}
		turns = append(turns, t)
		c.places, c.bytes, c.requests = c.places+t.places, c.bytes+t.bytes, c.requests+len(t.requests)
	}
	for range rounds {
		runtime.GC()
		var ours, baseline time.Duration
		for _, t := range turns {
			a, err := t.search(ctx, base)
			if err != nil {
				return c, err
			}
			b, err := t.fetch(ctx, parallel)
			if err != nil {
				return c, err
			}
			ours, baseline = ours+a, baseline+b
		}
		c.samples = append(c.samples, baseline.Seconds()/ours.Seconds())
		c.ours, c.baseline = float64(c.places)/ours.Seconds(), float64(c.places)/baseline.Seconds()
	}
	return c, nil
}

// turn is a few queries and what the engine asked for them.
type turn struct {
	queries       []gmaps.Query
	requests      []*http.Request
	places, bytes int64
}

func record(ctx context.Context, base string, queries []gmaps.Query) (turn, error) {
	rec := &recorder{next: &http.Transport{DisableCompression: true}}
	defer rec.next.CloseIdleConnections()
	e, err := web.New(web.Config{BaseURL: base, DetailConcurrency: engineDetails, Transport: rec})
	if err != nil {
		return turn{}, err
	}
	err = searchAll(ctx, e, queries)
	return turn{queries: queries, requests: rec.requests, places: e.Stats().Places, bytes: e.Stats().Bytes}, err
}

func (t turn) search(ctx context.Context, base string) (time.Duration, error) {
	e, err := web.New(web.Config{BaseURL: base, DetailConcurrency: engineDetails})
	if err != nil {
		return 0, err
	}
	defer e.Close()
	begin := time.Now()
	if err := searchAll(ctx, e, t.queries); err != nil {
		return 0, err
	}
	took := time.Since(begin)
	if got := e.Stats().Places; got != t.places {
		return 0, fmt.Errorf("found %d places, then %d", t.places, got)
	}
	return took, nil
}

func (t turn) fetch(ctx context.Context, parallel int) (time.Duration, error) {
	begin := time.Now()
	bytes, err := fetchAll(ctx, t.requests, parallel)
	took := time.Since(begin)
	if err != nil {
		return 0, err
	}
	// Cookies are random texts, and so the pages that set them compress a little differently.
	if diff := bytes - t.bytes; diff > t.bytes/100 || -diff > t.bytes/100 {
		return 0, fmt.Errorf("the baseline got %d bytes, the engine %d: not the same work", bytes, t.bytes)
	}
	return took, nil
}

func searchAll(ctx context.Context, e *web.Engine, queries []gmaps.Query) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(engineSearches)
	for _, q := range queries {
		group.Go(func() error {
			for _, err := range e.Search(ctx, q, "") {
				if err != nil {
					return err
				}
			}
			return nil
		})
	}
	return group.Wait()
}

// fetchAll is the baseline.
func fetchAll(ctx context.Context, requests []*http.Request, parallel int) (bytes int64, err error) {
	transport := &http.Transport{MaxIdleConnsPerHost: parallel, DisableCompression: true}
	defer transport.CloseIdleConnections()
	next := make(chan *http.Request)
	sums := make([]int64, parallel)
	group, ctx := errgroup.WithContext(ctx)
	for i := range parallel {
		group.Go(func() error {
			for r := range next {
				resp, err := transport.RoundTrip(r.WithContext(ctx))
				if err != nil {
					return err
				}
				n, err := io.Copy(io.Discard, resp.Body)
				_ = resp.Body.Close()
				if err != nil {
					return err
				}
				sums[i] += n
			}
			return nil
		})
	}
	group.Go(func() error {
		defer close(next)
		for _, r := range requests {
			select {
			case next <- r:
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		}
		return nil
	})
	err = group.Wait()
	for _, n := range sums {
		bytes += n
	}
	return bytes, err
}

// recorder notes what an engine asks.
type recorder struct {
	next     *http.Transport
	mu       sync.Mutex
	requests []*http.Request
}

func (r *recorder) RoundTrip(req *http.Request) (*http.Response, error) {
	r.mu.Lock()
	r.requests = append(r.requests, req.Clone(context.WithoutCancel(req.Context())))
	r.mu.Unlock()
	return r.next.RoundTrip(req)
}

// listen serves h on a free port of loopback until stop is called.
func listen(h http.Handler) (base string, stop func(), err error) { return listenOn("127.0.0.1", h) }

// listenOn does so on another address of this machine.
func listenOn(host string, h http.Handler) (base string, stop func(), err error) {
	listener, err := net.Listen("tcp", net.JoinHostPort(host, "0"))
	if err != nil {
		return "", nil, err
	}
	server := &http.Server{Handler: h, ReadHeaderTimeout: time.Minute}
	var group errgroup.Group
	group.Go(func() error {
		if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			return err
		}
		return nil
	})
	return "http://" + listener.Addr().String(), func() {
		_ = server.Close()
		_ = group.Wait()
	}, nil
}
