#!/bin/sh
# As the official image: RABBITMQ_DEFAULT_USER, RABBITMQ_DEFAULT_PASS, RABBITMQ_DEFAULT_VHOST; guest may come from outside; not root.
set -eu

if [ "${1:-}" = rabbitmq-server ]; then
	shift
	# Debian's own rabbitmq-server is a wrapper that sends the output to a file.
	set -- /usr/lib/rabbitmq/bin/rabbitmq-server "$@"
	if [ ! -e /etc/rabbitmq/rabbitmq.conf ]; then
		{
			echo 'loopback_users = none'
			[ -z "${RABBITMQ_DEFAULT_USER:-}" ] || echo "default_user = $RABBITMQ_DEFAULT_USER"
			[ -z "${RABBITMQ_DEFAULT_PASS:-}" ] || echo "default_pass = $RABBITMQ_DEFAULT_PASS"
			[ -z "${RABBITMQ_DEFAULT_VHOST:-}" ] || echo "default_vhost = $RABBITMQ_DEFAULT_VHOST"
		} >/etc/rabbitmq/rabbitmq.conf
	fi
	unset RABBITMQ_DEFAULT_USER RABBITMQ_DEFAULT_PASS RABBITMQ_DEFAULT_VHOST
fi
# Erlang reserves memory for every descriptor that it may open, and an engine may allow a thousand million.
[ "$(ulimit -n)" != unlimited ] && [ "$(ulimit -n)" -le 65536 ] || ulimit -n 65536
if [ "$(id -u)" = 0 ]; then
	chown -R rabbitmq:rabbitmq /var/lib/rabbitmq /etc/rabbitmq
	set -- setpriv --reuid=rabbitmq --regid=rabbitmq --clear-groups -- "$@"
fi
exec "$@"
