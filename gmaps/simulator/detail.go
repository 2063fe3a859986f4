package simulator

import (
	"encoding/json"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"gmaps-scraper/gmaps"
)

// noBody is Google's answer for an id that it does not know: a payload whose body is missing.
const noBody = `[null,[[25000000,0,0],[0,0,0],[1024,768],13.1],null,null,null,null,null]`

func (s *Simulator) serveDetail(w http.ResponseWriter, r *http.Request) {
	m, err := parsePB(r.URL.Query().Get("pb"))
	id, _ := m.message(1).get(1, 's')
	if err != nil || id.value == "" {
		s.log.Debug("detail not understood", "err", err)
		s.answer(w, r, func(e *encoder) { e.b = append(e.b, noAnswer...) })
		return
	}
	gate := s.gate(r)
	if raw, ok := s.captures.place(id.value); ok {
		s.counters.places.Add(1)
		s.answer(w, r, func(e *encoder) { e.b = append(e.b, gate.trimPlace(raw)...) })
		return
	}
	ref, ok := s.world.byDataID(id.value)
	if !ok {
		s.answer(w, r, func(e *encoder) { e.b = append(e.b, noBody...) })
		return
	}
	s.counters.places.Add(1)
	p := s.world.detail(ref)
	sh := gate.next(shape{detail: true, limited: faultOf(r) == FaultLimited})
	s.answer(w, r, func(e *encoder) { e.payload(p.CID, func() { e.place(p, sh) }) })
}

// payload writes P, a place payload, around the body D that body writes.
func (e *encoder) payload(cid string, body func()) {
	root := e.list()
	root.raw(1, "[[5000,0,0],[0,0,0],[1024,768],13.1]")
	root.at(6)
	body()
	root.nest(25, func(l *list) {
		l.raw(0, `[[2,"spotlit"]]`)
		l.nest2(3, func(l *list) {
			l.nest2(13, func(l *list) { l.nest(0, func(l *list) { l.raw(0, `"1506228664582330637"`); l.str(1, cid) }) })
		})
	})
	root.nest(31, func(l *list) { l.raw(0, `"1693854838972"`) })
	root.close()
}

// serveReviews answers GetLocalBoqProxy.
func (s *Simulator) serveReviews(w http.ResponseWriter, r *http.Request) {
	ask, ok := readReviews(r.URL.Query().Get("reqpld"))
	if !ok {
		http.Error(w, "Bad Request", http.StatusBadRequest)
		return
	}
	ref, known := s.world.byDataID(ask.dataID)
	offset := 0
	if known && ask.token != "" {
		var cid uint64
		cid, ask.order, offset, known = parseReviewToken(ask.token)
		known = known && cid == s.world.cid(ref)
	}
	var page []int
	next := ""
	if known {
		order := s.world.reviewOrder(ref, ask.order)
		end := min(offset+ask.size, len(order))
		page = order[min(offset, end):end]
		if end < len(order) {
			next = reviewToken(s.world.cid(ref), ask.order, end)
		}
	}
	at := spot{}
	if known {
		at = s.world.spot(ref)
	}
	s.answer(w, r, func(e *encoder) {
		root := e.list()
		root.nest(1, func(l *list) {
			l.nest(10, func(l *list) {
				l.nest(2, func(l *list) {
					for i, j := range page {
						v := s.world.review(ref, at, j)
						l.nest(i, func(l *list) { e.boqReview(l, &v) })
					}
				})
				l.str(6, next)
			})
		})
		root.close()
	})
}

type reviewRequest struct {
	dataID string
	order  gmaps.ReviewOrder
	size   int
	token  string
}

// readReviews reads a reqpld: [null,[null×9,I]], where I holds the order at 1, the page size at 9, [data id] at 11 and the token at 19.
func readReviews(text string) (reviewRequest, bool) {
	var outer []json.RawMessage
	var middle []json.RawMessage
	var inner []json.RawMessage
	var ids []string
	if json.Unmarshal([]byte(text), &outer) != nil || len(outer) < 2 ||
		json.Unmarshal(outer[1], &middle) != nil || len(middle) < 10 ||
		json.Unmarshal(middle[9], &inner) != nil || len(inner) < 12 ||
		json.Unmarshal(inner[11], &ids) != nil || len(ids) == 0 {
		return reviewRequest{}, false
	}
	out := reviewRequest{dataID: ids[0]}
	var order int
	if json.Unmarshal(inner[1], &order) != nil || json.Unmarshal(inner[9], &out.size) != nil {
		return reviewRequest{}, false
	}
	if len(inner) > 19 && json.Unmarshal(inner[19], &out.token) != nil {
		return reviewRequest{}, false
	}
	orders := [...]gmaps.ReviewOrder{gmaps.OrderRelevant, gmaps.OrderNewest, gmaps.OrderHighest, gmaps.OrderLowest}
	out.order = orders[0]
	if order >= 1 && order <= len(orders) {
		out.order = orders[order-1]
	}
	if out.size < 1 {
		out.size = 10
	}
	out.size = min(out.size, maxReviewPage)
	return out, true
}

func (s *Simulator) serveNoReviews(w http.ResponseWriter, r *http.Request) {
	s.answer(w, r, func(e *encoder) { e.b = append(e.b, "[null,null,null]"...) })
}

// ShortLink is the path of a place's short link on this Simulator, as maps.app.goo.gl gives out: "/s/…".
// It is empty for an id that is no data id.
func (s *Simulator) ShortLink(dataID string) string {
	_, low, ok := splitDataID(dataID)
	if !ok {
		return ""
	}
	return "/s/" + strconv.FormatUint(low, 36)
}

func (s *Simulator) serveShortLink(w http.ResponseWriter, r *http.Request) {
	cid, err := strconv.ParseUint(r.PathValue("code"), 36, 64)
	if err != nil {
		http.NotFound(w, r)
		return
	}
	var title, id string
	if captured, ok := s.captures.byCID[cid]; ok {
		title, id = "place", captured
	} else if ref, ok := s.world.byCID(cid); ok {
		p := s.world.listing(ref)
		title, id = p.Title, p.DataID
	} else {
		http.NotFound(w, r)
		return
	}
	target := "/maps/place/" + strings.ReplaceAll(url.PathEscape(title), "%20", "+") + "/data=!4m2!3m1!1s" + id + "?hl=en"
	http.Redirect(w, r, target, http.StatusFound)
}
