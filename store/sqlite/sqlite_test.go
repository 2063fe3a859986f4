package sqlite_test

import (
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"gmaps-scraper/store/sqlite"
	"gmaps-scraper/store/storetest"
)

func TestStoreKeepsItsContract(t *testing.T) {
	t.Parallel()
	storetest.Run(t, func(t *testing.T) storetest.Fixture {
		var ahead atomic.Int64
		s := open(t, filepath.Join(t.TempDir(), "gmaps.db"), sqlite.Config{Now: func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) }})
		return storetest.Fixture{Store: s, Advance: func(d time.Duration) { ahead.Add(int64(d)) }}
	})
}

func open(t *testing.T, path string, cfg sqlite.Config) *sqlite.Store {
	t.Helper()
	s, err := sqlite.Open(t.Context(), path, cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	return s
}
