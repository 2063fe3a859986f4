package sqlite

import (
	"path/filepath"
	"strings"
	"testing"
	"time"

	"gmaps-scraper/store"
)

// TestQuestionsReadAlongIndices has SQLite explain the questions that are asked again and again: none may read a whole table or sort it.
func TestQuestionsReadAlongIndices(t *testing.T) {
	t.Parallel()
	s, err := Open(t.Context(), filepath.Join(t.TempDir(), "gmaps.db"), Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	_, all := conditions(store.ResultFilter{})
	for name, q := range map[string]struct {
		sql  string
		args []any
	}{
		"first due job":  {firstDueJob, []any{1, true}},
		"own due job":    {ownDueJob, []any{1, true, "id"}},
		"lease tasks":    {leaseTasks, []any{1, 1, 1, 0, 10}},
		"candidates":     {candidates(time.Minute), []any{1, 0, 0, 10}},
		"due tasks":      {dueTasks, []any{1, 1, 10}},
		"live spawns":    {countedOfBackend, []any{"process", 1}},
		"expired leases": {expiredLeases, []any{1}},
		"overdue jobs":   {overdueJobs, []any{1}},
		"next of own":    {nextOfOwn, []any{"id", 1}},
		"next of any":    {nextOfAny, []any{1}},
		"jobs":           {jobsQuestion([]string{`id IS NOT NULL`, `id < ?`}), []any{"id", 10}},
		"jobs by state":  {jobsQuestion([]string{`id IS NOT NULL`, `id < ?`, `state = ?`}), []any{"id", "running", 10}},
		"tasks":          {tasksOfState, []any{1, "open", 1, 10}},
		"results":        {resultsQuestion(``), append([]any{1, 1}, append(all, 10)...)},
		"events":         {eventsAfter, []any{1, 1, 10}},
		"oldest open":    {oldestOpen, nil},
		"live leases":    {liveLeases, nil},
		"of a spawn":     {leasesOfSpawn, []any{"id"}},
		"old submits":    {forgetSubmits, []any{1, 10}},
		"deleted job":    {deletedJob, nil},
	} {
		t.Run(name, func(t *testing.T) {
			rows, err := s.readers.QueryContext(t.Context(), `EXPLAIN QUERY PLAN `+q.sql, q.args...)
			if err != nil {
				t.Fatal(err)
			}
			defer rows.Close()
			for rows.Next() {
				var id, parent, unused int
				var detail string
				if err := rows.Scan(&id, &parent, &unused, &detail); err != nil {
					t.Fatal(err)
				}
				t.Log(detail)
				wholeTable := strings.HasPrefix(detail, "SCAN ") && !strings.Contains(detail, " INDEX ") &&
					!strings.HasPrefix(detail, "SCAN (subquery") && detail != "SCAN CONSTANT ROW"
				if wholeTable || strings.Contains(detail, "TEMP B-TREE") {
					t.Error("reads or sorts a whole table")
				}
			}
			if err := rows.Err(); err != nil {
				t.Fatal(err)
			}
		})
	}
}
