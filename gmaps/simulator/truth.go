package simulator

import (
	"time"

	"gmaps-scraper/gmaps"
)

// SyntheticPlace is place i of the default set under a seed: what a correct decoder must make of its detail payload.
// i may be any number; a Simulator serves those below Config.Synthetic. Times are UTC, lists keep the payload's order.
func SyntheticPlace(seed uint64, i uint32) gmaps.Place {
	return newWorld(seed, maxSynthetic).detail(ref{index: i}).Place
}

// SyntheticListing is the same place as its search entry tells it: no histogram, popular times, images, owner, reviews and offers.
// Its plus code is the global one, computed from the position.
func SyntheticListing(seed uint64, i uint32) gmaps.Place {
	p := newWorld(seed, maxSynthetic).listing(ref{index: i}).Place
	p.PlusCode = p.GlobalPlusCode
	return p
}

// SyntheticReviews are all reviews of that place in the given order, as the reviews endpoint serves them page by page.
// The endpoint carries no time of an edit and, of an owner's reply, only text and time.
func SyntheticReviews(seed uint64, i uint32, order gmaps.ReviewOrder) []gmaps.Review {
	w := newWorld(seed, maxSynthetic)
	r := ref{index: i}
	at := w.spot(r)
	var out []gmaps.Review
	for _, j := range w.reviewOrder(r, order) {
		out = append(out, boqTruth(w.review(r, at, j)))
	}
	return out
}

// boqTruth is what the reviews endpoint keeps of a review.
func boqTruth(v gmaps.Review) gmaps.Review {
	v.PostedAt, v.EditedAt = v.PostedAt.Truncate(time.Millisecond), time.Time{}
	if r := v.OwnersReply; r != nil {
		v.OwnersReply = &gmaps.Reply{Text: r.Text, PostedAt: r.PostedAt.Truncate(time.Millisecond)}
	}
	return v
}
