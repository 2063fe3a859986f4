package postgres

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"
)

//go:embed migrations/*.sql
var migrations embed.FS

// migrationPatience is how long one Manager waits for another's migration.
const migrationPatience = time.Minute

// upToDate finds out whether nothing is to be migrated, and refuses the tables of a newer program.
func upToDate(ctx context.Context, conn *pgx.Conn) (bool, error) {
	const schemaVersion = `SELECT coalesce(max(version_id), 0) FROM goose_db_version WHERE is_applied`
	knows, err := newest()
	if err != nil {
		return false, err
	}
	var has int64
	err = conn.QueryRow(ctx, schemaVersion).Scan(&has)
	var said *pgconn.PgError
	switch {
	case errors.As(err, &said) && said.Code == noTable:
		return false, nil
	case err != nil:
		return false, err
	case has > knows:
		return false, fmt.Errorf("its tables are of version %d, made by a newer gmaps-scraper; this one knows version %d: run the newer one, or use another schema", has, knows)
	}
	return has == knows, nil
}

// newest is the version that the migrations lead to.
func newest() (version int64, err error) {
	files, err := fs.Glob(migrations, "migrations/*.sql")
	if err != nil {
		return 0, err
	}
	for _, f := range files {
		n, err := goose.NumericComponent(f)
		if err != nil {
			return 0, err
		}
		version = max(version, n)
	}
	return version, nil
}

// migrate brings the tables up to date. Of several Managers that start at once one does it, the others wait for it: they take the same
// advisory lock, which the server drops with the connection of one that dies.
func migrate(ctx context.Context, cc *pgx.ConnConfig, log *slog.Logger) (err error) {
	const (
		// The lock is of one schema. NULL: there is no schema.
		keyOfSchema  = `SELECT hashtextextended('gmaps-scraper migrations in ' || current_schema(), 0)`
		lockSchema   = `SELECT pg_advisory_lock($1)`
		unlockSchema = `SELECT pg_advisory_unlock($1)`
	)
	slow := cc.Copy()
	slow.RuntimeParams["statement_timeout"] = "0" // an index of a large table may take its time
	slow.RuntimeParams["idle_in_transaction_session_timeout"] = "0"
	slow.RuntimeParams["lock_timeout"] = fmt.Sprint(migrationPatience.Milliseconds())
	db := stdlib.OpenDB(*slow)
	defer func() { err = errors.Join(err, db.Close()) }()
	holder, err := db.Conn(ctx)
	if err != nil {
		return err
	}
	defer holder.Close()
	var key sql.NullInt64
	if err := holder.QueryRowContext(ctx, keyOfSchema).Scan(&key); err != nil {
		return err
	}
	if !key.Valid {
		return &pgconn.PgError{Severity: "ERROR", Code: noSchema, Message: "no schema has been selected to create in"}
	}
	if _, err := holder.ExecContext(ctx, lockSchema, key.Int64); err != nil {
		var said *pgconn.PgError
		if errors.As(err, &said) && said.Code == lockNotAvailable {
			return fmt.Errorf("another Manager has been at it for %s: end that one if it hangs, then start again: %w", migrationPatience, err)
		}
		return err
	}
	defer func() {
		_, unlock := holder.ExecContext(context.WithoutCancel(ctx), unlockSchema, key.Int64)
		err = errors.Join(err, unlock)
	}()
	return up(ctx, db, log)
}

func up(ctx context.Context, db *sql.DB, log *slog.Logger) error {
	files, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return err
	}
	p, err := goose.NewProvider(goose.DialectPostgres, db, files, goose.WithDisableGlobalRegistry(true), goose.WithSlog(slog.New(slog.DiscardHandler)))
	if err != nil {
		return err
	}
	for try := 1; ; try++ {
		done, err := p.Up(ctx)
		var partly *goose.PartialError
		if errors.As(err, &partly) {
			done = partly.Applied
		}
		for _, m := range done {
			log.Info("database migrated", "version", m.Source.Version, "took", m.Duration)
		}
		// A migration of several tables and a transaction of an earlier Manager, which goes on meanwhile, may wait for each other.
		if err == nil || try == tries || !again(err) {
			return err
		}
	}
}
