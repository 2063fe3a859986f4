package simulator

import (
	"encoding/base64"
	"encoding/binary"
	"math"
	"slices"
	"strconv"
	"strings"
	"sync"

	"gmaps-scraper/gmaps"
)

// Streams of random numbers, one for each aspect, so that an aspect can be made without the others.
const (
	streamPosition = iota + 1
	streamListing
	streamDetail
	streamReview
	streamNeighborhood
)

const (
	indexBits = 40 // a place's id holds its index in the low bits and its set's tag above
	maxIndex  = 1 << indexBits
	// keptTrees bounds how many sets' positions are held; another set's are made anew, ~1 s for a million places.
	keptTrees = 8
)

// world is all synthetic places of one seed. It is safe for concurrent use.
type world struct {
	seed       uint64
	size       int // places of each set
	cities     []city
	languages  map[string]language
	categories []category
	features   []gmaps.AboutSection

	mu    sync.Mutex
	trees []*treeSlot // least recently used first
}

type treeSlot struct {
	set  uint64
	once sync.Once
	tree tree
}

func newWorld(seed uint64, size int) *world {
	return &world{seed: seed, size: size, cities: cities(), languages: languages(), categories: categories(), features: features()}
}

// setTag is what stands for a set's name in ids. The default set is 0.
func setTag(name string) uint64 {
	if name == "" {
		return 0
	}
	return max(hash(strings.ToLower(name))>>indexBits, 1)
}

// ref is one synthetic place.
type ref struct {
	set   uint64
	index uint32
}

func (w *world) stream(r ref, aspect uint64, more ...uint64) random {
	s := newRandom(w.seed, r.set, uint64(r.index), aspect)
	for _, m := range more {
		s = newRandom(uint64(s), m)
	}
	return s
}

// cid is a bijection of (set, index): an id alone names its place, in any process with the seed.
func (w *world) cid(r ref) uint64 {
	return mix((r.set<<indexBits | uint64(r.index)) ^ mix(w.seed+golden))
}

func (w *world) featureHigh(cid uint64) uint64 { return mix(cid ^ mix(w.seed^golden)) }

func (w *world) dataID(r ref) string {
	cid := w.cid(r)
	return "0x" + strconv.FormatUint(w.featureHigh(cid), 16) + ":0x" + strconv.FormatUint(cid, 16)
}

func (w *world) byCID(cid uint64) (ref, bool) {
	v := unmix(cid) ^ mix(w.seed+golden)
	index := v & (maxIndex - 1)
	if index >= uint64(w.size) {
		return ref{}, false
	}
	return ref{set: v >> indexBits, index: uint32(index)}, true
}

// byDataID finds the place of a feature id. As Google does, it takes 0x0 for an unknown first half.
func (w *world) byDataID(id string) (ref, bool) {
	high, low, ok := splitDataID(id)
	if !ok {
		return ref{}, false
	}
	r, ok := w.byCID(low)
	return r, ok && (high == 0 || high == w.featureHigh(low))
}

func splitDataID(id string) (high, low uint64, ok bool) {
	a, b, ok := strings.Cut(id, ":")
	a, okA := strings.CutPrefix(a, "0x")
	b, okB := strings.CutPrefix(b, "0x")
	high, errA := strconv.ParseUint(a, 16, 64)
	low, errB := strconv.ParseUint(b, 16, 64)
	return high, low, ok && okA && okB && errA == nil && errB == nil
}

// placeID is the public API's id of a feature, which holds both halves little-endian.
func placeID(high, low uint64) string {
	b := make([]byte, 0, 20)
	b = binary.LittleEndian.AppendUint64(append(b, 0x0a, 0x12, 0x09), high)
	b = binary.LittleEndian.AppendUint64(append(b, 0x11), low)
	return base64.RawURLEncoding.EncodeToString(b)
}

// spot is where a place is and what it is: all that a search has to know.
type spot struct {
	lat, lng     float64
	city         int
	neighborhood int
}

const (
	neighborhoods = 12
	metersPerLat  = earthRadiusMeters * math.Pi / 180
)

// spot puts most places into one of the twelve neighbourhoods of a city, one in twenty into the country around it.
func (w *world) spot(r ref) spot {
	s := w.stream(r, streamPosition)
	at := spot{city: s.below(len(w.cities)), neighborhood: s.below(neighborhoods)}
	c := &w.cities[at.city]
	if s.chance(5) {
		at.lat, at.lng = move(c.lat, c.lng, 60_000*math.Sqrt(s.float()), 2*math.Pi*s.float())
		return at
	}
	n := newRandom(w.seed, streamNeighborhood, uint64(at.city), uint64(at.neighborhood))
	lat, lng := move(c.lat, c.lng, 5_000*n.float(), 2*math.Pi*n.float())
	// The sum of three is bell-shaped enough: dense in the middle, about 1.2 km to the edge.
	out := 1_200 * math.Abs(s.float()+s.float()+s.float()-1.5) / 1.5
	at.lat, at.lng = move(lat, lng, out, 2*math.Pi*s.float())
	return at
}

// move goes some meters in a direction and rounds to 1e-7 degrees, which is what Google sends.
func move(lat, lng, meters, direction float64) (float64, float64) {
	sin, cos := math.Sincos(direction)
	lng += meters * sin / (metersPerLat * math.Cos(lat*math.Pi/180))
	lat += meters * cos / metersPerLat
	if lng > 180 {
		lng -= 360
	}
	return math.Round(lat*1e7) / 1e7, math.Round(lng*1e7) / 1e7
}

func (w *world) category(r ref) int {
	return int(mix(w.seed^r.set<<32^uint64(r.index)*golden) % uint64(len(w.categories)))
}

// tree returns the positions of a set's places.
func (w *world) tree(set uint64) tree {
	w.mu.Lock()
	i := slices.IndexFunc(w.trees, func(t *treeSlot) bool { return t.set == set })
	var slot *treeSlot
	if i >= 0 {
		slot = w.trees[i]
		w.trees = slices.Delete(w.trees, i, i+1)
	} else {
		slot = &treeSlot{set: set}
		if len(w.trees) >= keptTrees {
			w.trees = slices.Delete(w.trees, 0, 1)
		}
	}
	w.trees = append(w.trees, slot)
	w.mu.Unlock()

	slot.once.Do(func() {
		nodes := make([]node, w.size)
		for i := range nodes {
			at := w.spot(ref{set, uint32(i)})
			nodes[i] = node{sphere(at.lat, at.lng), uint32(i)}
		}
		slot.tree = newTree(nodes)
	})
	return slot.tree
}

// find returns the indices that a question selects, in the order of their pages; limit 0 is no bound.
func (w *world) find(q question, a area, limit int) []uint32 {
	keep := func(id uint32) bool {
		return (q.shards == 0 || int(id)%q.shards == q.shard) && (q.category < 0 || w.category(ref{q.set, id}) == q.category)
	}
	switch {
	case q.nothing:
		return nil
	case a.world() && q.city >= 0:
		a = area{lat: w.cities[q.city].lat, lng: w.cities[q.city].lng, radiusMeters: cityRadiusMeters}
	case a.world():
		var ids []uint32
		for id := q.shard; id < w.size && (limit == 0 || len(ids) < limit); id += max(q.shards, 1) {
			if keep(uint32(id)) {
				ids = append(ids, uint32(id))
			}
		}
		return ids
	}
	return w.tree(q.set).nearest(a, limit, keep)
}
