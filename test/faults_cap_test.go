package test

import (
	"slices"
	"strconv"
	"testing"
	"time"

	"gmaps-scraper/api"
	"gmaps-scraper/job"
)

func TestFaultCapHoldsAndNothingStarves(t *testing.T) {
	t.Parallel()
	const limit = 4
	eachGround(t, func(t *testing.T, s setup) {
		s.size, s.flags = 4, []string{"-spawner-max-workers", strconv.Itoa(limit)}
		w := newWorld(t, s)
		l := newLedger(w)
		jobs := runs(map[string]int{onProcess: 100, onDocker: 24}[s.ground])
		var ids []job.ID
		for i := range jobs {
			ids = append(ids, l.mustSubmit("cap", 1, func(n *api.NewJob) { n.Priority = i % 11 }))
		}
		most := 0
		for w.working() {
			most = max(most, len(w.workers()))
			pause(t.Context(), 50*time.Millisecond)
		}
		l.balance("cap of "+strconv.Itoa(limit)+", at most "+strconv.Itoa(most)+" at once", jobs)
		if most > limit {
			t.Errorf("%d workers lived at once, above the cap", most)
		}
		w.wantLogsAndOrder(ids)
	}, onProcess, onDocker)
}

// wantLogsAndOrder fails unless the log of each worker was kept, and no job was begun while one of clearly higher priority waited. A job
// that waits gains one rank a minute, so that a difference of few ranks may turn; one created within a second of the other's beginning may
// have been committed after it.
func (w *world) wantLogsAndOrder(ids []job.ID) {
	w.t.Helper()
	type begin struct {
		priority         int
		created, spawned time.Time
	}
	var begun []begin
	for _, id := range ids {
		waitFor(w.t, "the workers of job "+string(id)+" to be recorded as ended", func() bool {
			spawns := w.spawns(id)
			return len(spawns) > 0 && !slices.ContainsFunc(spawns, job.Spawn.Live)
		})
		j := w.waitTerminal(id)
		b := begin{priority: j.Spec.Priority, created: j.CreatedAt}
		for _, x := range w.spawns(id) {
			if b.spawned.IsZero() || x.CreatedAt.Before(b.spawned) {
				b.spawned = x.CreatedAt
			}
			if x.LogTail == "" {
				w.t.Errorf("spawn %s of job %s ended %s without a log", x.ID, id, x.Outcome)
			}
		}
		begun = append(begun, b)
	}
	for _, a := range begun {
		for _, b := range begun {
			ranks := 3 + int(b.spawned.Sub(b.created)/time.Minute)
			if a.priority >= b.priority+ranks && a.created.Add(time.Second).Before(b.spawned) && a.spawned.After(b.spawned) {
				w.t.Errorf("a job of priority %d was begun at %v, while one of priority %d waited since %v until %v",
					b.priority, b.spawned, a.priority, a.created, a.spawned)
			}
		}
	}
}
