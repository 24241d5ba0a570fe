#!/usr/bin/env bash
# Unpacks Debian's llama.cpp, which suite sid has, where it is not yet: 65 MB in a cache
# that all checkouts share, and a link to it. Nothing of it is installed: llama-server
# there runs with the libraries beside it, whatever this machine has.
set -euo pipefail
cd "$(dirname "$0")"
link=$PWD/../bin/llama
cache=/var/OVSA/cache/llama

fail() {
	echo "error: $1" >&2
	echo "hint: $2" >&2
	exit 1
}

mkdir -p "$cache" "$(dirname "$link")"
key=$(sha256sum <"${BASH_SOURCE[0]##*/}" | cut -c 1-16)
exec 9>"$cache/lock"
flock 9
if [[ ! -e $cache/$key/installed ]]; then
	echo "unpacking Debian's llama.cpp into $cache/$key"
	rm -rf "${cache:?}/$key"
	mkdir "$cache/$key"
	# A mirror may be one of some day: its lists are signed, and may be over.
	mmdebstrap --quiet --variant=extract --aptopt='Acquire::Check-Valid-Until "false"' \
		--aptopt='APT::Install-Recommends "false"' --include=llama.cpp-tools sid "$cache/$key/root" ||
		fail "llama.cpp cannot be fetched" "a mirror of Debian's suite sid must be reachable: see mmdebstrap's message above"
	# Its libraries and the program are all that is used.
	rm -rf "$cache/$key"/root/{dev,etc,run,tmp,var} "$cache/$key"/root/usr/{sbin,libexec,share}
	cat >"$cache/$key/llama-server" <<'PROGRAM'
#!/bin/sh
root=$(dirname "$(readlink -f "$0")")/root
libraries=$(dirname "$root"/usr/lib/*/libc.so.6)
# It looks for its backends in this directory, too.
cd "$libraries"/ggml/backends* || exit 1
exec "$libraries"/ld-linux*.so.* --library-path "$libraries:$libraries/llama" "$root/usr/bin/llama-server" "$@"
PROGRAM
	chmod -R u=rwX,go=rX "$cache/$key"
	chmod 755 "$cache/$key/llama-server"
	"$cache/$key/llama-server" --version >/dev/null 2>&1 || fail "llama-server does not run" "see what it says: $cache/$key/llama-server --version"
	touch "$cache/$key/installed"
fi
ln -sfn "$cache/$key" "$link"
