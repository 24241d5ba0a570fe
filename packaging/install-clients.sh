#!/usr/bin/env bash
# Installs the model servers' clients of test-clients.txt, where they are not yet: a
# Python environment of 1.7 GB in a cache that all checkouts share, and a link to it.
set -euo pipefail
cd "$(dirname "$0")"
link=$PWD/../bin/tools/clients
cache=/var/OVSA/cache/clients

fail() {
	echo "error: $1" >&2
	echo "hint: $2" >&2
	exit 1
}

/usr/bin/python3 -c 'import sys; sys.exit(not (3, 10) <= sys.version_info < (3, 14))' ||
	fail "the clients are pinned for Python 3.10 to 3.13, and this is $(/usr/bin/python3 -V)" "add its wheels to $PWD/test-clients.txt"

mkdir -p "$cache" "$(dirname "$link")"
key=$({ /usr/bin/python3 -V && cat test-clients.txt; } | sha256sum | cut -c 1-16)
exec 9>"$cache/lock"
flock 9
if [[ ! -e $cache/$key/installed ]]; then
	echo "installing the model servers' clients into $cache/$key"
	rm -rf "${cache:?}/$key"
	/usr/bin/python3 -m venv "$cache/$key"
	"$cache/$key/bin/python" -m pip install -q --disable-pip-version-check --no-cache-dir \
		--require-hashes --no-deps --only-binary=:all: -r test-clients.txt ||
		fail "the clients cannot be installed" "they come from PyPI: see pip's message above"
	touch "$cache/$key/installed"
fi
ln -sfn "$cache/$key" "$link"
