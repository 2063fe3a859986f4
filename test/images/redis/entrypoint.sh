#!/bin/sh
# As the official image: not root, and without protected mode, since a container is reached from outside it.
set -eu

case ${1:-} in
-* | *.conf) set -- redis-server "$@" ;;
esac
if [ "${1:-}" = redis-server ]; then
	shift
	set -- redis-server "$@" --protected-mode no
	if [ "$(id -u)" = 0 ]; then
		find . ! -user redis -exec chown redis:redis {} +
		set -- setpriv --reuid=redis --regid=redis --clear-groups -- "$@"
	fi
fi
exec "$@"
