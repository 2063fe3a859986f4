#!/usr/bin/env bash
# The whole system with workers on AWS Lambda, emulated on this machine, until Ctrl-C.
#   localstack/up.sh [FOLDER]     FOLDER holds what make local-stack builds: gmaps-scraper, lambda/function.zip, services, stack. Default: bin
# With LocalStack in containers (localstack/compose.yaml) where its image is to be had; else, or with OFFLINE=1, with the local Lambda emulator.
# GMAPS_PORT, SIMULATOR_PORT and LAMBDA_PORT replace 8080, 9090 and 4566; LOCALSTACK_VERSION and LOCALSTACK_AUTH_TOKEN are LocalStack's.
set -euo pipefail
cd "$(dirname "$0")/.."

folder=$(cd "${1:-bin}" && pwd)
image=localstack/localstack:${LOCALSTACK_VERSION:-4.14.0}
export GMAPS_API_KEY=${GMAPS_API_KEY:-gk_$(head -c 512 /dev/urandom | LC_ALL=C tr -dc 'a-zA-Z0-9' | head -c 32 || true)}
stack=("$folder/stack" -bin "$folder/gmaps-scraper" -function "$folder/lambda/function.zip"
	-port "${GMAPS_PORT:-8080}" -simulator-port "${SIMULATOR_PORT:-9090}" -lambda-port "${LAMBDA_PORT:-4566}")

say() { echo "localstack/up.sh: $*" >&2; }

# limited SECONDS CMD… bounds a command where the system can.
limited() { if command -v timeout >/dev/null; then timeout "$@"; else "${@:2}"; fi; }

# lacks prints what LocalStack lacks here. It pulls its image, if a registry answers soon: without a way out packets may just vanish.
lacks() {
	if ! docker info >/dev/null 2>&1; then
		echo 'no Docker engine answers'
	elif ! docker compose version >/dev/null 2>&1; then
		echo 'this docker has no compose'
	elif docker image inspect "$image" >/dev/null 2>&1; then
		return
	elif ! limited 8 docker manifest inspect "$image" >/dev/null 2>&1 || ! limited 900 docker pull -q "$image" >&2; then
		echo "$image is not here and cannot be pulled"
	fi
}

compose() { docker compose -f localstack/compose.yaml "$@"; }

# undo removes everything, and what LocalStack has started and may have left on its network.
undo() {
	trap '' HUP INT TERM
	compose stop >/dev/null 2>&1 || true
	docker ps -aq --filter network=gmaps-localstack | xargs -r docker rm -fv >/dev/null 2>&1 || true
	compose down -v --remove-orphans
}

online() {
	make --no-print-directory image
	export FUNCTION_DIR=$folder/lambda
	trap undo EXIT
	trap 'exit 129' HUP
	trap 'exit 130' INT
	trap 'exit 143' TERM
	if ! compose up -d --wait; then
		compose logs --tail 30 localstack manager >&2
		say 'the stack did not come up, see above; mend: make local-stack OFFLINE=1 needs no LocalStack;' \
			'a LOCALSTACK_VERSION above 4.14.0 needs LOCALSTACK_AUTH_TOKEN'
		exit 1
	fi
	"${stack[@]}" -announce
	compose logs -f --since 0s &
	wait $! # where a signal is heard at once
}

"${stack[@]}" -check
case ${OFFLINE:-0} in
0 | '' | no | false)
	lack=$(lacks)
	if [[ -z $lack ]]; then
		online
		exit
	fi
	say "LocalStack cannot be used: $lack; the local Lambda emulator stands for it, as with OFFLINE=1"
	;;
esac
exec test/engine.sh with "$folder/services" -- "${stack[@]}"
