package test

import (
	"context"
	"net/http"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/testcontainers/testcontainers-go"

	"gmaps-scraper/job"
)

func postgresIsStruck(t *testing.T, v victims) {
	w := newWorld(t, setup{ground: onProcess, servers: v.servers(t), size: 200, latency: 10 * time.Millisecond, flags: []string{"-spawner-max-workers", "3"}})
	w.stays()
	const shards = 4
	all := newLedger(w)
	for range runs(1) {
		for _, k := range []strike{
			{"PostgreSQL restarted", v.postgres.stop, v.postgres.heal},
			{"PostgreSQL killed", v.postgres.kill, v.postgres.heal},
		} {
			l := newLedger(w)
			id := l.mustSubmit("database", shards, nil)
			w.waitJob(id, "places", func(j job.Job) bool { return j.Counts.Places > 0 })
			k.do()
			l.submitUntilRefused("database", shards)
			waitFor(t, "/readyz to answer 503", func() bool { return w.health().status == http.StatusServiceUnavailable })
			k.undo()
			l.mustSubmit("database", shards, nil)
			l.balance(k.name, 1)
			for id, set := range l.jobs() {
				all.record(id, set)
			}
		}
	}
	all.wantOnly(shards)
}

// connectionsRunOut takes all connections that the database gives, those of the Manager included.
func connectionsRunOut(t *testing.T, v victims) {
	s := v.servers(t)
	own := s.postgres
	s.postgres += "&pool_max_conns=3"
	w := newWorld(t, setup{ground: onProcess, servers: s, size: 100, latency: 10 * time.Millisecond, flags: []string{"-spawner-max-workers", "2"}})
	w.stays()
	l := newLedger(w)
	const shards = 4
	l.mustSubmit("pool", shards, nil)

	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	var hoard []*pgx.Conn
	release := func() {
		for _, c := range hoard {
			_ = c.Close(context.WithoutCancel(ctx))
		}
		hoard = nil
	}
	defer release()
	take := func() {
		for {
			c, err := pgx.Connect(ctx, own)
			if err != nil {
				return
			}
			hoard = append(hoard, c)
		}
	}
	take()
	for w.health().status != http.StatusServiceUnavailable {
		const cutOff = `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'gmaps-scraper'`
		if _, err := hoard[0].Exec(ctx, cutOff); err != nil {
			t.Fatal(err)
		}
		take() // before the Manager does
	}
	l.submitUntilRefused("pool", shards)
	release()
	l.mustSubmit("pool", shards, nil)
	l.balance("PostgreSQL out of connections", 1)
	l.wantOnly(shards)
}

func TestFaultDiskOfTheDatabaseIsFull(t *testing.T) {
	t.Parallel()
	const folder = "/var/lib/postgresql/data"
	// What a full disk does to the log of a database is PostgreSQL's own concern: it stops, and what it had acknowledged is still there
	// afterwards. A disk that is full for tables only is the longer test of ours: the server lives and refuses.
	disk := startPostgres(t, []testcontainers.ContainerCustomizer{
		testcontainers.WithTmpfs(map[string]string{folder: "size=128m"}),
		testcontainers.WithEnv(map[string]string{"POSTGRES_INITDB_ARGS": "--waldir=/var/lib/postgresql/wal"}),
	})
	w := newWorld(t, setup{ground: onProcess, servers: servers{postgres: disk.dsn("")}, size: 200, latency: 10 * time.Millisecond, flags: []string{"-spawner-max-workers", "3"}})
	w.stays()
	l := newLedger(w)
	const shards = 12
	rounds := runs(1)
	for range rounds {
		id := l.mustSubmit("disk", shards, nil)
		w.waitJob(id, "places", func(j job.Job) bool { return j.Counts.Places > 0 })
		disk.exec("sh", "-c", "cat /dev/zero >"+folder+"/filler 2>/dev/null || true")
		l.submitUntilRefused("disk", shards)
		pause(t.Context(), 2*leaseTTL) // the workers meet it too
		disk.exec("rm", folder+"/filler")
		l.mustSubmit("disk", shards, nil)
	}
	l.balance("PostgreSQL's disk full", rounds)
	l.wantOnly(shards)
}
