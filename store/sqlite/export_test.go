package sqlite

import (
	"context"
	"fmt"
	"testing"
)

// LimitPages lets the database grow to n pages and no further, as a full disk would, until the function returned is called.
func (s *Store) LimitPages(t *testing.T, n int) (free func()) {
	t.Helper()
	limit := func(n int) {
		t.Helper()
		w := <-s.writer
		defer func() { s.writer <- w }()
		if _, err := w.conn.ExecContext(context.Background(), fmt.Sprintf(`PRAGMA max_page_count = %d`, n)); err != nil {
			t.Fatal(err)
		}
	}
	limit(n)
	return func() { limit(1 << 30) }
}
