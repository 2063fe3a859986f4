package manager

import "gmaps-scraper/job"

// SpawnToken is what the reconciler hands to the worker of a spawn.
func (m *Manager) SpawnToken(id job.SpawnID) string { return m.auth.sign.spawnToken(id) }
