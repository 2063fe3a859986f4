package simulator

import (
	"net/http"
	"sync"
)

// noAnswer is what Google sends for a pb that it cannot read: neither places nor an error.
const noAnswer = `[]`

func (s *Simulator) serveSearch(w http.ResponseWriter, r *http.Request) {
	values := r.URL.Query()
	if values.Get("tbm") != "map" {
		s.servePage(w, r)
		return
	}
	keyword := values.Get("q")
	req, err := readSearch(values.Get("pb"))
	if err != nil || keyword == "" {
		s.log.Debug("search not understood", "err", err)
		s.answer(w, r, func(e *encoder) { e.b = append(e.b, noAnswer...) })
		return
	}
	fault := faultOf(r)
	q, synthetic := s.world.parse(keyword)
	if !synthetic && !s.captures.empty() && fault != FaultDegraded {
		s.serveCapturedSearch(w, r, keyword, req)
		return
	}
	var ids []uint32
	if fault == FaultDegraded {
		ids = s.degradedResults(keyword, req.area)
	} else {
		ids = s.results(q, req.area)
	}
	if fault == FaultLimited {
		ids = ids[:min(len(ids), pageSize)]
	}
	ids = ids[min(req.offset, len(ids)):]
	ids = ids[:min(req.size, len(ids))]
	s.counters.places.Add(int64(len(ids)))
	gate := s.gate(r)
	s.answer(w, r, func(e *encoder) {
		e.search(keyword, req, len(ids), func(i int) {
			p := ref{q.set, ids[i]}
			if req.short {
				e.place(s.world.detail(p), gate.next(shape{browser: true, limited: fault == FaultLimited}))
				return
			}
			e.place(s.world.listing(p), gate.next(shape{limited: fault == FaultLimited}))
		})
	})
}

// results are the places of a search in the order of its pages.
func (s *Simulator) results(q question, a area) []uint32 {
	limit := s.config.MaxPerQuery
	if q.all || limit == Unbounded {
		limit = 0
	}
	key := resultKey{q, a, limit}
	if ids, ok := s.lists.get(key); ok {
		return ids
	}
	ids := s.world.find(q, a, limit)
	s.lists.put(key, ids)
	return ids
}

// search writes S, the answer to a search, with n entries that body writes.
func (e *encoder) search(keyword string, req searchRequest, n int, body func(i int)) {
	root := e.list()
	root.nest(0, func(l *list) {
		l.str(0, keyword)
		if !req.short {
			l.nest(1, func(l *list) {
				l.nest(0, func(l *list) { e.session(l); l.nest(10, func(l *list) { l.str(0, keyword); l.int(1, 0) }) })
				for i := range n {
					l.nest(i+1, func(l *list) { e.session(l); l.at(14); body(i) })
				}
			})
		}
		l.int(3, 1)
	})
	root.nest(1, func(l *list) {
		diameter := 2 * req.area.radiusMeters
		if req.area.world() {
			diameter = earthDiameterMeters
		}
		l.nest(0, func(l *list) { l.float(0, diameter); l.float(1, req.area.lng); l.float(2, req.area.lat) })
		l.raw(1, "[0,0,0],[1024,768],13.1")
	})
	root.raw(7, `"vWFdZ_7JMNefhbIPxqWFmAc"`)
	if req.short {
		root.nest(64, func(l *list) {
			for i := range n {
				l.nest(i, func(l *list) { l.at(1); body(i) })
			}
		})
	}
	root.close()
}

func (e *encoder) session(l *list) {
	l.raw(8, `"vWFdZ_7JMNefhbIPxqWFmAc"`)
	l.raw(9, `"0ahUKEwi-nKmliqeKAxXXT0EAHcZSAXMQmBkIAigA"`)
}

// gate takes fields away from the entries of an answer without session.
type gate struct {
	open   bool
	chance random
	counts float64 // share of entries that keep their review count: 0 to 0.6, by answer (measured by others, 2026)
}

func (s *Simulator) gate(r *http.Request) *gate {
	if hasSession(r) {
		return &gate{open: true}
	}
	g := &gate{chance: newRandom(s.config.Seed, hash(r.URL.RequestURI()))}
	g.counts = 0.6 * g.chance.float()
	return g
}

// next is sh with what the next entry must leave out.
func (g *gate) next(sh shape) shape {
	if g.open {
		return sh
	}
	sh.noCount = g.chance.float() >= g.counts
	sh.noHistogram, sh.noTraffic = g.chance.chance(80), g.chance.chance(80)
	sh.noGallery, sh.noAbout = g.chance.chance(80), g.chance.chance(80)
	return sh
}

// resultCache keeps the results of the latest searches, since their pages are asked for one by one.
type resultCache struct {
	mu    sync.Mutex
	lists map[resultKey][]uint32
	order []resultKey // oldest first
	held  int         // ids in all lists
}

type resultKey struct {
	question question
	area     area
	limit    int
}

const (
	maxResultLists = 1024
	maxResultIDs   = 8 << 20
)

func (c *resultCache) get(k resultKey) ([]uint32, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	ids, ok := c.lists[k]
	return ids, ok
}

func (c *resultCache) put(k resultKey, ids []uint32) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.lists == nil {
		c.lists = map[resultKey][]uint32{}
	}
	if _, ok := c.lists[k]; ok {
		return
	}
	c.lists[k] = ids
	c.order = append(c.order, k)
	c.held += len(ids)
	for len(c.order) > maxResultLists || c.held > maxResultIDs && len(c.order) > 1 {
		c.held -= len(c.lists[c.order[0]])
		delete(c.lists, c.order[0])
		c.order = c.order[1:]
	}
}
