#!/usr/bin/env bash
# Makes debian:bookworm-slim out of Debian's own packages, for an engine that has it not and that reaches no registry.
# Needs root and debootstrap. Takes half a minute, once a machine. An image that is there already is left as it is.
set -euo pipefail

image=debian:bookworm-slim
mirror=${DEBIAN_MIRROR:-http://deb.debian.org/debian}
security=${DEBIAN_SECURITY_MIRROR:-http://deb.debian.org/debian-security}

# One run at a time: two that find nothing would both make it.
if command -v flock >/dev/null; then
	exec 8>"${TMPDIR:-/tmp}/gmaps-test-base.$(id -u).lock"
	flock 8
fi
if docker image inspect "$image" >/dev/null 2>&1; then
	exit 0
fi
if ((EUID != 0)) || ! command -v debootstrap >/dev/null; then
	echo "test/images/base.sh: no $image on this engine, and making it needs root and debootstrap; mend: docker pull $image, or as root: apt-get install debootstrap" >&2
	exit 1
fi
umask 022
dir=$(mktemp -d)
trap 'rm -rf --one-file-system "$dir"' EXIT
echo "test/images/base.sh: making $image with debootstrap" >&2
if ! debootstrap --variant=minbase --include=ca-certificates bookworm "$dir/root" "$mirror" >"$dir/log" 2>&1; then
	tail -n 20 "$dir/log" "$dir/root/debootstrap/debootstrap.log" >&2 || true
	exit 1
fi
cd "$dir/root"
cat >etc/apt/sources.list <<SOURCES
deb $mirror bookworm main
deb $mirror bookworm-updates main
deb $security bookworm-security main
SOURCES
# As the official image: no service starts while packages are installed, and what nobody reads in a container is left out.
printf '#!/bin/sh\nexit 101\n' >usr/sbin/policy-rc.d
chmod 0755 usr/sbin/policy-rc.d
cat >etc/dpkg/dpkg.cfg.d/slim <<'SLIM'
path-exclude /usr/share/doc/*
path-include /usr/share/doc/*/copyright
path-exclude /usr/share/man/*
path-exclude /usr/share/info/*
path-exclude /usr/share/locale/*
SLIM
cat >etc/apt/apt.conf.d/slim <<'APT'
Acquire::Languages "none";
DPkg::Post-Invoke { "rm -f /var/cache/apt/archives/*.deb /var/cache/apt/archives/partial/*.deb || true"; };
Dir::Cache::pkgcache "";
Dir::Cache::srcpkgcache "";
APT
rm -rf var/cache/apt/archives/*.deb var/cache/apt/*.bin var/lib/apt/lists/* usr/share/man/* usr/share/info/* usr/share/locale/* \
	var/log/*.log var/log/apt/* var/cache/debconf/*-old etc/hostname etc/resolv.conf debootstrap
find usr/share/doc -type f ! -name copyright -delete
find usr/share/doc \( -type l -o -type d -empty \) -delete
tar --numeric-owner --exclude='./dev/*' --exclude='./proc/*' --exclude='./sys/*' -c . |
	docker import --change 'CMD ["bash"]' --change 'LABEL gmaps.test=base' - "$image" >/dev/null
echo "test/images/base.sh: $image is $(($(docker image inspect -f '{{.Size}}' "$image") / 1000000)) MB" >&2
