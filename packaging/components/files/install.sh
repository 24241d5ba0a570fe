#!/bin/sh
# Installs this component. Run as root:  sudo ./install.sh
#
# It checks every file of the package before it changes anything. Each file is
# then replaced as a whole; one that is right already is left alone. Killed at
# any point, it finishes when it is run again. A newer version removes the files
# of the older one that it does not have.
#
# DESTDIR=DIR installs below DIR, without owners and users, and needs no root.
set -eu
umask 022
LC_ALL=C
export LC_ALL

# The first line and the last one of MANIFEST tell that it is whole. Between:
#   component NAME VERSION
#   dir MODE OWNER PATH
#   file SHA256 MODE PATH      (owned by root; its content is in ./root)
here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd -P)
dest=${DESTDIR:-}
dest=${dest%/}
state=$dest/var/lib/ovsactl/components
user=ovsa

fail() { printf 'install.sh: error: %s\n' "$*" >&2; exit 1; }
digest() { sum=$(sha256sum <"$1") && printf '%s' "${sum%% *}"; }

# each KIND FUNCTION: calls FUNCTION with the fields of each line of that kind.
each() {
	while read -r kind a b c; do
		[ "$kind" != "$1" ] || "$2" "$a" "$b" "$c"
	done <"$here/MANIFEST"
}

safe() {
	case $1 in
	/*/../* | */.. | *[!A-Za-z0-9._/-]* | *//*) return 1 ;;
	/opt/ovsa | /opt/ovsa/*) return 0 ;;
	/usr/local/lib/systemd | /usr/local/lib/systemd/system) return 0 ;;
	/usr/local/lib/systemd/system/license_server.service) return 0 ;;
	esac
	return 1
}

check_dir() { safe "$3" || fail "MANIFEST names the directory $3"; }

check_file() {
	safe "$3" || fail "MANIFEST names the file $3"
	[ -f "$here/root$3" ] && [ ! -L "$here/root$3" ] || fail "$3 is missing from the package"
	[ "$(digest "$here/root$3")" = "$1" ] || fail "$3 is not the file that was packaged"
	count=$((count + 1))
}

set_component() { name=$1 version=$2; }

check_package() {
	[ -f "$here/MANIFEST" ] || fail "this package has no MANIFEST"
	[ "$(head -n 1 "$here/MANIFEST")" = 'ovsa-manifest 1' ] || fail "MANIFEST is of another version"
	[ "$(tail -n 1 "$here/MANIFEST")" = end ] || fail "MANIFEST is not whole"
	name='' version='' count=0
	each component set_component
	case $name in '' | *[!a-z0-9_]*) fail "MANIFEST names no component" ;; esac
	case $version in '' | *[!A-Za-z0-9._+~-]*) fail "MANIFEST has no version" ;; esac
	each dir check_dir
	each file check_file
	[ "$(find "$here/root" ! -type d | wc -l)" -eq "$count" ] || fail "the package has files that MANIFEST does not name"
}

make_user() {
	[ -z "$dest" ] || return 0
	id -u "$user" >/dev/null 2>&1 || useradd --create-home --shell /bin/bash "$user"
}

# own PATH OWNER[:GROUP]: a change of owner is made only where one is needed.
own() {
	[ -z "$dest" ] || return 0
	case $2 in
	*:*) [ "$(stat -c %U:%G "$1")" = "$2" ] || chown "$2" "$1" ;;
	*) [ "$(stat -c %U "$1")" = "$2" ] || chown "$2:" "$1" ;;
	esac
}

make_dir() {
	path=$dest$3
	[ ! -L "$path" ] || fail "$path is a link"
	[ -d "$path" ] || mkdir -p -m 0700 "$path"
	own "$path" "$2"
	[ "$(stat -c %04a "$path")" = "$1" ] || chmod "$1" "$path"
	rm -f "$path"/.ovsa-new.?????? # of a run that was killed
}

put_file() {
	path=$dest$3
	if [ -f "$path" ] && [ ! -L "$path" ] && [ "$(stat -c %04a "$path")" = "$2" ] && [ "$(digest "$path")" = "$1" ]; then
		own "$path" root
		return 0
	fi
	[ ! -d "$path" ] || fail "$path is a directory"
	new=$(mktemp "${path%/*}/.ovsa-new.XXXXXX")
	cat "$here/root$3" >"$new"
	chmod "$2" "$new"
	own "$new" root
	sync "$new"
	mv -f "$new" "$path"
	changed=$((changed + 1))
}

list_file() { printf '%s\n' "$3"; }

# remove_old: the files that an earlier version installed and this one has not,
# unless another component has them.
remove_old() {
	[ -f "$state/$name.files" ] || return 0
	while read -r old; do
		safe "$old" || continue
		! grep -Fqx -- "$old" "$work/files" || continue
		for other in "$state"/*.files; do
			[ "$other" != "$state/$name.files" ] || continue
			! grep -Fqsx -- "$old" "$other" || continue 2
		done
		[ ! -f "$dest$old" ] || { rm -f "$dest$old" && changed=$((changed + 1)); }
	done <"$state/$name.files"
}

# keep FILE PATH: makes FILE the content of PATH unless it is already.
keep() {
	cmp -s "$1" "$2" && return 0
	cp "$1" "$2.new"
	sync "$2.new"
	mv -f "$2.new" "$2"
}

json_file() { printf '%s\n    {"path": "%s", "mode": "%s", "sha256": "%s"}' "$comma" "$3" "$2" "$1"; comma=,; }

record() {
	package=${OVSA_PACKAGE_SHA256:-}
	case $package in *[!0-9a-f]*) package='' ;; esac
	comma=''
	printf '{\n  "format": 1,\n  "name": "%s",\n  "version": "%s",\n' "$name" "$version"
	printf '  "package_sha256": "%s",\n  "manifest_sha256": "%s",\n' "$package" "$(digest "$here/MANIFEST")"
	printf '  "files": ['
	each file json_file
	printf '\n  ]\n}\n'
}

[ -n "$dest" ] || [ "$(id -u)" -eq 0 ] || fail "this needs root: sudo $0"
check_package
mkdir -p "$state"
(umask 077 && : >>"$state/.lock") # whoever can open it can hold it
exec 9>>"$state/.lock"
flock -w 300 9 || fail "another installation is still running"
work=$state/.work
[ -d "$work" ] || mkdir -m 0700 "$work"
rm -f "$work"/* # of a run that was killed
trap 'rm -f "$work"/*' EXIT
trap 'exit 130' INT TERM HUP
changed=0
each file list_file >"$work/files"

# Until this run is over, the files of both versions are on record.
cat "$work/files" "$state/$name.files" 2>/dev/null | sort -u >"$work/both" || true
keep "$work/both" "$state/$name.files"
make_user
each dir make_dir
each file put_file
remove_old
keep "$work/files" "$state/$name.files"
if [ "$changed" -gt 0 ] && [ -z "$dest" ] && [ -d /run/systemd/system ] && grep -q '\.service$' "$work/files"; then
	systemctl daemon-reload || printf 'install.sh: warning: systemctl daemon-reload failed\n' >&2
fi
record >"$work/record"
keep "$work/record" "$state/$name.json"
printf '%s %s: %s\n' "$name" "$version" "$([ "$changed" -eq 0 ] && echo 'installed already' || echo "installed, $changed files changed")"
