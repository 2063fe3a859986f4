package simulator

import (
	"cmp"
	"encoding/base64"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"gmaps-scraper/gmaps"
)

const (
	inlineReviews = 8
	// maxReviewPage is the most reviews of one answer, whatever was asked (measured by others, 2026).
	maxReviewPage = 60
)

// reviewStars is cheap, since the listing's rating counts all of them.
func (w *world) reviewStars(r ref, j int) int {
	v := mix(w.seed ^ r.set<<20 ^ uint64(r.index)*golden + uint64(j)*0xd1342543de82ef95)
	return [16]int{1, 1, 2, 3, 3, 4, 4, 4, 5, 5, 5, 5, 5, 5, 5, 5}[v>>60]
}

func (w *world) reviewTime(r ref, j int) time.Time {
	jitter := mix(uint64(r.index)<<32 ^ uint64(j) ^ w.seed)
	return epoch().Add(-time.Duration(j)*29*time.Hour - time.Duration(jitter%(20*3600*1e6))*time.Microsecond)
}

// reviewOrder returns the numbers of a place's reviews in the order that was asked for.
func (w *world) reviewOrder(r ref, order gmaps.ReviewOrder) []int {
	list := make([]int, w.reviewTotal(r))
	for j := range list {
		list[j] = j // newest first
	}
	stars := func(j int) int { return w.reviewStars(r, j) }
	switch order {
	case gmaps.OrderNewest:
	case gmaps.OrderHighest:
		slices.SortStableFunc(list, func(a, b int) int { return cmp.Compare(stars(b), stars(a)) })
	case gmaps.OrderLowest:
		slices.SortStableFunc(list, func(a, b int) int { return cmp.Compare(stars(a), stars(b)) })
	default:
		rank := func(j int) uint64 { return mix(uint64(j)*golden ^ uint64(r.index)) }
		slices.SortFunc(list, func(a, b int) int { return cmp.Compare(rank(a), rank(b)) })
	}
	return list
}

// review makes review j of a place with all that any layout can carry.
func (w *world) review(r ref, at spot, j int) gmaps.Review {
	s := w.stream(r, streamReview, uint64(j))
	tongue := w.languages[w.cities[at.city].lang]
	author := "1" + s.digits(20)
	v := gmaps.Review{
		ID:       "ChdDSUhNMG9nS0VJQ0FnSUQ" + s.token(18),
		Source:   "Google",
		Rating:   float64(w.reviewStars(r, j)),
		PostedAt: w.reviewTime(r, j),
		When:     whenShown(j),
		Author: gmaps.Author{ID: author, Name: s.pick(tongue.names) + " " + string(rune('A'+s.below(26))) + ".",
			Picture: "https://lh3.googleusercontent.com/a-/" + s.token(40) + "=s120-c-rp-mo-br100", Link: "https://www.google.com/maps/contrib/" + author,
			ReviewCount: 1 + s.below(300), PhotoCount: s.below(50)},
		RatingMax: 5,
	}
	v.EditedAt = v.PostedAt
	if s.chance(15) {
		v.EditedAt = v.PostedAt.Add(time.Duration(1+s.below(500)) * time.Hour)
	}
	if s.chance(75) {
		lines := make([]string, 1+s.below(3))
		for i := range lines {
			lines[i] = s.pick(tongue.praise)
		}
		v.Text, v.Language = strings.Join(lines, "\n"), w.cities[at.city].lang
		if v.Language != "en" {
			v.Translated = "Translated: visit no. " + strconv.Itoa(j) + " was \"worth it\"."
		}
	}
	if s.chance(20) {
		for range 1 + s.below(3) {
			v.Photos = append(v.Photos, "https://lh5.googleusercontent.com/p/AF1Qip"+s.token(38)+"=w150-h150-k-no-p")
		}
	}
	if s.chance(30) {
		reply := &gmaps.Reply{Text: tongue.thanks, Language: w.cities[at.city].lang, PostedAt: v.PostedAt.Add(30 * time.Hour)}
		reply.EditedAt = reply.PostedAt
		if reply.Language != "en" {
			reply.Translated = "Thank you for your visit!"
		}
		v.OwnersReply = reply
	}
	return v
}

// inlineReview is review j as the place payload shows it. One in eleven comes from another site, which rates out of ten.
func (w *world) inlineReview(p *synthetic, j int) gmaps.Review {
	v := w.review(p.ref, p.spot, j)
	v.Author.PhotoCount = 0 // where it would stand is not known
	if j%11 == 10 {
		v.Source, v.RatingMax, v.Rating = "Tripadvisor", 10, 2*v.Rating
	}
	return v
}

func whenShown(j int) string {
	days := j * 29 / 24
	switch {
	case days < 7:
		return fmt.Sprintf("%d days ago", days+1)
	case days < 60:
		return fmt.Sprintf("%d weeks ago", days/7)
	default:
		return fmt.Sprintf("%d months ago", days/30)
	}
}

// reviewToken says where the next page of a place's reviews begins. It is opaque to callers and holds all state.
func reviewToken(cid uint64, order gmaps.ReviewOrder, offset int) string {
	return base64.RawURLEncoding.EncodeToString(fmt.Appendf(nil, "reviews|%x|%s|%d", cid, order, offset))
}

func parseReviewToken(token string) (cid uint64, order gmaps.ReviewOrder, offset int, ok bool) {
	b, err := base64.RawURLEncoding.DecodeString(token)
	parts := strings.Split(string(b), "|")
	if err != nil || len(parts) != 4 || parts[0] != "reviews" {
		return 0, "", 0, false
	}
	cid, errCID := strconv.ParseUint(parts[1], 16, 64)
	offset, errOffset := strconv.Atoi(parts[3])
	return cid, gmaps.ReviewOrder(parts[2]), offset, errCID == nil && errOffset == nil && offset >= 0
}
