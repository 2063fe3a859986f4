package simulator

import (
	"errors"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"gmaps-scraper/gmaps"
)

func TestReviewsCanBeHadToTheEndInEveryOrder(t *testing.T) {
	t.Parallel()
	s := newSimulator(t, Config{Seed: 3})
	index := uint32(0)
	for s.world.reviewTotal(ref{index: index}) < 130 {
		index++
	}
	id := s.world.dataID(ref{index: index})
	for _, order := range []gmaps.ReviewOrder{gmaps.OrderRelevant, gmaps.OrderNewest, gmaps.OrderHighest, gmaps.OrderLowest} {
		var got []gmaps.Review
		token, pages := "", 0
		for {
			rec := get(t, s, gmaps.ReviewsURL("", id, "en", order, 100, token))
			page, err := gmaps.DecodeReviews(rec.Body.Bytes(), nil)
			if err != nil {
				t.Fatal(err)
			}
			if len(page.Reviews) > maxReviewPage {
				t.Fatalf("%d reviews in a page", len(page.Reviews))
			}
			got = append(got, page.Reviews...)
			pages++
			if token = page.Next; token == "" {
				break
			}
		}
		want := SyntheticReviews(3, index, order)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: reviews differ (-want +got):\n%s", order, diff)
		}
		if pages != (len(want)+maxReviewPage-1)/maxReviewPage {
			t.Errorf("%s: %d reviews in %d pages", order, len(want), pages)
		}
	}
	other := s.world.dataID(ref{index: index + 1})
	rec := get(t, s, gmaps.ReviewsURL("", other, "en", "", 60, reviewToken(s.world.cid(ref{index: index}), gmaps.OrderNewest, 0)))
	if page, err := gmaps.DecodeReviews(rec.Body.Bytes(), nil); err != nil || len(page.Reviews) != 0 {
		t.Errorf("another place's token gave %d reviews, %v", len(page.Reviews), err)
	}
}

func TestInlineTokenContinuesAfterInlineReviews(t *testing.T) {
	t.Parallel()
	s := newSimulator(t, Config{})
	index := uint32(0)
	for s.world.reviewTotal(ref{index: index}) < 20 {
		index++
	}
	p := SyntheticPlace(0, index)
	rec := get(t, s, gmaps.ReviewsURL("", p.DataID, "en", "", 60, p.ReviewsToken))
	page, err := gmaps.DecodeReviews(rec.Body.Bytes(), nil)
	if err != nil || len(page.Reviews) == 0 {
		t.Fatalf("got %d reviews, %v", len(page.Reviews), err)
	}
	if want := SyntheticReviews(0, index, gmaps.OrderRelevant)[inlineReviews]; page.Reviews[0].ID != want.ID {
		t.Errorf("first review is %s, want %s", page.Reviews[0].ID, want.ID)
	}
}

func TestDetailIsFoundByDataIDAndByCIDAlone(t *testing.T) {
	t.Parallel()
	s := newSimulator(t, Config{Synthetic: 100})
	want := SyntheticPlace(0, 99)
	byCID, err := gmaps.PlaceRef{CID: want.CID}.FeatureID()
	if err != nil {
		t.Fatal(err)
	}
	for _, id := range []string{want.DataID, byCID} {
		got, err := gmaps.DecodePlace(get(t, s, gmaps.PlaceURL("", id, "en", ""), nid).Body.Bytes(), nil)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: place differs (-want +got):\n%s", id, diff)
		}
	}
	for _, id := range []string{SyntheticPlace(0, 100).DataID, "0x1:0x2", "nonsense"} {
		if _, err := gmaps.DecodePlace(get(t, s, gmaps.PlaceURL("", id, "en", ""), nid).Body.Bytes(), nil); err == nil {
			t.Errorf("%s, which is not there, gave a place", id)
		}
	}
}

func TestWithoutSessionFieldsAreTrimmed(t *testing.T) {
	t.Parallel()
	s := newSimulator(t, Config{})
	rec := get(t, s, "/maps?hl=en")
	if cookies := rec.Result().Cookies(); len(cookies) != 1 || cookies[0].Name != "NID" {
		t.Fatalf("cookies %v", cookies)
	}
	q := gmaps.Query{Keyword: "syntheticall"}
	counts := func(cookies ...string) (rated, counted int) {
		for offset := 0; offset < 2_000; offset += 20 {
			page, err := gmaps.DecodeSearch(get(t, s, gmaps.SearchURL("", q, offset), cookies...).Body.Bytes(), nil)
			if err != nil {
				t.Fatal(err)
			}
			for i := range page.Places {
				if page.Places[i].Rating > 0 {
					rated++
				}
				if page.Places[i].ReviewCount > 0 {
					counted++
				}
			}
		}
		return rated, counted
	}
	if rated, counted := counts(nid); rated != counted || rated < 1_000 {
		t.Errorf("with a session %d of %d rated places have a count", counted, rated)
	}
	if rated, counted := counts(); counted*10 < rated || counted*10 > rated*6 {
		t.Errorf("without a session %d of %d rated places have a count, want 10 to 60 %%", counted, rated)
	}
	target := gmaps.SearchURL("", q, 40)
	if get(t, s, target).Body.String() != get(t, s, target).Body.String() {
		t.Error("one request is trimmed in two ways")
	}
}

func TestConsentIsAskedUntilAnswered(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(newSimulator(t, Config{Consent: true}))
	defer server.Close()
	client := server.Client()
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	client.Jar = jar
	target := gmaps.SearchURL(server.URL, gmaps.Query{Keyword: "synthetic"}, 0)
	body := fetch(t, client, target)
	if !strings.Contains(body, `action="/consent.google`) || !strings.Contains(body, "Reject all") {
		t.Fatalf("no consent page:\n%s", body)
	}
	u, err := url.Parse(target)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := client.PostForm(server.URL+consentAction, url.Values{"continue": {u.RequestURI()}})
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	if page, err := gmaps.DecodeSearch(answer, nil); err != nil || len(page.Places) != 20 {
		t.Errorf("after consent: %d places, %v", len(page.Places), err)
	}
}

func TestConsentRedirectsStayOnTheHost(t *testing.T) {
	t.Parallel()
	for _, target := range []string{"https://evil.example/", "//evil.example", `/\evil.example`, "javascript:alert(1)", ""} {
		if got := localPath(target); got != "/maps" {
			t.Errorf("%q leads to %q", target, got)
		}
	}
}

func fetch(t *testing.T, client *http.Client, target string) string {
	t.Helper()
	resp, err := client.Get(target)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}

func TestFaultsAreActedOutAndCounted(t *testing.T) {
	t.Parallel()
	var next Fault
	s := newSimulator(t, Config{Fault: func(*http.Request) Fault { return next }})
	athens := &gmaps.Viewport{Center: gmaps.Point{Lat: 37.976, Lng: 23.735}, RadiusMeters: 8_000}
	target := gmaps.SearchURL("", gmaps.Query{Keyword: "synthetic", Viewport: athens}, 0)
	ask := func(f Fault) *httptest.ResponseRecorder {
		next = f
		return get(t, s, target, nid)
	}
	if rec := ask(FaultError); rec.Code != 500 {
		t.Errorf("error: status %d", rec.Code)
	}
	if rec := ask(FaultRate); rec.Code != 429 || rec.Header().Get("Retry-After") != "1" {
		t.Errorf("rate: status %d, Retry-After %q", rec.Code, rec.Header().Get("Retry-After"))
	}
	if rec := ask(FaultCaptcha); rec.Code != 302 || !strings.HasPrefix(rec.Header().Get("Location"), "/sorry/") {
		t.Errorf("captcha: status %d to %q", rec.Code, rec.Header().Get("Location"))
	}
	if rec := get(t, s, "/sorry/index"); rec.Code != 429 || !strings.Contains(rec.Body.String(), "captcha") {
		t.Errorf("sorry page: status %d", rec.Code)
	}
	if rec := ask(FaultConsent); rec.Code != 302 || !strings.HasPrefix(rec.Header().Get("Location"), "/consent?") {
		t.Errorf("consent: status %d to %q", rec.Code, rec.Header().Get("Location"))
	}
	for _, f := range []Fault{FaultTruncated, FaultGarbage} {
		rec := ask(f)
		if page, err := gmaps.DecodeSearch(rec.Body.Bytes(), nil); rec.Code != 200 || err == nil {
			t.Errorf("%s: status %d, %d places decoded", f, rec.Code, len(page.Places))
		}
	}
	page, err := gmaps.DecodeSearch(ask(FaultDegraded).Body.Bytes(), nil)
	if err != nil || len(page.Places) == 0 {
		t.Fatalf("degraded: %d places, %v", len(page.Places), err)
	}
	for i := range page.Places {
		if at := page.Places[i].Location; at != nil && meters(*at, athens.Center) < 1e6 {
			t.Errorf("degraded: place %v is in Athens", *at)
		}
	}
	page, err = gmaps.DecodeSearch(ask(FaultLimited).Body.Bytes(), nil)
	if err != nil || len(page.Places) != 20 {
		t.Fatalf("limited: %d places, %v", len(page.Places), err)
	}
	for i := range page.Places {
		if n := len(page.Places[i].Hours); n > 1 {
			t.Errorf("limited: hours of %d days", n)
		}
	}
	func() {
		defer func() {
			if v := recover(); v != http.ErrAbortHandler { //nolint:errorlint // the very value, as net/http compares it
				t.Errorf("cut: panic value %v", v)
			}
		}()
		ask(FaultCut)
	}()
	for _, f := range []Fault{FaultError, FaultRate, FaultCaptcha, FaultConsent, FaultTruncated, FaultGarbage, FaultDegraded, FaultLimited, FaultCut} {
		if n := s.Stats().Faults[f]; n != 1 {
			t.Errorf("%s was counted %d times", f, n)
		}
	}
	if n := s.Stats().Requests["search"]; n != 9 {
		t.Errorf("%d searches were counted, want 9", n)
	}
}

func TestCutAnswerEndsInTheMiddle(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(newSimulator(t, Config{Fault: func(*http.Request) Fault { return FaultCut }}))
	defer server.Close()
	resp, err := server.Client().Get(gmaps.SearchURL(server.URL, gmaps.Query{Keyword: "synthetic"}, 0))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if _, err := io.ReadAll(resp.Body); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("got %v, want an unexpected end", err)
	}
}

func TestHangEndsWithTheClient(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newSimulator(t, Config{Fault: func(*http.Request) Fault { return FaultHang }, Latency: time.Second})
		begin := time.Now()
		r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/maps?hl=en", nil)
		rec := httptest.NewRecorder()
		s.ServeHTTP(rec, r)
		if took := time.Since(begin); took < 10*time.Minute || rec.Body.Len() > 0 {
			t.Errorf("hung %v and sent %d bytes", took, rec.Body.Len())
		}
	})
}

func TestRatesAreKept(t *testing.T) {
	t.Parallel()
	s := newSimulator(t, Config{BlockRate: 0.2, ErrorRate: 0.1, Seed: 5})
	target := gmaps.ReviewsURL("", "0x1:0x2", "en", "", 60, "")
	for range 2_000 {
		func() {
			defer func() { _ = recover() }() // a cut
			get(t, s, target)
		}()
	}
	got := s.Stats().Faults
	blocked, failed := got[FaultRate]+got[FaultCaptcha]+got[FaultDegraded], got[FaultError]+got[FaultCut]+got[FaultTruncated]
	if blocked < 320 || blocked > 480 || failed < 140 || failed > 260 {
		t.Errorf("%d blocked and %d failed of 2000, want about 400 and 200", blocked, failed)
	}
}

func TestDegradedAnswersAreNeverEmptyNorWithoutViewport(t *testing.T) {
	t.Parallel()
	s := newSimulator(t, Config{BlockRate: 1, Synthetic: 2_000})
	newYork := &gmaps.Viewport{Center: gmaps.Point{Lat: 40.731, Lng: -73.994}, RadiusMeters: 5_000}
	degraded := 0
	for i := range 300 {
		q := gmaps.Query{Keyword: "synthetic"}
		if i%2 == 0 {
			q.Viewport = newYork
		}
		rec := get(t, s, gmaps.SearchURL("", q, i%6*20), nid)
		if rec.Code != http.StatusOK {
			continue
		}
		degraded++
		page, err := gmaps.DecodeSearch(rec.Body.Bytes(), nil)
		if err != nil || len(page.Places) == 0 || q.Viewport == nil {
			t.Fatalf("request %d, viewport %v: %d places, %v", i, q.Viewport, len(page.Places), err)
		}
		for j := range page.Places {
			if at := page.Places[j].Location; at != nil && meters(*at, newYork.Center) < 5e6 {
				t.Fatalf("a degraded answer holds a place %v m away", meters(*at, newYork.Center))
			}
		}
	}
	if degraded == 0 {
		t.Error("no answer was degraded")
	}
}

func TestLatencyDelaysAnswers(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newSimulator(t, Config{Latency: 100 * time.Millisecond})
		begin := time.Now()
		get(t, s, "/maps?hl=en")
		if took := time.Since(begin); took < 80*time.Millisecond || took > 120*time.Millisecond {
			t.Errorf("took %v", took)
		}
	})
}

func TestShortLinkLeadsToThePlace(t *testing.T) {
	t.Parallel()
	s := newSimulator(t, Config{})
	p := SyntheticPlace(0, 5)
	rec := get(t, s, s.ShortLink(p.DataID))
	if rec.Code != 302 || !strings.Contains(rec.Header().Get("Location"), "!1s"+p.DataID) {
		t.Errorf("status %d to %q", rec.Code, rec.Header().Get("Location"))
	}
	if rec := get(t, s, "/s/zzz"); rec.Code != 404 {
		t.Errorf("unknown link: status %d", rec.Code)
	}
}

func TestPagesHoldNoPlaceData(t *testing.T) {
	t.Parallel()
	s := newSimulator(t, Config{})
	p := SyntheticPlace(0, 5)
	for _, target := range []string{"/maps/place/x/data=!4m2!3m1!1s" + p.DataID, "/maps/place/?q=place_id:" + p.PlaceID, "/maps?cid=" + p.CID, "/maps/search/cafe/"} {
		rec := get(t, s, target)
		if rec.Code != 200 || strings.Contains(rec.Body.String(), p.Title) || rec.Header().Get("Set-Cookie") != "" {
			t.Errorf("%s: status %d, %d bytes", target, rec.Code, rec.Body.Len())
		}
	}
	for _, target := range []string{"/", "/healthz", "/simulator/stats"} {
		if rec := get(t, s, target); rec.Code != 200 {
			t.Errorf("%s: status %d", target, rec.Code)
		}
	}
	if body := get(t, s, "/").Body.String(); !strings.Contains(body, "synthetic 17/100") {
		t.Error("the index page does not explain shards")
	}
}

func TestConfigOutOfBoundsIsNamed(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]Config{
		"Synthetic": {Synthetic: -1}, "MaxPerQuery": {MaxPerQuery: -2}, "Latency": {Latency: -1}, "ErrorRate": {ErrorRate: 1.5}, "BlockRate": {BlockRate: -0.1}, "CapturesDir": {CapturesDir: "/nowhere"},
	} {
		if _, err := New(c); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: got %v", name, err)
		}
	}
}
