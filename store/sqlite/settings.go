package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
)

// Setting implements store.Store.
func (s *Store) Setting(ctx context.Context, key, first string) (value string, err error) {
	const (
		keptSetting = `SELECT value FROM settings WHERE key = ?`
		keepSetting = `INSERT INTO settings (key, value) VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = value RETURNING value`
	)
	err = s.read(ctx, func(q querier) error { return q.QueryRowContext(ctx, keptSetting, key).Scan(&value) })
	if errors.Is(err, sql.ErrNoRows) {
		err = s.write(ctx, func(ctx context.Context, t *tx) error {
			return t.QueryRowContext(ctx, keepSetting, key, first).Scan(&value)
		})
	}
	if err != nil {
		return "", fmt.Errorf("setting %s: %w", key, err)
	}
	return value, nil
}
