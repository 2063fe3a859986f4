package postgres

import (
	"context"
	"fmt"
	"time"
)

// leadTerm is how long a Manager leads without renewing.
const leadTerm = 10 * time.Second

// Lead takes or renews the lead among the Managers of this database, and reports whether this Store has it now. Ask it each tick. It
// only saves work: two that take themselves for the leader for a moment do no harm.
//
// The lead is a row that runs out by the database's clock, not an advisory lock: a leader that is stopped, or cut off, keeps its
// connection and with it a lock, for hours if nobody looks, while a row is another's after 10 s whatever became of its holder.
// Close gives it away at once.
func (s *Store) Lead(ctx context.Context) (bool, error) {
	// A term of which a quarter is not over yet is not renewed: Managers ask with each ring, and what is only read costs no commit.
	const takeLead = `WITH clock AS MATERIALIZED (SELECT gmaps_now() AS now),
		kept AS MATERIALIZED (SELECT 1 AS mine FROM leader, clock WHERE holder = $1 AND until > now + $2 - $2 / 4),
		taken AS (
			UPDATE leader SET holder = $1, until = now + $2 FROM clock
			WHERE (holder = $1 OR until <= now) AND NOT EXISTS (SELECT 1 FROM kept) RETURNING 1 AS mine)
		SELECT mine FROM kept UNION ALL SELECT mine FROM taken`
	var mine []int64
	err := s.single(ctx, func(r *reading) { read(r, &mine, scanInt, takeLead, s.name, leadTerm.Microseconds()) })
	if err != nil {
		return false, fmt.Errorf("take the lead: %w", err)
	}
	s.led.Store(len(mine) > 0)
	return len(mine) > 0, nil
}

// resign gives the lead away, if the database answers soon: else it runs out by itself.
func (s *Store) resign() {
	const resignLead = `UPDATE leader SET until = 0 WHERE holder = $1 RETURNING 0`
	if !s.led.Load() {
		return
	}
	ctx, cancel := context.WithTimeout(s.running, time.Second)
	defer cancel()
	var gone []int64
	if err := s.single(ctx, func(r *reading) { read(r, &gone, scanInt, resignLead, s.name) }); err != nil {
		s.log.Debug("the lead was not given away", "err", err)
	}
}
