package postgres_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"gmaps-scraper/store/postgres"
)

// TestQuestionsReadAlongIndices has PostgreSQL explain the questions that are asked again and again, where it reads or sorts a whole
// table only if there is no other way.
func TestQuestionsReadAlongIndices(t *testing.T) {
	t.Parallel()
	dsn := newSchema(t)
	openStore(t, dsn, postgres.Config{})
	conn, err := pgx.Connect(t.Context(), dsn+"&enable_seqscan=off&enable_sort=off&enable_bitmapscan=off&plan_cache_mode=force_generic_plan&jit=off")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	// The indices that may be read without a condition, up to a limit or whole: they hold no more than what is asked for.
	small := []string{"jobs_by_rank", "jobs_deleted", "leases_live"}
	for name, q := range postgres.Questions() {
		rows, err := conn.Query(t.Context(), `EXPLAIN (COSTS OFF) `+q.SQL, q.Args...)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		plan, err := pgx.CollectRows(rows, pgx.RowTo[string])
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		for i, line := range plan {
			// The live leases are few, and put in order.
			if strings.Contains(line, "Seq Scan") || strings.Contains(line, "Sort") && name != "expired leases" && name != "of a spawn" {
				t.Errorf("%s reads or sorts a whole table:\n%s", name, strings.Join(plan, "\n"))
				break
			}
			// An index that nothing leads into is read from its one end to the other.
			_, index, along := strings.Cut(line, "Scan using ")
			index, _, _ = strings.Cut(index, " ")
			if along && !slices.Contains(small, index) && (i+1 == len(plan) || !strings.Contains(plan[i+1], "Index Cond:")) {
				t.Errorf("%s reads all of %s:\n%s", name, index, strings.Join(plan, "\n"))
				break
			}
		}
	}
}
