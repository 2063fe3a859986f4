package web

import (
	"sync/atomic"

	"gmaps-scraper/gmaps"
)

// Stats is what an Engine did since it was made.
type Stats struct {
	Requests      int64 // sent, retries and cookie requests included
	Bytes         int64 // received, as sent (compressed), without headers
	Retries       int64
	SearchPages   int64
	Places        int64 // yielded
	Details       int64 // place payloads read
	DetailsFailed int64 // places that were left as listed
	Spared        int64 // places that Query.Known spared from payload and reviews
	ReviewPages   int64
	ReviewsFailed int64 // places whose reviews are not all there
	Undecodable   int64 // payloads that were handed to Quarantine
	// Blocked counts Google's refusals, answered retries included.
	Blocked map[gmaps.BlockKind]int64
}

type counters struct {
	requests, bytes, retries, searchPages, places, details, detailsFailed, spared, reviewPages, reviewsFailed, undecodable atomic.Int64

	rate, captcha, consent, limited, degraded atomic.Int64
}

func (c *counters) blocked(k gmaps.BlockKind) *atomic.Int64 {
	switch k {
	case gmaps.BlockedRate:
		return &c.rate
	case gmaps.BlockedConsent:
		return &c.consent
	case gmaps.BlockedLimited:
		return &c.limited
	case gmaps.BlockedDegraded:
		return &c.degraded
	default:
		return &c.captcha
	}
}

// Stats counts from the engine's beginning. It may be called at any time, from any goroutine.
func (e *Engine) Stats() Stats {
	c := &e.count
	s := Stats{
		Requests: c.requests.Load(), Bytes: c.bytes.Load(), Retries: c.retries.Load(),
		SearchPages: c.searchPages.Load(), Places: c.places.Load(),
		Details: c.details.Load(), DetailsFailed: c.detailsFailed.Load(),
		Spared: c.spared.Load(), ReviewPages: c.reviewPages.Load(), ReviewsFailed: c.reviewsFailed.Load(), Undecodable: c.undecodable.Load(),
		Blocked: map[gmaps.BlockKind]int64{},
	}
	for _, k := range []gmaps.BlockKind{gmaps.BlockedRate, gmaps.BlockedCaptcha, gmaps.BlockedConsent, gmaps.BlockedLimited, gmaps.BlockedDegraded} {
		if n := c.blocked(k).Load(); n > 0 {
			s.Blocked[k] = n
		}
	}
	return s
}
