package gmaps_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"gmaps-scraper/gmaps"
)

func decodeReviews(t *testing.T, answer any) (gmaps.ReviewPage, map[string]int64) {
	t.Helper()
	var drift gmaps.Drift
	page, err := gmaps.DecodeReviews(encode(t, answer), &drift)
	if err != nil {
		t.Fatal(err)
	}
	return page, drift.Counts()
}

func TestReviewsOfTheBoqLayout(t *testing.T) {
	t.Parallel()
	full := positional(map[string]any{
		"1": 4, "2": []any{"a week ago", nil, "1700000000000"}, "5": "r1", "26": "fr", "27": "Très bon &amp; cher<br>&lt;3", "37": "Very good &amp; dear",
		"3": []any{"Ann", "//lh3.googleusercontent.com/a-/face", "https://www.google.com/maps/contrib/77/reviews?hl=en", 12, 3},
		"8": []any{[]any{"https://lh3.googleusercontent.com/p/one=w10", []any{"https://lh3.googleusercontent.com/p/one=w10", "https://lh3.googleusercontent.com/a/face"}}},
		// Nobody saw a reply here yet: this is the shape in which one is looked for.
		"40": []any{"Merci<br>!", []any{"2 days ago", nil, "1700000100000"}},
	})
	page, drift := decodeReviews(t, positional(map[string]any{"1,10,2": []any{full, nil, 5, []any{nil, 9}}, "1,10,6": "next"}))
	posted := time.UnixMilli(1700000000000).UTC()
	want := gmaps.ReviewPage{Next: "next", Reviews: []gmaps.Review{{
		ID: "r1", Source: "Google", Rating: 4, RatingMax: 5, Text: "Très bon & cher\n<3", Translated: "Very good & dear", Language: "fr", When: "a week ago", PostedAt: posted,
		Author:      gmaps.Author{ID: "77", Name: "Ann", Picture: "https://lh3.googleusercontent.com/a-/face", Link: "https://www.google.com/maps/contrib/77/reviews?hl=en", ReviewCount: 12, PhotoCount: 3},
		Photos:      []string{"https://lh3.googleusercontent.com/p/one=w10"},
		OwnersReply: &gmaps.Reply{Text: "Merci\n!", PostedAt: posted.Add(100 * time.Second)},
	}}}
	if diff := cmp.Diff(want, page); diff != "" {
		t.Errorf("page (-want +got):\n%s", diff)
	}
	if drift["reviews.review[2]"] != 2 || drift["boq.rating[1]"] != 1 {
		t.Errorf("drift %v", drift)
	}
}

func TestReviewsOfTheOlderCallAndEmptyAnswers(t *testing.T) {
	t.Parallel()
	review := positional(map[string]any{
		"0": "r2", "1,2": 17, "1,6": "x", "1,13": []any{"Booking.com", nil, nil, nil, 10}, "2,8,1": 9.6, "2,15,0,0": "Gut", "2,14,0": "de", "2,15,1,0": "Good",
		"2,2": []any{positional(map[string]any{"1,6,0": "//lh5.googleusercontent.com/p/two"})},
	})
	page, drift := decodeReviews(t, []any{nil, "more", []any{[]any{review}, []any{nil}}})
	want := gmaps.ReviewPage{Next: "more", Reviews: []gmaps.Review{{
		ID: "r2", Source: "Booking.com", Rating: 9.6, RatingMax: 10, Text: "Gut", Translated: "Good", Language: "de", When: "x", Photos: []string{"https://lh5.googleusercontent.com/p/two"},
	}}}
	if diff := cmp.Diff(want, page); diff != "" {
		t.Errorf("page (-want +got):\n%s", diff)
	}
	if drift["review.meta.posted[2]"] != 1 {
		t.Errorf("a review of 1970 is no drift: %v", drift)
	}
	for _, answer := range []any{[]any{}, []any{nil, nil, nil}, []any{nil, []any{}}, positional(map[string]any{"1,10,2": []any{}})} {
		if page, drift := decodeReviews(t, answer); len(page.Reviews) != 0 || page.Next != "" || len(drift) != 0 {
			t.Errorf("%v: %+v, drift %v", answer, page, drift)
		}
	}
}

func TestInlineReviewsOfEveryAge(t *testing.T) {
	t.Parallel()
	of2023 := positional(map[string]any{
		"0": "r3", "1,4,0,1": 6, "1,4,0,3": "pic", "1,4,0,4": "Bo", "1,4,0,5": "https://www.google.com/maps/contrib/9?hl=en", "2,0,0": 5, "2,1": []any{"Nice", "en"},
	})
	p, drift := decodeBody(t, map[string]any{"175,9,0,0": []any{[]any{of2023}, nil}, "175,9,0,6": "token"})
	want := []gmaps.Review{{
		ID: "r3", Rating: 5, RatingMax: 5, Text: "Nice", Language: "en",
		Author: gmaps.Author{ID: "9", Name: "Bo", Picture: "pic", Link: "https://www.google.com/maps/contrib/9?hl=en", ReviewCount: 6},
	}}
	if diff := cmp.Diff(want, p.Reviews); diff != "" || p.ReviewsToken != "token" || len(drift) != 0 {
		t.Errorf("token %q, drift %v, reviews (-want +got):\n%s", p.ReviewsToken, drift, diff)
	}

	oldest := []any{[]any{nil, "Cy"}, []any{[]any{3}}, nil, []any{"Fine", nil, nil, "a year ago"}}
	p, drift = decodeBody(t, map[string]any{"175,0,0": []any{[]any{oldest}}})
	want = []gmaps.Review{{Rating: 3, RatingMax: 5, Text: "Fine", When: "a year ago", Author: gmaps.Author{Name: "Cy"}}}
	if diff := cmp.Diff(want, p.Reviews); diff != "" || len(drift) != 0 {
		t.Errorf("drift %v, oldest reviews (-want +got):\n%s", drift, diff)
	}
}

func TestReviewTimesInSecondsAreTaken(t *testing.T) {
	t.Parallel()
	review := positional(map[string]any{"0": "r", "1,2": 1700000000, "1,3": 1700000000000000, "1,4,5": []any{"Ann", nil, []any{"https://www.google.com/maps/contrib/77"}}})
	page, drift := decodeReviews(t, []any{nil, nil, []any{[]any{review}}})
	if len(page.Reviews) != 1 || len(drift) > 0 {
		t.Fatalf("%+v, drift %v", page, drift)
	}
	r := page.Reviews[0]
	if want := time.Unix(1700000000, 0); !r.PostedAt.Equal(want) || !r.EditedAt.Equal(want) {
		t.Errorf("posted %v, edited %v, want %v", r.PostedAt, r.EditedAt, want)
	}
	if r.Author.ID != "77" || r.Author.Link == "" {
		t.Errorf("author %+v", r.Author)
	}
}
