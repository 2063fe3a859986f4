package spawner

import "time"

// SetNow gives a Swarm another clock.
func (s *Swarm) SetNow(now func() time.Time) { s.now = now }
