#!/usr/bin/env bash
# A Docker engine for the tests.
#   test/engine.sh up            makes sure that one answers. One that answers is used as it is. Else, on Debian and Ubuntu as root, installs
#                                Debian's packages where they lack and starts dockerd
#   test/engine.sh swarm         makes sure that it is a Swarm manager. Only an engine that up started is made one, or any under CI=true or
#                                GMAPS_TEST_SWARM_INIT=1. A swarm that is there is used as it is, and never left
#   test/engine.sh with CMD…     up, then CMD, then down if up started the engine: whatever happens to CMD
#   test/engine.sh down          stops the engine that up started, and no other
#   test/engine.sh sweep         removes everything that tests, running ones too, made on this engine; images stay
#   test/engine.sh status        says what there is
# DOCKER_HOST=unix://… names another socket. For an engine beside another one: GMAPS_ENGINE_DIR is the folder for everything of it,
# GMAPS_ENGINE_FLAGS are further flags of dockerd. Such a one belongs into a network namespace of its own (unshare -n -m): in the other's it
# would change its firewall rules, and with --bridge=none remove its bridge.
set -euo pipefail

socket=${DOCKER_HOST:-unix:///var/run/docker.sock}
state=${GMAPS_ENGINE_DIR:-${XDG_RUNTIME_DIR:-/tmp}}/gmaps-test-engine
if [[ -n ${GMAPS_ENGINE_DIR:-} ]]; then
	data=$GMAPS_ENGINE_DIR/data exec_root=$GMAPS_ENGINE_DIR/exec pidfile=$GMAPS_ENGINE_DIR/docker.pid
else
	data=/var/lib/docker exec_root=/var/run/docker pidfile=/var/run/docker.pid
fi

say() { echo "test/engine.sh: $*" >&2; }
answers() { docker info >/dev/null 2>&1; }

# runs PID NAME says whether PID is a process called NAME: a pid file may outlive its process, and its number may be another's by now.
runs() { [[ -n $1 && $(cat "/proc/$1/comm" 2>/dev/null) == "$2" ]]; }

ours() { [[ -f $state/pid ]] && runs "$(<"$state/pid")" dockerd; }

up() {
	if command -v docker >/dev/null && answers; then
		if ours; then say 'the engine that this script started answers'; else say "uses the engine at ${DOCKER_HOST:-the default socket}, as it is"; fi
		return
	fi
	if [[ $(uname -s) != Linux ]] || ((EUID != 0)) || ! command -v apt-get >/dev/null; then
		say "no Docker engine answers at ${DOCKER_HOST:-the default socket}, and this is not a Debian system and root to start one;" \
			'mend: start Docker (Docker Desktop, systemctl start docker), join the group docker, or set DOCKER_HOST'
		exit 1
	fi
	if [[ $socket != unix://* ]]; then
		say "no Docker engine answers at $DOCKER_HOST, and only one at a unix:// socket can be started; mend: unset DOCKER_HOST"
		exit 1
	fi
	install
	if answers; then # the package's own service
		say 'uses the engine that its package started'
		return
	fi
	start
}

# install installs what lacks of the packages, without their services.
install() {
	local lacks=() pair
	for pair in dockerd:docker.io debootstrap:debootstrap iptables:iptables; do
		PATH=$PATH:/usr/sbin:/sbin command -v "${pair%%:*}" >/dev/null || lacks+=("${pair#*:}")
	done
	((${#lacks[@]})) || return 0
	say "installing ${lacks[*]}"
	local log
	log=$(mktemp)
	if ! { apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "${lacks[@]}"; } >"$log" 2>&1 </dev/null; then
		tail -n 20 "$log" >&2
		say "apt-get could not install ${lacks[*]}, see above"
		exit 1
	fi
	rm -f "$log"
}

start() {
	mkdir -p "$state" "$exec_root"
	chmod 0700 "$state"
	# After a kill -9 these make the next engine wait for a dead one, and then fail.
	local f mtu
	for f in "$pidfile:dockerd" "$exec_root/containerd/containerd.pid:containerd"; do
		[[ ! -f ${f%:*} ]] || runs "$(<"${f%:*}")" "${f##*:}" || rm -f "${f%:*}"
	done
	local flags=(--host "$socket" --data-root "$data" --exec-root "$exec_root" --pidfile "$pidfile")
	# Packets of containers that are larger than what the way out takes would vanish.
	mtu=$(cat "/sys/class/net/$(ip -4 route show default 2>/dev/null | sed -nE 's/.* dev ([^ ]+).*/\1/p' | head -n 1)/mtu" 2>/dev/null) || mtu=1500
	((mtu >= 1500)) || flags+=(--mtu "$mtu")
	# shellcheck disable=SC2206 # several flags in one variable
	flags+=(${GMAPS_ENGINE_FLAGS:-})
	say 'starting dockerd'
	# Nothing of the caller's is handed on: a make that waits for its pipe to close would wait for the engine.
	setsid nohup dockerd "${flags[@]}" >"$state/log" 2>&1 </dev/null 9>&- &
	echo $! >"$state/pid"
	local i
	for ((i = 0; i < 600; i++)); do
		if answers; then
			say "dockerd answers (pid $(<"$state/pid"), log $state/log); test/engine.sh down stops it"
			return
		fi
		ours || break
		sleep 0.1
	done
	say 'dockerd did not come up; its log ends:'
	tail -n 20 "$state/log" >&2
	down
	exit 1
}

swarm() {
	local role
	role=$(docker info -f '{{.Swarm.LocalNodeState}} {{.Swarm.ControlAvailable}}')
	case $role in
	'active true')
		say 'this engine is a Swarm manager'
		return
		;;
	inactive*) ;;
	*)
		say "this engine is part of a swarm and no manager of it ($role): the Swarm tests need a manager; mend: run them on one"
		exit 1
		;;
	esac
	if ! ours && [[ ${CI:-} != true && ${GMAPS_TEST_SWARM_INIT:-} != 1 ]]; then
		say '*** THE SWARM TESTS ARE LEFT OUT ***'
		say 'this engine is no Swarm manager, and it is not for this script to make one of an engine that it did not start;' \
			'mend: docker swarm init --advertise-addr 127.0.0.1, or GMAPS_TEST_SWARM_INIT=1 make test, which also undoes it'
		exit 1
	fi
	docker swarm init --advertise-addr 127.0.0.1 >/dev/null
	mkdir -p "$state"
	touch "$state/swarm"
	say 'made this engine a Swarm manager'
}

# sweep removes what tests left on an engine: all of ours on an engine that we started, else only what says of itself that it is a test's.
# Images stay: they are the cache.
sweep() {
	local label network
	docker network ls -q --filter label=gmaps.test | while read -r network; do # the workers of a test's Manager, which has no label of a test
		docker ps -aq --filter "network=$network" --filter label=gmaps.worker | xargs -r docker rm -fv >/dev/null 2>&1 || true
	done
	for label in gmaps.test $(! ours || echo gmaps.worker); do
		docker service ls -q --filter "label=$label" 2>/dev/null | xargs -r docker service rm >/dev/null 2>&1 || true
		docker ps -aq --filter "label=$label" | xargs -r docker rm -fv >/dev/null 2>&1 || true
		docker network ls -q --filter "label=$label" | xargs -r docker network rm >/dev/null 2>&1 || true
		docker volume ls -q --filter "label=$label" | xargs -r docker volume rm >/dev/null 2>&1 || true
	done
}

# left lists what sweep would remove.
left() {
	docker ps -a --filter label=gmaps.test --format 'container {{.Names}}'
	docker service ls --filter label=gmaps.test --format 'service {{.Name}}' 2>/dev/null || true
	docker network ls --filter label=gmaps.test --format 'network {{.Name}}'
	docker volume ls --filter label=gmaps.test --format 'volume {{.Name}}'
}

down() {
	if ! ours; then
		[[ ! -d $state ]] || say 'no engine of ours runs'
	else
		local pid i
		pid=$(<"$state/pid")
		sweep
		[[ ! -e $state/swarm ]] || docker swarm leave --force >/dev/null 2>&1 || true # or a later engine would find itself in it
		kill -TERM "$pid" 2>/dev/null || true
		for ((i = 0; i < 300; i++)); do
			runs "$pid" dockerd || break
			sleep 0.1
		done
		if runs "$pid" dockerd; then
			say 'dockerd did not stop within 30 s and was killed'
			kill -KILL "$pid" 2>/dev/null || true
		fi
		pid=$(cat "$exec_root/containerd/containerd.pid" 2>/dev/null) || pid=
		! runs "$pid" containerd || kill -TERM "$pid"
		# The ingress network's namespace and mounts of containers outlive the engine.
		awk '{print $5}' /proc/self/mountinfo | while read -r mount; do
			case $mount in "$exec_root"/* | "$data"/*) echo "$mount" ;; esac
		done | sort -r | xargs -r -n 1 umount -l 2>/dev/null || true
		say 'stopped the engine that this script started'
	fi
	rm -rf "$state"
}

# with undoes exactly what it did: an engine, or a swarm, that was there before stays. A signal goes to everything that CMD started,
# and what was started is stopped after CMD has ended.
with() {
	had_engine=no had_swarm=no child= nested=1
	! ours || had_engine=yes
	[[ ! -e $state/swarm ]] || had_swarm=yes
	trap 'undo' EXIT
	trap 'exit 129' HUP
	trap 'exit 130' INT
	trap 'exit 143' TERM
	up
	local code=0 signal
	nested=${GMAPS_ENGINE_WITH:-}
	export GMAPS_ENGINE_WITH=1
	for signal in HUP INT TERM; do
		# shellcheck disable=SC2064 # the signal's name now, the child's number later
		trap "kill -$signal -- -\$child 2>/dev/null || true" "$signal"
	done
	set -m # a process group of its own, which a signal can be sent to
	"$@" &
	child=$!
	set +m
	while kill -0 "$child" 2>/dev/null; do # a signal ends the wait, not the command
		code=0
		wait "$child" || code=$?
	done
	exit "$code"
}

undo() {
	trap '' HUP INT TERM
	if [[ $had_engine == no ]] && ours; then
		down
	elif [[ $had_swarm == no && -e $state/swarm ]]; then
		! docker swarm leave --force >/dev/null || say 'left the swarm that this script made'
		rm -f "$state/swarm"
	fi
	if [[ -z $nested ]] && answers && [[ -n $(left) ]]; then
		say "on this engine there is still, of this run or of another that goes on: $(left | paste -sd, -); mend: test/engine.sh sweep"
	fi
}

case ${1:-} in
up | swarm | sweep | down) "$1" ;;
with)
	shift
	(($#)) || { say 'with what?'; exit 2; }
	with "$@"
	;;
status)
	if answers; then docker info -f 'engine {{.ServerVersion}}, swarm {{.Swarm.LocalNodeState}}'; else echo 'no engine answers'; fi
	if ours; then echo 'started by this script'; fi
	;;
*)
	sed -n '2,/^set /{/^#/s/^# \{0,1\}//p}' "$0" >&2
	exit 2
	;;
esac
