package store

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"strings"

	"gmaps-scraper/gmaps"
	"gmaps-scraper/job"
)

// What all implementations make alike of the domain stands in this file: a difference between two of them would be one of the contract.

// PlaceRow is a place as it is stored: what lists and filters go by, and all of it as JSON.
type PlaceRow struct {
	Task           job.TaskID
	Key            string // gmaps.Place.Key
	Rating         float64
	Website, Phone bool   // it has one
	Country        string // in capitals
	City, Category string // in small letters
	// Search is the text that a search looks in, in small letters. The fields stand on lines of their own, so that no match runs over two.
	Search string
	JSON   string
}

// Encode prepares a batch for being stored. The digest tells the batches of one lease apart: a replay has that of the first try.
func Encode(b job.Batch) (places []PlaceRow, digest []byte, err error) {
	const digestBytes = 16 // of SHA-256
	h := sha256.New()
	var copied []byte
	write := func(id job.TaskID, body string) {
		var head [16]byte // the length keeps one item's end from reading as the next one's beginning
		binary.LittleEndian.PutUint64(head[:], uint64(id))
		binary.LittleEndian.PutUint64(head[8:], uint64(len(body)))
		h.Write(head[:])
		copied = append(copied[:0], body...)
		h.Write(copied)
	}
	places = make([]PlaceRow, len(b.Places))
	for i := range b.Places {
		p, body := &b.Places[i].Place, b.Places[i].JSON
		if body == "" {
			encoded, err := json.Marshal(p)
			if err != nil {
				return nil, nil, fmt.Errorf("encode place %s: %w", p.Key(), err)
			}
			body = string(encoded)
		}
		write(b.Places[i].TaskID, body)
		places[i] = PlaceRow{
			Task: b.Places[i].TaskID, Key: p.Key(), Rating: p.Rating, Website: p.Website != "", Phone: p.Phone != "",
			Country: strings.ToUpper(p.AddressParts.CountryCode), City: strings.ToLower(p.AddressParts.City),
			Category: strings.ToLower(mainCategory(p)), Search: searched(p), JSON: body,
		}
	}
	for _, step := range b.Tasks {
		body, err := json.Marshal(step)
		if err != nil {
			return nil, nil, fmt.Errorf("encode step of task %d: %w", step.TaskID, err)
		}
		write(step.TaskID, string(body))
	}
	return places, h.Sum(nil)[:digestBytes], nil
}

func mainCategory(p *gmaps.Place) string {
	if len(p.Categories) == 0 {
		return ""
	}
	return p.Categories[0]
}

func searched(p *gmaps.Place) string {
	return strings.ToLower(strings.Join([]string{p.Title, mainCategory(p), p.Address, p.Phone, p.Website}, "\n"))
}

// OrderFor is what a worker must do with a lease, by the states of its job and of its spawn.
func OrderFor(j job.State, s job.SpawnState) job.Order {
	switch {
	case j.Terminal():
		return job.Cancel
	case j == job.Paused, s == job.SpawnStopping, s == job.SpawnEnded:
		return job.Drain
	default:
		return job.Continue
	}
}

// Event is the line in a job's timeline that tells of this end of a spawn's worker.
func (e SpawnEnd) Event(row job.Spawn) (kind job.EventKind, text string, facts map[string]any) {
	kind, text = job.EventSpawnEnded, fmt.Sprintf("%s ended: %s", row.Name(), strings.ReplaceAll(string(e.Outcome), "_", " "))
	facts = map[string]any{"spawn": row.ID, "outcome": e.Outcome}
	if e.Outcome == job.CreateError || e.Outcome == job.NeverLeased {
		kind = job.EventSpawnFailed
	}
	if e.ExitCode != nil {
		text += fmt.Sprintf(" with code %d", *e.ExitCode)
		facts["exit_code"] = *e.ExitCode
	}
	if reason := cmp.Or(e.Reason, row.Reason); reason != "" {
		text += ": " + reason
	}
	return kind, text, facts
}
