#!/usr/bin/env bash
# What the official image's entrypoint does, as far as people rely on it: POSTGRES_USER, POSTGRES_PASSWORD[_FILE], POSTGRES_DB,
# POSTGRES_INITDB_ARGS, POSTGRES_HOST_AUTH_METHOD, /docker-entrypoint-initdb.d. An empty PGDATA is initialised by a first server that
# listens on its socket only, so that who waits for the port, or for "ready" the second time, meets a database that is whole.
set -euo pipefail

[[ ${1:-} != -* ]] || set -- postgres "$@"
[[ ${1:-} == postgres ]] || exec "$@"

if ((EUID == 0)); then
	mkdir -p "$PGDATA"
	chown -R postgres:postgres "$PGDATA" /var/run/postgresql
	chmod 0700 "$PGDATA"
	exec setpriv --reuid=postgres --regid=postgres --init-groups -- "$BASH_SOURCE" "$@"
fi

if [[ ! -s $PGDATA/PG_VERSION ]]; then
	user=${POSTGRES_USER:-postgres}
	db=${POSTGRES_DB:-$user}
	method=${POSTGRES_HOST_AUTH_METHOD:-scram-sha-256}
	password=${POSTGRES_PASSWORD:-}
	[[ -z ${POSTGRES_PASSWORD_FILE:-} ]] || password=$(<"$POSTGRES_PASSWORD_FILE")
	if [[ -z $password && $method != trust ]]; then
		echo 'Error: Database is uninitialized and superuser password is not specified; set POSTGRES_PASSWORD' >&2
		exit 1
	fi
	init=(initdb --username="$user" --encoding=UTF8 --locale=C.UTF-8)
	# shellcheck disable=SC2206 # several arguments in one variable, as in the official image
	init+=(${POSTGRES_INITDB_ARGS:-})
	if [[ -n $password ]]; then
		"${init[@]}" --pwfile=<(printf '%s\n' "$password")
	else
		"${init[@]}"
	fi
	printf '\nhost all all all %s\n' "$method" >>"$PGDATA/pg_hba.conf"

	export PGPASSWORD=$password PGHOST=/var/run/postgresql
	pg_ctl -D "$PGDATA" -w -o "-c listen_addresses=''" start
	if [[ $db != postgres ]]; then
		psql -v ON_ERROR_STOP=1 --no-psqlrc -U "$user" -d postgres -v db="$db" <<<'CREATE DATABASE :"db";'
	fi
	for f in /docker-entrypoint-initdb.d/*; do
		case $f in
		*.sh) if [[ -x $f ]]; then "$f"; else . "$f"; fi ;;
		*.sql) psql -v ON_ERROR_STOP=1 --no-psqlrc -U "$user" -d "$db" -f "$f" ;;
		*.sql.gz) gunzip -c "$f" | psql -v ON_ERROR_STOP=1 --no-psqlrc -U "$user" -d "$db" ;;
		esac
	done
	pg_ctl -D "$PGDATA" -m fast -w stop
	unset PGPASSWORD PGHOST
	printf '\nPostgreSQL init process complete; ready for start up.\n\n'
fi
shift
exec postgres -c listen_addresses='*' "$@"
