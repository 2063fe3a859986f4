package web

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"hash/fnv"

	"gmaps-scraper/gmaps"
)

// position is what a Cursor holds.
type position struct {
	Offset int    `json:"o"`           // of the next page
	Pages  int    `json:"p"`           // asked so far
	Barren int    `json:"b,omitempty"` // pages in a row that brought nothing new
	Found  int    `json:"f,omitempty"` // places so far
	Seen   filter `json:"s,omitzero"`
}

// filter is a Bloom filter of 2048 bits over the keys of the places found before a cursor. It only helps to decide whether a page
// brought anything new: a false positive (under 1 % after 120 places, a third after filterPlaces) never drops a place, and a whole page
// of them will not happen.
type filter [256]byte

// filterPlaces is how many places a filter remembers: as many as Google was seen to give one query. A longer search carries none, and
// may ask some pages in vain when it is resumed where Google repeats itself.
const filterPlaces = 800

const filterHashes = 3

// hashKey stands for a place's key in memory and in filters. Two of 100,000 places share one with a chance of 1 in 4 billion.
func hashKey(key string) uint64 {
	h := fnv.New64a()
	_, _ = h.Write([]byte(key)) // never fails
	return h.Sum64()
}

func (f *filter) has(hash uint64) bool {
	for i := range uint64(filterHashes) {
		if at, bit := f.bit(hash, i); f[at]&bit == 0 {
			return false
		}
	}
	return true
}

func (f *filter) add(hash uint64) {
	for i := range uint64(filterHashes) {
		at, bit := f.bit(hash, i)
		f[at] |= bit
	}
}

// bit is the i-th bit of hash, by double hashing.
func (f *filter) bit(hash, i uint64) (at uint64, bit byte) {
	n := (hash + i*(hash>>32|1)) % uint64(len(f)*8)
	return n / 8, 1 << (n % 8)
}

func (f filter) MarshalText() ([]byte, error) {
	return base64.RawStdEncoding.AppendEncode(nil, f[:]), nil
}

func (f *filter) UnmarshalText(text []byte) error {
	b, err := base64.RawStdEncoding.DecodeString(string(text))
	if err != nil || len(b) != len(f) {
		return fmt.Errorf("the filter is not %d bytes of base64", len(f))
	}
	copy(f[:], b)
	return nil
}

func (p position) cursor() gmaps.Cursor {
	b, _ := json.Marshal(p) // numbers and a text always encode
	return gmaps.Cursor(b)
}

func parseCursor(c gmaps.Cursor) (position, error) {
	var p position
	if c == "" {
		return p, nil
	}
	if err := json.Unmarshal([]byte(c), &p); err != nil {
		return p, fmt.Errorf("cursor: %w", err)
	}
	if p.Offset < 0 || p.Pages < 0 || p.Barren < 0 || p.Found < 0 {
		return p, fmt.Errorf("cursor: a number is below 0")
	}
	return p, nil
}
