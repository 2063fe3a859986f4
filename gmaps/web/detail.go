package web

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"reflect"
	"strings"

	"golang.org/x/sync/errgroup"

	"gmaps-scraper/gmaps"
)

// completeAll fetches payload and reviews of the places that q asks them for, in place. Only ctx's end is an error.
func (e *Engine) completeAll(ctx context.Context, q gmaps.Query, places []gmaps.Place) error {
	var group errgroup.Group
	group.SetLimit(e.config.DetailConcurrency)
	for _, p := range e.unknown(ctx, q, wanting(q, places)) {
		group.Go(func() error {
			e.complete(ctx, q, p, needsDetail(q.Detail, p))
			return nil
		})
	}
	_ = group.Wait() // complete keeps its failures to itself
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return nil
}

// wanting are the places that q asks more of than their listing.
func wanting(q gmaps.Query, places []gmaps.Place) []*gmaps.Place {
	var out []*gmaps.Place
	for i := range places {
		if q.Reviews.Max > 0 || needsDetail(q.Detail, &places[i]) {
			out = append(out, &places[i])
		}
	}
	return out
}

// unknown are the places of which q.Known does not say that they are there already.
func (e *Engine) unknown(ctx context.Context, q gmaps.Query, places []*gmaps.Place) []*gmaps.Place {
	if q.Known == nil || len(places) == 0 {
		return places
	}
	keys := make([]string, len(places))
	for i, p := range places {
		keys[i] = p.Key()
	}
	known := q.Known.Known(ctx, keys)
	if len(known) != len(keys) {
		return places
	}
	out := places[:0]
	for i, p := range places {
		if !known[i] {
			out = append(out, p)
		}
	}
	e.count.spared.Add(int64(len(keys) - len(out)))
	return out
}

// needsDetail says whether a listed place's own payload is worth a request. The fields asked about were in all entries of a real listing.
func needsDetail(d gmaps.Detail, p *gmaps.Place) bool {
	switch d {
	case gmaps.DetailAlways:
		return true
	case gmaps.DetailNever:
		return false
	default:
		return p.Trimmed() || p.Title == "" || len(p.Categories) == 0 || p.Address == "" || p.Location == nil
	}
}

// complete never loses p: what cannot be had is counted and left out.
func (e *Engine) complete(ctx context.Context, q gmaps.Query, p *gmaps.Place, detail bool) {
	id, err := gmaps.PlaceRef{DataID: p.DataID, PlaceID: p.PlaceID, CID: p.CID}.FeatureID()
	if detail && err == nil {
		var full gmaps.Place
		if full, err = e.detail(ctx, q, id); err == nil {
			merge(&full, p)
			*p = full
		}
	}
	if detail && err != nil && ctx.Err() == nil {
		e.count.detailsFailed.Add(1)
		e.config.Logger.LogAttrs(ctx, slog.LevelDebug, "place left as listed", slog.String("place", p.Key()), slog.Any("err", err))
	}
	if id != "" {
		e.addReviews(ctx, q, id, p)
	}
}

// lookUp answers a query for one known place. There is no listing to fall back on, so a failure is an error.
func (e *Engine) lookUp(ctx context.Context, q gmaps.Query) (gmaps.Place, error) {
	id, err := q.Place.FeatureID()
	if err != nil {
		return gmaps.Place{}, fmt.Errorf("look up place: %w", err)
	}
	place, err := e.detail(ctx, q, id)
	if err != nil {
		return gmaps.Place{}, fmt.Errorf("look up place %s: %w", id, err)
	}
	if strings.HasPrefix(id, "0x0:") && place.DataID != "" {
		id = place.DataID // only the CID was known
	}
	e.addReviews(ctx, q, id, &place)
	return place, context.Cause(ctx)
}

var errOtherPlace = errors.New("answered with another place")

// detail asks for the payload of the place id. One that was doubted is better than none, should no other come.
func (e *Engine) detail(ctx context.Context, q gmaps.Query, id string) (gmaps.Place, error) {
	var place, first gmaps.Place
	doubted := false
	target := gmaps.PlaceURL(e.config.BaseURL, id, q.Lang, q.Country)
	err := e.ask(ctx, q.Lang, target, func(payload []byte) error {
		var err error
		if place, err = gmaps.DecodePlace(payload, e.config.Drift); err != nil {
			return err
		}
		// The second half of a feature id is the CID, and names the place alone.
		if _, cid, _ := strings.Cut(id, ":"); place.DataID != "" && !strings.HasSuffix(strings.ToLower(place.DataID), ":"+cid) {
			return fmt.Errorf("%w: %s", errOtherPlace, place.DataID)
		}
		// One place may look trimmed by nature, so it is doubted once only.
		if place.Trimmed() && !doubted && e.config.Retries > 0 {
			doubted, first = true, place
			return &gmaps.BlockedError{Kind: gmaps.BlockedLimited, URL: brief(target)}
		}
		return nil
	})
	if err != nil {
		if !doubted || ctx.Err() != nil {
			return gmaps.Place{}, err
		}
		place = first
	}
	place.Detailed = true
	e.count.details.Add(1)
	return place, nil
}

// addReviews asks for reviews page by page until q's maximum or their end. Those that came before a failure are kept.
func (e *Engine) addReviews(ctx context.Context, q gmaps.Query, id string, p *gmaps.Place) {
	seen := map[string]bool{}
	token := ""
	for len(p.ExtraReviews) < q.Reviews.Max {
		var page gmaps.ReviewPage
		size := min(gmaps.ReviewPageSize, q.Reviews.Max-len(p.ExtraReviews))
		err := e.ask(ctx, q.Lang, gmaps.ReviewsURL(e.config.BaseURL, id, q.Lang, q.Reviews.Order, size, token), func(payload []byte) error {
			var err error
			page, err = gmaps.DecodeReviews(payload, e.config.Drift)
			return err
		})
		if err != nil {
			if ctx.Err() == nil {
				e.count.reviewsFailed.Add(1)
				e.config.Logger.LogAttrs(ctx, slog.LevelDebug, "reviews left incomplete", slog.String("place", p.Key()), slog.Any("err", err))
			}
			return
		}
		e.count.reviewPages.Add(1)
		before := len(p.ExtraReviews)
		for _, r := range page.Reviews {
			if len(p.ExtraReviews) < q.Reviews.Max && (r.ID == "" || !seen[r.ID]) {
				seen[r.ID] = true
				p.ExtraReviews = append(p.ExtraReviews, r)
			}
		}
		// A page that repeats what is there would go on for ever.
		if page.Next == "" || page.Next == token || len(p.ExtraReviews) == before {
			return
		}
		token = page.Next
	}
}

// merge fills what full lacks from the listing, field by field: no field that was seen is lost.
func merge(full, listed *gmaps.Place) {
	fill(reflect.ValueOf(full).Elem(), reflect.ValueOf(listed).Elem())
}

func fill(into, from reflect.Value) {
	for i := range into.NumField() {
		switch field := into.Field(i); {
		case field.Kind() == reflect.Struct:
			fill(field, from.Field(i))
		case field.IsZero():
			field.Set(from.Field(i))
		}
	}
}

// resolve follows q's short link to the Maps URL behind it. What q itself says (language, pages, …) stays.
func (e *Engine) resolve(ctx context.Context, q gmaps.Query) (gmaps.Query, error) {
	link := q.Place.URL
	first, err := url.Parse(link)
	if err != nil || !gmaps.IsShortLink(first) && (e.google || first.Host != e.base.Host) {
		return q, fmt.Errorf("resolve %q: not a Google Maps short link", link)
	}
	var found gmaps.Query
	err = e.retry(ctx, q.Lang, func(ctx context.Context, x *exit, s *session) (bool, error) {
		var err error
		found, err = e.follow(ctx, x, s, q.Lang, first)
		return true, err
	})
	if err != nil {
		return q, fmt.Errorf("resolve %q: %w", link, err)
	}
	q.Place, q.Keyword = found.Place, found.Keyword
	if found.Viewport != nil {
		q.Viewport = found.Viewport
	}
	if q.Lang == "" {
		q.Lang = found.Lang
	}
	return q, nil
}

// follow asks short links only; the first redirect that leads to Maps, or to a consent page that names where it leads, is read, not asked.
func (e *Engine) follow(ctx context.Context, x *exit, s *session, lang string, at *url.URL) (gmaps.Query, error) {
	for range maxHops {
		a, err := e.exchange(ctx, x, s, lang, at.String(), nil)
		if err != nil {
			return gmaps.Query{}, err
		}
		_, err = classify(a, e.config.Now())
		a.free()
		switch {
		case err != nil:
			return gmaps.Query{}, err
		case a.location == nil:
			return gmaps.Query{}, &statusError{status: http.StatusNotFound, url: brief(at.String())}
		}
		to := a.location
		if isConsent(to) && to.Query().Get("continue") != "" {
			if to, err = url.Parse(to.Query().Get("continue")); err != nil {
				return gmaps.Query{}, fmt.Errorf("%w: to no URL", errForeign)
			}
		}
		if gmaps.IsShortLink(to) {
			at = to
			continue
		}
		if !e.google && to.Host == e.base.Host {
			to.Scheme, to.Host = "https", "www.google.com"
		}
		q, err := gmaps.ParseLink(to.String())
		if err != nil {
			return gmaps.Query{}, fmt.Errorf("%w: %w", errForeign, err)
		}
		return q, nil
	}
	return gmaps.Query{}, errLost
}
