#!/usr/bin/env bash
# What a branch changes in the stacks, without an account: infra/diff.sh [BASE]. It synthesizes both and compares the templates.
set -euo pipefail
base=${1:-origin/main}
cd "$(dirname "$0")/.."
make --no-print-directory bin/nag/node_modules >&2
cdk=$PWD/bin/nag/node_modules/.bin/cdk
old=$(mktemp -d)
trap 'rm -rf "$old"' EXIT
mkdir "$old/tree"
git archive "$base" | tar -x -C "$old/tree"
prod=(-c stage=prod -c domain=maps.example.org -c certificate=arn:aws:acm:us-east-1:123456789012:certificate/00000000-0000-0000-0000-000000000000
	-c image=example.org/gmaps-scraper:v1 -c alarmEmail=ops@example.org)
for stage in dev prod; do
	options=()
	[[ $stage = dev ]] || options=("${prod[@]}")
	mkdir -p "$old/$stage"
	if [[ -d $old/tree/infra ]]; then # else everything is new
		(cd "$old/tree" && go run ./infra "${options[@]}" >&2)
		mv "$old/tree/cdk.out"/*.template.json "$old/$stage/"
	fi
	go run ./infra "${options[@]}" >&2
	for new in cdk.out/gmaps-"$stage"-*.template.json; do
		name=$(basename "$new" .template.json)
		[[ -e $old/$stage/$name.template.json ]] || echo '{}' >"$old/$stage/$name.template.json"
		"$cdk" diff "$name" --exclusively --app cdk.out --template "$old/$stage/$name.template.json" --no-color >"$old/out" 2>&1 || { cat "$old/out" >&2; exit 1; }
		grep -vE '^!!|^$' "$old/out" || true
	done
done
