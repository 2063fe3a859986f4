package postgres

import (
	"context"
	"fmt"
)

// Setting implements store.Store.
func (s *Store) Setting(ctx context.Context, key, first string) (string, error) {
	const (
		keptSetting = `SELECT value FROM settings WHERE key = $1`
		keepSetting = `INSERT INTO settings (key, value) VALUES ($1, $2) ON CONFLICT (key) DO UPDATE SET value = settings.value RETURNING value`
	)
	var value []string
	err := s.read(ctx, func(r *reading) { read(r, &value, scanText, keptSetting, key) })
	if err == nil && len(value) == 0 {
		err = s.single(ctx, func(r *reading) { read(r, &value, scanText, keepSetting, key, first) })
	}
	if err != nil {
		return "", fmt.Errorf("setting %s: %w", key, err)
	}
	return value[0], nil
}
