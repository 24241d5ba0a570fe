#!/usr/bin/env bash
# Installs the packages that building and running need, with apt, when any is
# missing; with --test, those that testing needs, too. Says what is wrong where
# it cannot.
set -euo pipefail
cd "$(dirname "$0")"

fail() {
	echo "error: $1" >&2
	echo "hint: $2" >&2
	exit 1
}

command -v go >/dev/null || fail "no Go" "install Go 1.26 or newer: https://go.dev/dl (and put it in PATH)"
version=$(go env GOVERSION)
minor=${version#go1.}
minor=${minor%%[!0-9]*}
((${minor:-0} >= 26)) || fail "Go is too old: $version" "install Go 1.26 or newer: https://go.dev/dl"

command -v apt-get >/dev/null && command -v dpkg-query >/dev/null ||
	fail "no apt on this system" "use Debian 12 or Ubuntu 22.04, or newer; elsewhere install by hand what $PWD/apt-packages.txt and apt-packages-build.txt name"

lists=(apt-packages.txt apt-packages-build.txt)
[[ ${1-} != --test ]] || lists+=(apt-packages-test.txt)
mapfile -t want < <(sed 's/#.*//' "${lists[@]}" | awk 'NF { print $1 }')
installed=$(dpkg-query -W -f '${Package} ${db:Status-Status}\n' "${want[@]}" 2>/dev/null | awk '$2 == "installed" { print $1 }' || true)
missing=()
for p in "${want[@]}"; do
	grep -qx -- "$p" <<<"$installed" || missing+=("$p")
done
if ((${#missing[@]} > 0)); then
	((EUID == 0)) || fail "packages are missing: ${missing[*]}" "run as root, or install them: apt-get install ${missing[*]}"
	echo "installing: ${missing[*]}"
	export DEBIAN_FRONTEND=noninteractive
	if [[ ! -e /usr/sbin/policy-rc.d ]]; then # no service starts by being installed
		trap 'rm -f /usr/sbin/policy-rc.d' EXIT
		printf '#!/bin/sh\nexit 101\n' >/usr/sbin/policy-rc.d
		chmod 755 /usr/sbin/policy-rc.d
	fi
	apt-get -q update
	apt-get -q -y install --no-install-recommends "${missing[@]}"
fi
((EUID == 0)) || fail "not root" "labs make namespaces and mounts: run make as root"
