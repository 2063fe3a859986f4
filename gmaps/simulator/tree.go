package simulator

import (
	"cmp"
	"math"
	"slices"
)

const (
	earthRadiusMeters = 6_371_008.8 // mean radius, IUGG
	// earthDiameterMeters is the viewport diameter from which on a search is worldwide.
	earthDiameterMeters = 25_000_000
)

// area is a circle on the earth. A radius of 0 is the whole earth.
type area struct{ lat, lng, radiusMeters float64 }

var wholeEarth = area{}

func (a area) world() bool { return a.radiusMeters == 0 }

// vector is a point on the unit sphere: circles cross the poles and the date line without special cases.
type vector [3]float32

func sphere(lat, lng float64) vector {
	sinLat, cosLat := math.Sincos(lat * math.Pi / 180)
	sinLng, cosLng := math.Sincos(lng * math.Pi / 180)
	return vector{float32(cosLat * cosLng), float32(cosLat * sinLng), float32(sinLat)}
}

func distance2(a, b vector) float32 {
	x, y, z := a[0]-b[0], a[1]-b[1], a[2]-b[2]
	return x*x + y*y + z*z
}

// chord2 is the squared straight distance on the unit sphere of two points that are meters apart on the ground.
func chord2(meters float64) float32 {
	if meters >= earthRadiusMeters*math.Pi {
		return 5 // more than any two points have
	}
	c := 2 * math.Sin(meters/earthRadiusMeters/2)
	return float32(c * c)
}

// tree is a balanced k-d tree without pointers: the median of a range is its root. 16 bytes a place.
type tree []node

type node struct {
	at vector
	id uint32
}

// newTree takes ownership of nodes.
func newTree(nodes []node) tree {
	t := tree(nodes)
	t.sort(0)
	return t
}

func (t tree) sort(axis int) {
	for len(t) > 1 {
		mid := len(t) / 2
		t.selectMedian(mid, axis)
		t[:mid].sort((axis + 1) % 3)
		t, axis = t[mid+1:], (axis+1)%3
	}
}

// selectMedian is quickselect: afterwards t[k] stands where sorting by (coordinate, id) would put it.
func (t tree) selectMedian(k, axis int) {
	less := func(a, b node) bool {
		if a.at[axis] != b.at[axis] {
			return a.at[axis] < b.at[axis]
		}
		return a.id < b.id
	}
	lo, hi := 0, len(t)-1
	for lo < hi {
		mid := lo + (hi-lo)/2
		if less(t[mid], t[lo]) {
			t[mid], t[lo] = t[lo], t[mid]
		}
		if less(t[hi], t[lo]) {
			t[hi], t[lo] = t[lo], t[hi]
		}
		if less(t[hi], t[mid]) {
			t[hi], t[mid] = t[mid], t[hi]
		}
		pivot := t[mid]
		i, j := lo, hi
		for i <= j {
			for less(t[i], pivot) {
				i++
			}
			for less(pivot, t[j]) {
				j--
			}
			if i <= j {
				t[i], t[j] = t[j], t[i]
				i, j = i+1, j-1
			}
		}
		switch {
		case k <= j:
			hi = j
		case k >= i:
			lo = i
		default:
			return
		}
	}
}

// hit is a place and its squared distance.
type hit struct {
	d2 float32
	id uint32
}

func compareHits(a, b hit) int {
	return cmp.Or(cmp.Compare(a.d2, b.d2), cmp.Compare(a.id, b.id))
}

// nearest returns the ids inside the area that keep accepts, nearest first, limit at most (0: all).
func (t tree) nearest(a area, limit int, keep func(uint32) bool) []uint32 {
	s := nearestSearch{from: sphere(a.lat, a.lng), reach: chord2(a.radiusMeters), limit: limit, keep: keep}
	s.visit(t, 0)
	slices.SortFunc(s.hits, compareHits)
	ids := make([]uint32, len(s.hits))
	for i, h := range s.hits {
		ids[i] = h.id
	}
	return ids
}

type nearestSearch struct {
	from  vector
	reach float32 // squared; shrinks to the worst hit once limit hits are held
	limit int
	keep  func(uint32) bool
	hits  []hit // a max-heap once full
}

func (s *nearestSearch) visit(t tree, axis int) {
	if len(t) == 0 {
		return
	}
	mid := len(t) / 2
	n := t[mid]
	if d2 := distance2(s.from, n.at); d2 <= s.reach && s.keep(n.id) {
		s.add(hit{d2, n.id})
	}
	next := (axis + 1) % 3
	near, far := t[:mid], t[mid+1:]
	gap := s.from[axis] - n.at[axis]
	if gap > 0 {
		near, far = far, near
	}
	s.visit(near, next)
	if gap*gap <= s.reach {
		s.visit(far, next)
	}
}

func (s *nearestSearch) add(h hit) {
	if s.limit == 0 || len(s.hits) < s.limit {
		s.hits = append(s.hits, h)
		if len(s.hits) == s.limit {
			slices.SortFunc(s.hits, func(a, b hit) int { return compareHits(b, a) })
			s.reach = s.hits[0].d2
		}
		return
	}
	if compareHits(h, s.hits[0]) >= 0 {
		return
	}
	s.hits[0] = h
	for i := 0; ; { // sift down
		worst := i
		for _, c := range [2]int{2*i + 1, 2*i + 2} {
			if c < len(s.hits) && compareHits(s.hits[c], s.hits[worst]) > 0 {
				worst = c
			}
		}
		if worst == i {
			break
		}
		s.hits[i], s.hits[worst] = s.hits[worst], s.hits[i]
		i = worst
	}
	s.reach = s.hits[0].d2
}
