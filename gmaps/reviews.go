package gmaps

import (
	"cmp"
	"fmt"
	"html"
	"strconv"
	"strings"
	"time"
)

// ReviewPage is one page of a place's reviews.
type ReviewPage struct {
	Reviews []Review
	// Next asks for the page after this one. Empty on the last page; Google may also repeat the token that it was asked with.
	Next string
}

// DecodeReviews reads a page of reviews: the answer of GetLocalBoqProxy or of listugcposts, told apart by their shape.
// No reviews is an empty page, not an error.
func DecodeReviews(payload []byte, drift *Drift) (ReviewPage, error) {
	root := rootOf(payload)
	if root.kind() != kindArray {
		return ReviewPage{}, fmt.Errorf("decode reviews: %w", errNotArray)
	}
	var head [3]value
	if root.splitAll(head[:]) == 0 {
		return ReviewPage{}, fmt.Errorf("decode reviews: %w", errTruncated)
	}
	r := newReading()
	defer drift.add(&r.drift)
	f := fields{"reviews", head[:], &r}
	if head[1].kind() == kindArray {
		var answer [7]value
		f = f.sub(answer[:], "answer", 1, 10)
		return ReviewPage{decodeReviewList(f, boqReviews, 2), f.text("next", 6)}, nil
	}
	return ReviewPage{decodeReviewList(f, placeReviews, 2), f.text("next", 1)}, nil
}

// decodeInlineReviews reads the reviews inside a place payload; f is its section 175.
func (p *Place) decodeInlineReviews(f fields) {
	var inline [7]value
	list := f.sub(inline[:], "list", 9, 0)
	list.array += "[9,0]"
	p.Reviews = decodeReviewList(list, placeReviews, 0)
	p.ReviewsToken = list.text("token", 6)
	if p.Reviews != nil {
		return
	}
	// The oldest layout keeps the list at 0,0, where newer ones keep something else.
	if oldest, _ := f.elements[0].at(0); oldest.kind() == kindArray {
		p.Reviews = decodeReviewList(f, placeReviews, 0, 0)
	}
}

// reviewLayout is a constant for the reason that dayLayout is one.
type reviewLayout int

const (
	placeReviews reviewLayout = iota // of place payloads and listugcposts
	boqReviews                       // of GetLocalBoqProxy
)

func (l reviewLayout) decode(v value, from *reading) (Review, bool) {
	if l == boqReviews {
		return decodeBoqReview(v, from)
	}
	return decodeReviewElement(v, from)
}

func decodeReviewList(f fields, layout reviewLayout, path ...int) []Review {
	var reviews []Review
	for _, v := range f.list("reviews", path...).all() {
		if v == nil {
			continue
		}
		review, ok := layout.decode(v, f.reading)
		if !ok {
			f.drift.count(f.array, "review", path...)
			continue
		}
		reviews = append(reviews, review)
	}
	return reviews
}

// decodeReviewElement reads [review, …].
func decodeReviewElement(v value, from *reading) (Review, bool) {
	inner, _ := v.at(0)
	if inner.kind() != kindArray {
		return Review{}, false
	}
	return decodeReview(inner, from)
}

// decodeReview reads a review of a place payload or of listugcposts.
func decodeReview(v value, from *reading) (Review, bool) {
	var elements [4]value
	v.split(elements[:])
	if elements[0].kind() == kindArray {
		return decodeOldestReview(fields{"review", elements[:], from})
	}
	f := fields{"review", elements[:], from}
	r := Review{ID: f.text("id", 0), RatingMax: 5}

	var meta [14]value
	m := f.sub(meta[:], "meta", 1)
	m.array = "review.meta"
	r.PostedAt, r.EditedAt = m.micros("posted", 2), m.micros("edited", 3)
	r.When = m.text("when", 6)
	r.Source = m.text("source", 13, 0)
	r.RatingMax = cmp.Or(m.count("rating_max", 13, 4), r.RatingMax)
	r.Author = decodeAuthor(m)

	var content [16]value
	c := f.sub(content[:], "content", 2)
	c.array = "review.content"
	r.Rating = decodeStars(c, r.RatingMax)
	// 2,1 is where texts stood until 2023; later payloads carry both.
	r.Text = cmp.Or(c.text("text", 15, 0, 0), c.text("text", 1, 0))
	r.Translated = c.text("translated", 15, 1, 0)
	r.Language = cmp.Or(c.text("language", 14, 0), c.text("language", 1, 1))
	r.Photos = c.column("photos", c.list("photos", 2), 1, 6, 0)
	for i, photo := range r.Photos {
		r.Photos[i] = absolute(photo)
	}

	r.OwnersReply = decodeReply(f)
	return r, r.ID != "" || r.Author.Name != "" || r.Text != ""
}

// decodeAuthor reads [4] of a review's head: today's layout at [5], that of 2023 at [0] and [1].
func decodeAuthor(m fields) Author {
	var elements [6]value
	a := m.sub(elements[:], "author", 4)
	a.array = "review.author"
	author := Author{
		Name:        cmp.Or(a.text("name", 5, 0), a.text("name", 0, 4), a.text("name", 1, 1)),
		Picture:     absolute(cmp.Or(a.text("picture", 5, 1), a.text("picture", 0, 3))),
		Link:        cmp.Or(a.text("link", 2, 0), a.text("link", 5, 2, 0), a.text("link", 0, 5)),
		ID:          cmp.Or(a.text("id", 5, 3), a.text("id", 0, 13)),
		ReviewCount: cmp.Or(a.count("reviews", 5, 5), a.count("reviews", 0, 1)),
	}
	author.ID = cmp.Or(author.ID, contributorID(author.Link))
	return author
}

// contributorID returns the id in a link to a contributor's page (…/contrib/{id}/reviews?…).
func contributorID(link string) string {
	_, id, ok := strings.Cut(link, "/contrib/")
	if !ok {
		return ""
	}
	if end := strings.IndexAny(id, "/?#"); end >= 0 {
		id = id[:end]
	}
	return id
}

// decodeStars reads the rating: of Google at 0,0, of other sites with a fraction at 8,1.
func decodeStars(c fields, most int) float64 {
	rating := c.number("rating", 0, 0)
	if rating == 0 {
		rating = c.number("rating", 8, 1)
	}
	if rating < 0 || rating > float64(most) {
		c.drift.count(c.array, "rating", 0, 0)
		return 0
	}
	return rating
}

func decodeReply(f fields) *Reply {
	var elements [15]value
	a := f.sub(elements[:], "reply", 3)
	a.array = "review.reply"
	reply := Reply{Text: a.text("text", 14, 0, 0), PostedAt: a.micros("posted", 1)}
	if reply.Text == "" {
		if !reply.PostedAt.IsZero() {
			a.drift.count(a.array, "text", 14, 0, 0)
		}
		return nil
	}
	reply.EditedAt = a.micros("edited", 2)
	reply.Language = a.text("language", 13, 0)
	reply.Translated = a.text("translated", 14, 1, 0)
	return new(reply)
}

// decodeOldestReview reads the layout before 2023 (read): author at 0,1, rating at 1,0,0, text at 3,0, age at 3,3.
func decodeOldestReview(f fields) (Review, bool) {
	r := Review{RatingMax: 5, Text: f.text("text", 3, 0), When: f.text("when", 3, 3)}
	r.Author = Author{Name: f.text("author", 0, 1)}
	r.Rating = f.number("rating", 1, 0, 0)
	if r.Rating < 0 || r.Rating > 5 {
		f.drift.count(f.array, "rating", 1, 0, 0)
		r.Rating = 0
	}
	return r, r.Author.Name != "" || r.Text != ""
}

// decodeBoqReview reads a review of GetLocalBoqProxy. Paths are read of, not checked. Translation, photos and reply are looked for:
// other scrapers saw the translation at 37 or 38, photos between 6 and 30, and no reply at all yet.
func decodeBoqReview(v value, from *reading) (Review, bool) {
	if v.kind() != kindArray {
		return Review{}, false
	}
	var elements [48]value
	v.split(elements[:])
	f := fields{"boq", elements[:], from}
	r := Review{
		ID: f.text("id", 5),
		Author: Author{
			Name:        f.text("author", 3, 0),
			Picture:     absolute(f.text("picture", 3, 1)),
			Link:        f.text("author_link", 3, 2),
			ReviewCount: f.count("author_reviews", 3, 3),
			PhotoCount:  f.count("author_photos", 3, 4),
		},
		Source:    "Google",
		Rating:    f.number("rating", 1),
		RatingMax: 5,
		Text:      plainText(f.text("text", 27)),
		Language:  f.text("language", 26),
		When:      f.text("when", 2, 0),
		PostedAt:  f.millis("posted", 2, 2),
	}
	r.Author.ID = contributorID(r.Author.Link)
	if r.Rating < 0 || r.Rating > 5 {
		from.drift.count("boq", "rating", 1)
		r.Rating = 0
	}
	for _, i := range [...]int{37, 38} {
		if s, ok := elements[i].text(); ok && r.Translated == "" && plainText(s) != r.Text {
			r.Translated = plainText(s)
		}
	}
	r.Photos = boqPhotos(elements[6:26])
	r.OwnersReply = boqReply(elements[28:])
	return r, r.ID != "" || r.Author.Name != "" || r.Text != ""
}

// boqPhotos returns the pictures found in elements, each once. A face beside a picture is told by its path: /a/ or /a-/.
func boqPhotos(elements []value) []string {
	var photos []string
	seen := make(map[string]bool)
	for _, v := range elements {
		for s := range v.texts() {
			s = absolute(s)
			if !strings.HasPrefix(s, "https://") || !strings.Contains(s, "googleusercontent.com/") || strings.Contains(s, "/a/") || strings.Contains(s, "/a-/") || seen[s] {
				continue
			}
			seen[s] = true
			photos = append(photos, s)
		}
	}
	return photos
}

// boqReply returns the first element that holds a text of its own and a time of its own, [age, …, "ms"] as of the review.
func boqReply(elements []value) *Reply {
	for _, v := range elements {
		var reply Reply
		for _, e := range v.all() {
			if s, ok := e.text(); ok && reply.Text == "" && !strings.Contains(s, "://") {
				reply.Text = plainText(s)
			}
			stamp, _ := e.at(2)
			if s, ok := stamp.text(); ok && reply.PostedAt.IsZero() {
				reply.PostedAt = parseMillis(s)
			}
		}
		if reply.Text != "" && !reply.PostedAt.IsZero() {
			return &reply
		}
	}
	return nil
}

// plainText turns the little HTML of review texts into plain text.
func plainText(s string) string {
	if strings.IndexByte(s, '<') >= 0 {
		s = strings.NewReplacer("<br>", "\n", "<br/>", "\n", "<br />", "\n", "<BR>", "\n").Replace(s)
	}
	return cleanText(html.UnescapeString(s))
}

// Reviews lie between these years; other times are nonsense.
const (
	firstReviewYear = 2000
	lastReviewYear  = 2100
	maxSeconds      = 1e11 // in the 52nd century; as microseconds, in January of 1970
)

// micros returns the time at path, microseconds since 1970 in UTC. Implausible ones are dropped and count as drift.
func (f fields) micros(name string, path ...int) time.Time {
	n := f.number(name, path...)
	if n == 0 {
		return time.Time{}
	}
	if n < maxSeconds { // some answers count in seconds
		n *= 1e6
	}
	t, ok := plausible(n, time.UnixMicro)
	if !ok {
		f.drift.count(f.array, name, path...)
	}
	return t
}

// millis returns the time at path, milliseconds since 1970 written as a string.
func (f fields) millis(name string, path ...int) time.Time {
	s := f.text(name, path...)
	t := parseMillis(s)
	if s != "" && t.IsZero() {
		f.drift.count(f.array, name, path...)
	}
	return t
}

func parseMillis(s string) time.Time {
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil {
		return time.Time{}
	}
	t, _ := plausible(float64(n), time.UnixMilli)
	return t
}

func plausible(n float64, unix func(int64) time.Time) (_ time.Time, ok bool) {
	if n < 0 || n > 1<<53 {
		return time.Time{}, false
	}
	t := unix(int64(n)).UTC()
	if t.Year() < firstReviewYear || t.Year() >= lastReviewYear {
		return time.Time{}, false
	}
	return t, true
}
