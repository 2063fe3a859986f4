package gmaps

import (
	"cmp"
	"encoding/base64"
	"encoding/binary"
	"strconv"
	"strings"
)

// featureID is Google's name for a place. Data id, CID and place id are three spellings of it.
type featureID struct{ high, low uint64 }

// parseDataID reads "0x14e7…:0xe541…".
func parseDataID(s string) (_ featureID, ok bool) {
	first, second, ok := strings.Cut(s, ":")
	if !ok {
		return featureID{}, false
	}
	high, ok1 := parseHex(first)
	low, ok2 := parseHex(second)
	if !ok1 || !ok2 || low == 0 {
		return featureID{}, false
	}
	return featureID{high, low}, true
}

func parseHex(s string) (_ uint64, ok bool) {
	digits, ok := strings.CutPrefix(s, "0x")
	if !ok {
		return 0, false
	}
	n, err := strconv.ParseUint(digits, 16, 64)
	return n, err == nil
}

// The place ids that hold a feature id are a protocol buffer in base64url: field 1 is a message of 18 bytes
// whose fields 1 and 2 are the two halves as fixed 64-bit numbers.
const (
	placeIDSize = 2 + 1 + 8 + 1 + 8
	placeIDHead = "\x0a\x12\x09"
	placeIDMid  = '\x11'
)

// parsePlaceID reads "ChIJ…". Place ids of other make hold no feature id.
func parsePlaceID(s string) (_ featureID, ok bool) {
	b, err := base64.RawURLEncoding.DecodeString(s)
	if err != nil || len(b) != placeIDSize || string(b[:3]) != placeIDHead || b[11] != placeIDMid {
		return featureID{}, false
	}
	id := featureID{binary.LittleEndian.Uint64(b[3:]), binary.LittleEndian.Uint64(b[12:])}
	return id, id.low != 0
}

// parseLinkedID reads the data id out of a link to a place page (…!1s0x…:0x…!…).
func parseLinkedID(link string) (_ featureID, ok bool) {
	_, rest, ok := strings.Cut(link, "!1s0x")
	if !ok {
		return featureID{}, false
	}
	if end := strings.IndexAny(rest, "!?&/"); end >= 0 {
		rest = rest[:end]
	}
	return parseDataID("0x" + rest)
}

func (id featureID) dataID() string {
	b := append(make([]byte, 0, 37), "0x"...)
	b = strconv.AppendUint(b, id.high, 16)
	b = append(b, ":0x"...)
	return string(strconv.AppendUint(b, id.low, 16))
}

func (id featureID) cid() string { return strconv.FormatUint(id.low, 10) }

func (id featureID) placeID() string {
	b := append(make([]byte, 0, placeIDSize), placeIDHead...)
	b = binary.LittleEndian.AppendUint64(b, id.high)
	b = append(b, placeIDMid)
	b = binary.LittleEndian.AppendUint64(b, id.low)
	return base64.RawURLEncoding.EncodeToString(b)
}

// decodeIdentity sets the three ids from whichever Google sent. It reports false if there is none.
// The data id is spelled anew, so that one place has one key.
func (p *Place) decodeIdentity(f fields) bool {
	sent := f.text("data_id", 10)
	p.PlaceID = f.text("place_id", 78)
	id, ok := parseDataID(sent)
	if sent != "" && !ok {
		f.drift.count(f.array, "data_id", 10)
	}
	if !ok {
		id, ok = parsePlaceID(p.PlaceID)
	}
	if !ok {
		id, ok = parseLinkedID(f.text("link", 27))
	}
	if !ok {
		id, ok = parseDataID(f.text("data_id", 227, 0, 0)) // a second copy of all ids
		p.PlaceID = cmp.Or(p.PlaceID, f.text("place_id", 227, 0, 4))
	}
	if !ok {
		return p.PlaceID != ""
	}
	p.setIdentity(id)
	return true
}

func (p *Place) setIdentity(id featureID) {
	p.DataID, p.CID = id.dataID(), id.cid()
	if p.PlaceID == "" {
		p.PlaceID = id.placeID()
	}
}
