package main

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"

	"gmaps-scraper/gmaps"
)

// maxQuarantined bounds the payloads that one process keeps: a format that changed would otherwise fill the disk.
const maxQuarantined = 1000

// quarantine keeps payloads that nobody could decode, for inspection.
type quarantine struct {
	dir  string
	log  *slog.Logger
	kept atomic.Int64
	once sync.Once
}

// newQuarantine keeps payloads under dir. An empty dir only logs them.
func newQuarantine(dir string, log *slog.Logger) *quarantine {
	return &quarantine{dir: dir, log: log}
}

// put writes <hash>.payload and <hash>.json (its URL and the error). The same payload is kept once.
func (q *quarantine) put(e gmaps.DecodeError) {
	q.log.Warn("payload not decoded", "url", e.URL, "bytes", len(e.Payload), "err", e.Err)
	if q.dir == "" || q.kept.Add(1) > maxQuarantined {
		return
	}
	if err := q.write(e); err != nil {
		q.once.Do(func() { q.log.Error("quarantine not written", "dir", q.dir, "err", err) })
	}
}

func (q *quarantine) write(e gmaps.DecodeError) error {
	if err := os.MkdirAll(q.dir, 0o700); err != nil {
		return err
	}
	sum := sha256.Sum256(e.Payload)
	name := filepath.Join(q.dir, hex.EncodeToString(sum[:12]))
	about, err := json.MarshalIndent(map[string]string{"url": e.URL, "error": e.Err.Error()}, "", "  ")
	if err != nil {
		return err
	}
	if err := os.WriteFile(name+".payload", e.Payload, 0o600); err != nil {
		return err
	}
	return os.WriteFile(name+".json", about, 0o600)
}
