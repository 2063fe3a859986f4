package simulator

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// captures are payloads that Google really sent.
type captures struct {
	searches []capturedSearch
	entries  map[string]json.RawMessage // D by data id, from searches and places
	order    []string                   // data ids as they were read
	places   map[string]json.RawMessage // P by data id
	byCID    map[uint64]string
}

type capturedSearch struct {
	query string
	raw   []byte
	ids   []string
}

func (c *captures) empty() bool { return len(c.order) == 0 }

func readCaptures(dir string) (*captures, error) {
	c := &captures{entries: map[string]json.RawMessage{}, places: map[string]json.RawMessage{}, byCID: map[uint64]string{}}
	if dir == "" {
		return c, nil
	}
	files, err := os.ReadDir(dir) // sorted
	if err != nil {
		return nil, fmt.Errorf("simulator: CapturesDir: %w", err)
	}
	for _, f := range files {
		name := f.Name()
		isSearch, isPlace := strings.HasPrefix(name, "search-"), strings.HasPrefix(name, "place-")
		if !isSearch && !isPlace || !strings.HasSuffix(name, ".json") || strings.HasSuffix(name, ".expected.json") {
			continue
		}
		raw, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			return nil, fmt.Errorf("simulator: CapturesDir: %w", err)
		}
		raw = bytes.TrimPrefix(raw, []byte(jsonPrefix))
		add := c.addPlace
		if isSearch {
			add = c.addSearch
		}
		if !add(raw) {
			return nil, fmt.Errorf("simulator: CapturesDir: %s is no Maps payload", filepath.Join(dir, name))
		}
	}
	return c, nil
}

// elements splits an array. Google leaves line breaks unescaped inside strings, which encoding/json refuses.
func elements(raw []byte) []json.RawMessage {
	var out []json.RawMessage
	clean := bytes.Map(func(r rune) rune {
		if r < ' ' {
			return ' '
		}
		return r
	}, raw)
	_ = json.Unmarshal(clean, &out) // what is no array has no elements
	return out
}

// walk follows indices into nested arrays; nil if the way ends.
func walk(raw json.RawMessage, path ...int) json.RawMessage {
	for _, i := range path {
		list := elements(raw)
		if i >= len(list) {
			return nil
		}
		raw = list[i]
	}
	return raw
}

func text(raw json.RawMessage) string {
	var s string
	_ = json.Unmarshal(raw, &s) // what is no string is empty
	return s
}

func (c *captures) addEntry(d json.RawMessage) string {
	id := text(walk(d, 10))
	_, low, ok := splitDataID(id)
	if !ok {
		return ""
	}
	if _, known := c.entries[id]; !known {
		c.entries[id], c.byCID[low] = d, id
		c.order = append(c.order, id)
	}
	return id
}

func (c *captures) addSearch(raw []byte) bool {
	head := elements(walk(raw, 0))
	if len(head) < 2 {
		return false
	}
	found := capturedSearch{query: strings.ToLower(text(head[0])), raw: raw}
	for _, element := range elements(head[1]) {
		if list := elements(element); len(list) > 14 {
			if id := c.addEntry(list[14]); id != "" {
				found.ids = append(found.ids, id)
			}
		}
	}
	c.searches = append(c.searches, found)
	return found.query != ""
}

func (c *captures) addPlace(raw []byte) bool {
	id := c.addEntry(walk(raw, 6))
	c.places[id] = raw
	return id != ""
}

// place returns P of a captured place, or a P around its search entry.
func (c *captures) place(id string) (json.RawMessage, bool) {
	high, low, ok := splitDataID(id)
	if ok && high == 0 {
		id = c.byCID[low]
	}
	if p, ok := c.places[id]; ok {
		return p, true
	}
	d, ok := c.entries[id]
	if !ok {
		return nil, false
	}
	e := &encoder{}
	e.payload(strconv.FormatUint(low, 10), func() { e.b = append(e.b, d...) })
	return e.b, true
}

// matching returns the data ids that a keyword finds, and the answer as it was captured if that is all of one search.
func (c *captures) matching(keyword string) (ids []string, whole []byte) {
	keyword = strings.ToLower(strings.TrimSpace(keyword))
	var found []capturedSearch
	for _, s := range c.searches {
		if s.query == keyword {
			found = append(found, s)
		}
	}
	if len(found) == 0 {
		return c.order, nil
	}
	if len(found) == 1 {
		whole = found[0].raw
	}
	for _, s := range found {
		for _, id := range s.ids {
			if !slices.Contains(ids, id) {
				ids = append(ids, id)
			}
		}
	}
	return ids, whole
}

func (s *Simulator) serveCapturedSearch(w http.ResponseWriter, r *http.Request, keyword string, req searchRequest) {
	ids, whole := s.captures.matching(keyword)
	fits := req.offset == 0 && req.size == pageSize && len(ids) <= pageSize && !req.short
	ids = ids[min(req.offset, len(ids)):]
	ids = ids[:min(req.size, len(ids))]
	s.counters.places.Add(int64(len(ids)))
	gate := s.gate(r)
	if whole != nil && fits && gate.open {
		s.answer(w, r, func(e *encoder) { e.b = append(e.b, whole...) })
		return
	}
	s.answer(w, r, func(e *encoder) {
		e.search(keyword, req, len(ids), func(i int) { e.b = append(e.b, gate.trim(s.captures.entries[ids[i]])...) })
	})
}

// trim takes from a captured D what gate.next takes from a synthetic one.
func (g *gate) trim(d json.RawMessage) json.RawMessage {
	if g.open {
		return d
	}
	sh := g.next(shape{})
	list := elements(d)
	null := json.RawMessage("null")
	cut := func(on bool, index int) {
		if on && index < len(list) {
			list[index] = null
		}
	}
	cut(sh.noTraffic, 84)
	cut(sh.noAbout, 100)
	cut(sh.noGallery, 171)
	if rating := elements(walk(d, 4)); sh.noCount && len(rating) > 8 {
		rating[8] = null
		list[4] = join(rating)
	}
	if opinions := elements(walk(d, 175)); sh.noHistogram && len(opinions) > 3 {
		opinions[3] = null
		list[175] = join(opinions)
	}
	return join(list)
}

func (g *gate) trimPlace(p json.RawMessage) json.RawMessage {
	list := elements(p)
	if g.open || len(list) < 7 {
		return p
	}
	list[6] = g.trim(list[6])
	return join(list)
}

func join(list []json.RawMessage) json.RawMessage {
	out := []byte{'['}
	for i, e := range list {
		if i > 0 {
			out = append(out, ',')
		}
		out = append(out, e...)
	}
	return append(out, ']')
}
