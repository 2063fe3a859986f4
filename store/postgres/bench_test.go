package postgres_test

import (
	"fmt"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"

	"gmaps-scraper/gmaps"
	"gmaps-scraper/job"
	"gmaps-scraper/store"
	"gmaps-scraper/store/postgres"
)

// BenchmarkCreateJob has 8 writers make jobs of one task.
func BenchmarkCreateJob(b *testing.B) {
	s, err := postgres.Open(b.Context(), benchDSN(b), postgres.Config{})
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	var left atomic.Int64
	left.Store(int64(b.N))
	b.ResetTimer()
	var writers sync.WaitGroup
	for range 8 {
		writers.Go(func() {
			for left.Add(-1) >= 0 {
				n := store.NewJob{Spec: job.Spec{Name: "cafes"}, Tasks: []job.Task{{Query: gmaps.Query{Keyword: "cafe in limassol"}}}}
				if _, _, err := s.CreateJob(b.Context(), n); err != nil {
					b.Error(err)
				}
			}
		})
	}
	writers.Wait()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "jobs/s")
}

// BenchmarkSubmit stores batches of 100 places of a usual size.
func BenchmarkSubmit(b *testing.B) {
	s, err := postgres.Open(b.Context(), benchDSN(b), postgres.Config{})
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	if _, _, err := s.CreateJob(b.Context(), store.NewJob{Tasks: make([]job.Task, 1)}); err != nil {
		b.Fatal(err)
	}
	w, err := s.JoinStanding(b.Context(), fmt.Sprint(time.Now()), 1)
	if err != nil {
		b.Fatal(err)
	}
	l, err := s.Grant(b.Context(), w.ID, 1, time.Hour)
	if err != nil {
		b.Fatal(err)
	}
	b.ResetTimer()
	for i := range b.N {
		var batch job.Batch
		for k := range 100 {
			batch.Places = append(batch.Places, job.Found{TaskID: l.Tasks[0].ID, Place: benchPlace(i*100 + k)})
		}
		if _, err := s.Submit(b.Context(), l.Fence, batch); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(100*b.N)/b.Elapsed().Seconds(), "rows/s")
}

func benchPlace(n int) gmaps.Place {
	return gmaps.Place{
		DataID: fmt.Sprintf("0x14e7f:0x%x", n), Title: fmt.Sprintf("Place %d", n), Categories: []string{"Café", "Bar"}, Rating: 4.5,
		Address: "1 Main Street, Limassol 3036, Cyprus", Phone: "+357 25 123456", Website: "https://place.example/",
	}
}

// benchDSN names a schema that is dropped with the process's last test.
func benchDSN(b *testing.B) string {
	b.Helper()
	dsn := os.Getenv("GMAPS_TEST_POSTGRES")
	if dsn == "" {
		b.Skip("needs a PostgreSQL server in GMAPS_TEST_POSTGRES")
	}
	schemas.Lock()
	defer schemas.Unlock()
	name := "store_bench_" + strings.ReplaceAll(uuid.NewString(), "-", "")
	if err := execute(dsn, `CREATE SCHEMA `+name); err != nil {
		b.Fatal(err)
	}
	if !strings.Contains(dsn, "?") {
		dsn += "?"
	}
	dsn += "&search_path=" + name
	schemas.all = append(schemas.all, dsn)
	return dsn
}
