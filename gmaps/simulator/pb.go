package simulator

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// pbItem is one element of Google's "protobuf in a URL": "!{field}{type}{value}". A message holds its items.
type pbItem struct {
	field int
	kind  byte // b, d, e, f, i, m, s and their likes
	value string
	items pbMessage
}

type pbMessage []pbItem

const (
	pbMaxItems = 4096
	pbMaxDepth = 32
)

var errPB = errors.New("malformed pb")

// parsePB reads a pb parameter. The number after m counts all items below a message, nested ones too.
// A count that runs over its parent, an unknown type or a wrong number is an error, where Google's answer is empty.
func parsePB(s string) (pbMessage, error) {
	rest, ok := strings.CutPrefix(s, "!")
	if !ok {
		return nil, fmt.Errorf("%w: no ! at its front", errPB)
	}
	if strings.Count(rest, "!") >= pbMaxItems {
		return nil, fmt.Errorf("%w: more than %d items", errPB, pbMaxItems)
	}
	tokens := strings.Split(rest, "!")
	return parseItems(tokens, pbMaxDepth)
}

func parseItems(tokens []string, depth int) (pbMessage, error) {
	if depth == 0 {
		return nil, fmt.Errorf("%w: nested too deep", errPB)
	}
	var items pbMessage
	for len(tokens) > 0 {
		item, err := parseItem(tokens[0])
		if err != nil {
			return nil, err
		}
		tokens = tokens[1:]
		if item.kind == 'm' {
			n, err := strconv.Atoi(item.value)
			if err != nil || n < 0 || n > len(tokens) {
				return nil, fmt.Errorf("%w: message %d counts %q items of %d", errPB, item.field, item.value, len(tokens))
			}
			if item.items, err = parseItems(tokens[:n], depth-1); err != nil {
				return nil, err
			}
			tokens = tokens[n:]
		}
		items = append(items, item)
	}
	return items, nil
}

func parseItem(token string) (pbItem, error) {
	digits := 0
	for digits < len(token) && token[digits] >= '0' && token[digits] <= '9' {
		digits++
	}
	if digits == 0 || digits > 9 || digits == len(token) {
		return pbItem{}, fmt.Errorf("%w: item %q", errPB, token)
	}
	field, err := strconv.Atoi(token[:digits])
	if err != nil {
		return pbItem{}, fmt.Errorf("%w: item %q", errPB, token)
	}
	item := pbItem{field: field, kind: token[digits], value: token[digits+1:]}
	switch item.kind {
	case 'm', 's':
	case 'b', 'i', 'e', 'j', 'u', 'v':
		_, err = strconv.ParseInt(item.value, 10, 64)
	case 'd', 'f':
		_, err = strconv.ParseFloat(item.value, 64)
	case 'y', 'z': // numbers in hex, bytes: not used by the requests known here
	default:
		err = errPB
	}
	if err != nil {
		return pbItem{}, fmt.Errorf("%w: item %q", errPB, token)
	}
	if item.kind == 's' {
		item.value = strings.NewReplacer("*21", "!", "*2A", "*").Replace(item.value)
	}
	return item, nil
}

// get returns the first item of a field and kind; ok is false if there is none.
func (m pbMessage) get(field int, kind byte) (pbItem, bool) {
	for _, it := range m {
		if it.field == field && it.kind == kind {
			return it, true
		}
	}
	return pbItem{}, false
}

func (m pbMessage) message(field int) pbMessage {
	it, _ := m.get(field, 'm')
	return it.items
}

func (m pbMessage) float(field int) (float64, bool) {
	it, ok := m.get(field, 'd')
	if !ok {
		return 0, false
	}
	v, err := strconv.ParseFloat(it.value, 64)
	return v, err == nil && v == v
}

func (m pbMessage) int(field, absent int) int {
	it, ok := m.get(field, 'i')
	if !ok {
		return absent
	}
	v, err := strconv.Atoi(it.value)
	if err != nil {
		return absent
	}
	return v
}

// searchKinds and viewKinds are the types of the fields that a search request may have at its top and in its view.
// An item elsewhere is the mark of a wrong count further up.
var (
	searchKinds = map[int]byte{4: 'm', 7: 'i', 8: 'i', 10: 'b', 12: 'm', 17: 'm', 19: 'm', 20: 'm', 22: 'm', 24: 'm', 26: 'm', 30: 'm', 34: 'm', 37: 'm', 42: 'b', 47: 'm', 49: 'm', 50: 'm', 61: 'b', 67: 'm', 69: 'i'}
	viewKinds   = map[int]byte{1: 'm', 2: 'm', 3: 'm', 4: 'f'}
)

// check refuses fields that kinds does not know, of another type, or doubled.
func (m pbMessage) check(kinds map[int]byte) error {
	seen := map[int]bool{}
	for _, it := range m {
		if kind, ok := kinds[it.field]; !ok || kind != it.kind || seen[it.field] {
			return fmt.Errorf("%w: unexpected %d%c", errPB, it.field, it.kind)
		}
		seen[it.field] = true
	}
	return nil
}

// searchRequest is what a search's pb asks for.
type searchRequest struct {
	area   area
	size   int
	offset int
	short  bool // entries at S[64][i][1]
}

// readSearch reads the pb of a search.
func readSearch(pb string) (searchRequest, error) {
	m, err := parsePB(pb)
	if err != nil {
		return searchRequest{}, err
	}
	if err := m.check(searchKinds); err != nil {
		return searchRequest{}, err
	}
	_, short := m.get(34, 'm')
	req := searchRequest{area: wholeEarth, size: m.int(7, pageSize), offset: m.int(8, 0), short: short}
	if req.size < 1 || req.offset < 0 {
		return searchRequest{}, fmt.Errorf("%w: page size %d at offset %d", errPB, req.size, req.offset)
	}
	req.size = min(req.size, pageSize)
	if _, ok := m.get(4, 'm'); !ok {
		return req, nil
	}
	if err := m.message(4).check(viewKinds); err != nil {
		return searchRequest{}, err
	}
	view := m.message(4).message(1)
	diameter, ok1 := view.float(1)
	lng, ok2 := view.float(2)
	lat, ok3 := view.float(3)
	if !ok1 || !ok2 || !ok3 || diameter < 0 || lat < -90 || lat > 90 || lng < -180 || lng > 180 {
		return searchRequest{}, fmt.Errorf("%w: viewport", errPB)
	}
	if diameter < earthDiameterMeters {
		req.area = area{lat: lat, lng: lng, radiusMeters: diameter / 2}
	}
	return req, nil
}
