package web

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"hash/fnv"

	"gmaps-scraper/gmaps"
)

// position is what a Cursor holds. A search that goes on from it asks the same pages and stops at the same one as the search that made it.
type position struct {
	Offset int    `json:"o"`           // of the next page
	Pages  int    `json:"p"`           // asked so far
	Barren int    `json:"b,omitempty"` // pages in a row that brought nothing new
	Found  int    `json:"f,omitempty"` // places so far
	Seen   filter `json:"s,omitzero"`
}

// filter is a Bloom filter of 2048 bits over the keys of the places found. It only decides whether a page brought anything new: a false
// positive (under 1 % at 120 places, a third at 800) never drops a place, and a whole page of them will not happen.
type filter [256]byte

const filterHashes = 3

// add says whether key is new, and remembers it.
func (f *filter) add(key string) bool {
	h := fnv.New64a()
	_, _ = h.Write([]byte(key)) // never fails
	sum := h.Sum64()
	isNew := false
	for i := range uint64(filterHashes) {
		// Double hashing: three bits of one sum.
		bit := (sum + i*(sum>>32|1)) % (uint64(len(f)) * 8)
		if f[bit/8]&(1<<(bit%8)) == 0 {
			isNew = true
			f[bit/8] |= 1 << (bit % 8)
		}
	}
	return isNew
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
