#!/usr/bin/env bash
# Sees to it that this engine has an image for each server that the tests need, and prints which, as lines IMAGE_POSTGRES=name.
#   test/images/build.sh [postgres|rabbitmq|redis]…      all of them by default
# In this order: what IMAGE_… in the environment names; the official image, if it is there; ours, if it is there and up to date; the
# official image, pulled, if one quick question finds a registry; ours, built from Debian's packages. Ours never bears an official name.
set -euo pipefail
cd "$(dirname "$0")"

# Written for bash 3.2 too, which is what macOS has.
official() {
	case $1 in
	postgres) echo postgres:17-alpine ;;
	rabbitmq) echo rabbitmq:4-management-alpine ;;
	redis) echo redis:7-alpine ;;
	*) return 1 ;;
	esac
}
ours() {
	case $1 in
	postgres) echo gmaps-test/postgres:15 ;;
	rabbitmq) echo gmaps-test/rabbitmq:3 ;;
	redis) echo gmaps-test/redis:7 ;;
	esac
}
variable() { echo "IMAGE_$(tr '[:lower:]' '[:upper:]' <<<"$1")"; }

say() { echo "test/images/build.sh: $*" >&2; }
has() { docker image inspect "$1" >/dev/null 2>&1; }

# limited SECONDS CMD… bounds a command where the system can.
limited() { if command -v timeout >/dev/null; then timeout "$@"; else "${@:2}"; fi; }

# registry says whether images can be pulled. It asks once a run, for at most 8 seconds, because a machine without a way out may
# drop packets instead of refusing them.
registry=
registry() {
	if [[ -z $registry ]]; then
		registry=no
		limited 8 docker manifest inspect redis:7-alpine >/dev/null 2>&1 && registry=yes
		[[ $registry == yes ]] || say 'no registry answers'
	fi
	[[ $registry == yes ]]
}

pull() {
	registry || return 1
	say "pulling $1"
	limited 300 docker pull -q "$1" >&2
}

# content is a hash of all that an image is built from here.
content() {
	find "$1" base.sh -type f | LC_ALL=C sort | xargs cat |
		if command -v sha256sum >/dev/null; then sha256sum; else shasum -a 256; fi | cut -c1-16
}

# choose sets image to that of server $1, after it made sure of it. It is no subshell, so that the registry is asked once.
image=
choose() {
	local official ours hash log variable
	official=$(official "$1") ours=$(ours "$1") variable=$(variable "$1")
	if [[ -n ${!variable:-} ]]; then
		image=${!variable}
		return
	fi
	image=$official
	! has "$official" || return 0
	image=$ours
	hash=$(content "$1")
	[[ $(docker image inspect -f '{{index .Config.Labels "gmaps.test.content"}}' "$ours" 2>/dev/null) != "$hash" ]] || return 0
	image=$official
	! pull "$official" || return 0
	image=$ours
	has debian:bookworm-slim || pull debian:bookworm-slim || ./base.sh
	say "building $ours"
	log=$(mktemp)
	if ! docker build -t "$ours" --label gmaps.test=image --label "gmaps.test.content=$hash" "$1" >"$log" 2>&1; then
		tail -n 30 "$log" >&2
		say "$ours cannot be built, see above; mend: docker pull $official, or name an image in $variable; all of the log: $log"
		return 1
	fi
	rm -f "$log"
	docker image prune -f --filter label=gmaps.test=image >/dev/null # the one that had this name before
}

docker info >/dev/null 2>&1 || { say 'no Docker engine answers; mend: test/engine.sh up'; exit 1; }
(($#)) || set -- postgres rabbitmq redis
for name; do
	official "$name" >/dev/null || { say "unknown server $name; known: postgres, rabbitmq, redis"; exit 2; }
done
# One run at a time: two that find nothing would build everything twice.
if command -v flock >/dev/null; then
	exec 9>"${TMPDIR:-/tmp}/gmaps-test-images.$(id -u).lock"
	flock 9
fi
for name; do
	choose "$name"
	echo "$(variable "$name")=$image"
done
