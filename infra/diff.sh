#!/usr/bin/env bash
# What a branch changes in the stacks, without an account: infra/diff.sh [BASE]. It synthesizes both and compares the templates.
set -euo pipefail
base=${1:-origin/main}
cd "$(dirname "$0")/.."
make --no-print-directory bin/nag/node_modules >&2
cdk=$PWD/bin/nag/node_modules/.bin/cdk
old=$(mktemp -d)
trap 'git worktree remove --force "$old/tree" 2>/dev/null || true; rm -rf "$old"' EXIT
git worktree add --quiet --detach "$old/tree" "$base"
prod=(-c stage=prod -c domain=maps.example.org -c certificate=arn:aws:acm:us-east-1:123456789012:certificate/00000000-0000-0000-0000-000000000000
	-c image=example.org/gmaps-scraper:v1 -c alarmEmail=ops@example.org)
for stage in dev prod; do
	options=()
	[[ $stage = dev ]] || options=("${prod[@]}")
	mkdir -p "$old/$stage"
	if [[ -d $old/tree/infra ]]; then
		(cd "$old/tree" && go run ./infra "${options[@]}" >&2)
		mv "$old/tree/cdk.out"/*.template.json "$old/$stage/"
	fi
	go run ./infra "${options[@]}" >&2
	for new in cdk.out/gmaps-"$stage"-*.template.json; do
		name=$(basename "$new" .template.json)
		[[ -e $old/$stage/$name.template.json ]] || echo '{}' >"$old/$stage/$name.template.json"
		"$cdk" diff "$name" --app cdk.out --template "$old/$stage/$name.template.json" --no-color 2>&1 | grep -vE '^!!|Node 20|^$' || true
	done
done
