package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
)

const postgresEnv = "GMAPS_TEST_POSTGRES"

// database is a database of a bench's own on the server that the environment names.
type database struct {
	dsn, server, name string
}

// withDatabase has do run on a new database, which is dropped afterwards.
func withDatabase(ctx context.Context, do func(d *database) (result, error)) (_ result, err error) {
	d, err := newDatabase(ctx)
	if err != nil {
		return result{}, err
	}
	defer func() { err = errors.Join(err, d.drop(ctx)) }()
	r, err := do(d)
	if err != nil {
		return r, err
	}
	note, err := d.describe(ctx)
	r.notes = append(r.notes, note)
	return r, err
}

func newDatabase(ctx context.Context) (*database, error) {
	server := os.Getenv(postgresEnv)
	if server == "" {
		return nil, errors.New("needs PostgreSQL, and a superuser's DSN in " + postgresEnv + ": make bench starts one")
	}
	d := &database{server: server, name: "gmaps_bench_" + strings.ToLower(rand.Text()[:8])}
	if u, err := url.Parse(server); err == nil && u.Scheme != "" {
		u.Path = "/" + d.name
		d.dsn = u.String()
	} else {
		d.dsn = server + " dbname=" + d.name
	}
	return d, d.onServer(ctx, `CREATE DATABASE `+pgx.Identifier{d.name}.Sanitize())
}

func (d *database) drop(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
	defer cancel()
	return d.onServer(ctx, `DROP DATABASE IF EXISTS `+pgx.Identifier{d.name}.Sanitize()+` WITH (FORCE)`)
}

func (d *database) onServer(ctx context.Context, statement string) error {
	conn, err := pgx.Connect(ctx, d.server)
	if err != nil {
		return err
	}
	_, err = conn.Exec(ctx, statement)
	return errors.Join(err, conn.Close(ctx))
}

// describe says what figures depend on. Both sides of a bench have the same.
func (d *database) describe(ctx context.Context) (_ string, err error) {
	conn, err := pgx.Connect(ctx, d.dsn)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, conn.Close(ctx)) }()
	var version, fsync, commit, size string
	err = conn.QueryRow(ctx, `SELECT current_setting('server_version'), current_setting('fsync'), current_setting('synchronous_commit'),
		pg_size_pretty(pg_database_size(current_database()))`).Scan(&version, &fsync, &commit, &size)
	return fmt.Sprintf("PostgreSQL %s, fsync %s, synchronous_commit %s, %s in the end", version, fsync, commit, size), err
}

// databases are databases by the names that a bench gives them.
type databases map[string]*database

// named returns the database of that name, which is made if there is none.
func (all databases) named(ctx context.Context, name string) (*database, error) {
	if d := all[name]; d != nil {
		return d, nil
	}
	d, err := newDatabase(ctx)
	if err == nil {
		all[name] = d
	}
	return d, err
}

func (all databases) size(ctx context.Context, name string) (bytes int64, err error) {
	d := all[name]
	conn, err := pgx.Connect(ctx, d.dsn)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, conn.Close(ctx)) }()
	err = conn.QueryRow(ctx, `SELECT pg_database_size(current_database())`).Scan(&bytes)
	return bytes, err
}

func (all databases) drop(ctx context.Context) error {
	var errs []error
	for _, d := range all {
		errs = append(errs, d.drop(ctx))
	}
	return errors.Join(errs...)
}
