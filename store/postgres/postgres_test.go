package postgres_test

import (
	"context"
	"fmt"
	"net/url"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"gmaps-scraper/store/postgres"
	"gmaps-scraper/store/storetest"
)

func TestStoreKeepsItsContract(t *testing.T) {
	t.Parallel()
	serverDSN(t)
	storetest.Run(t, func(t *testing.T) storetest.Fixture {
		dsn := newSchema(t)
		s := openStore(t, dsn, postgres.Config{MaxConns: 8})
		conn, err := pgx.Connect(t.Context(), dsn)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close(context.WithoutCancel(t.Context())) })
		var ahead time.Duration
		return storetest.Fixture{Store: s, Advance: func(d time.Duration) {
			ahead += d
			if _, err := conn.Exec(t.Context(), clockAhead(ahead)); err != nil {
				t.Fatal(err)
			}
		}}
	})
}

// serverDSN names the server that the tests run on.
func serverDSN(t *testing.T) string {
	t.Helper()
	dsn := os.Getenv("GMAPS_TEST_POSTGRES")
	if dsn == "" {
		t.Skip("needs a PostgreSQL server in GMAPS_TEST_POSTGRES: make test-services runs this")
	}
	return dsn
}

// schemas are those that tests have emptied for the next: to make one of some eighty tables and indices costs more than most tests.
var schemas struct {
	sync.Mutex
	all, free []string // DSNs
}

func TestMain(m *testing.M) {
	code := m.Run()
	for _, dsn := range schemas.all {
		if err := execute(dsn, `DO $$ BEGIN EXECUTE format('DROP SCHEMA %I CASCADE', current_schema()); END $$`); err != nil {
			fmt.Fprintln(os.Stderr, "a schema of the tests was left behind:", err)
		}
	}
	os.Exit(code)
}

// newSchema gives the DSN of a schema that the test has for itself, without rows.
func newSchema(t *testing.T) string {
	t.Helper()
	serverDSN(t)
	schemas.Lock()
	defer schemas.Unlock()
	var dsn string
	if n := len(schemas.free); n > 0 {
		dsn, schemas.free = schemas.free[n-1], schemas.free[:n-1]
	} else {
		dsn = makeSchema(t)
		schemas.all = append(schemas.all, dsn)
	}
	t.Cleanup(func() {
		run(t, dsn, emptySchema+"; "+clockAhead(0))
		schemas.Lock()
		defer schemas.Unlock()
		schemas.free = append(schemas.free, dsn)
	})
	return dsn
}

const emptySchema = `DO $$ DECLARE t text; BEGIN
	FOR t IN SELECT tablename FROM pg_tables WHERE schemaname = current_schema() AND tablename NOT IN ('goose_db_version', 'planning', 'leader') LOOP
		EXECUTE format('DELETE FROM %I', t);
	END LOOP;
	UPDATE leader SET until = 0;
END $$`

// virginSchema gives the DSN of a schema without tables.
func virginSchema(t *testing.T) string {
	t.Helper()
	dsn := makeSchema(t)
	schemas.Lock()
	defer schemas.Unlock()
	schemas.all = append(schemas.all, dsn)
	return dsn
}

func makeSchema(t *testing.T) (dsn string) {
	t.Helper()
	u, err := url.Parse(serverDSN(t))
	if err != nil {
		t.Fatal(err)
	}
	name := "store_test_" + strings.ReplaceAll(uuid.NewString(), "-", "")
	run(t, u.String(), `CREATE SCHEMA `+name)
	q := u.Query()
	q.Set("search_path", name)
	q.Set("synchronous_commit", "off") // no test here takes the server's power away
	u.RawQuery = q.Encode()
	return u.String()
}

func openStore(t *testing.T, dsn string, cfg postgres.Config) *postgres.Store {
	t.Helper()
	s, err := postgres.Open(t.Context(), dsn, cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	return s
}

// setClock puts another clock in the place of the schema's: the only one that the store goes by.
func setClock(t *testing.T, dsn string, ahead time.Duration) {
	t.Helper()
	run(t, dsn, clockAhead(ahead))
}

func clockAhead(d time.Duration) string {
	return fmt.Sprintf(`CREATE OR REPLACE FUNCTION gmaps_now() RETURNS bigint LANGUAGE sql VOLATILE AS
		$$ SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint + %d $$`, d.Microseconds())
}

// run executes a statement on a connection of its own, also in a cleanup.
func run(t *testing.T, dsn, statement string) {
	t.Helper()
	if err := execute(dsn, statement); err != nil {
		t.Fatalf("%s: %v", statement, err)
	}
}

func execute(dsn, statement string) error {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	conn, err := pgx.Connect(ctx, dsn)
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	_, err = conn.Exec(ctx, statement)
	return err
}
