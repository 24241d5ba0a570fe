#!/bin/sh
# Installs this component. Run as root:  sudo ./install.sh
#
# It checks every file of the package before it changes anything. Each file is
# then replaced as a whole; one that is right already is left alone. Killed at
# any point, it finishes when it is run again. A newer version removes the files
# of the older one that it does not have.
#
# DESTDIR=DIR installs below DIR, without owners and users, and needs no root.
# OVSA_CONSUME=1 says that this directory is root's alone, came whole, and is not
# needed any more: then files are moved out of it, and are not read once more.
#
# To start a program takes a guest without KVM a tenth of a second. So what the
# shell can do itself it does, and the programs do all of a kind at once.
set -eu
umask 022
LC_ALL=C
export LC_ALL

# The first line and the last one of MANIFEST tell that it is whole. Between:
#   component NAME VERSION
#   dir MODE OWNER PATH
#   file SHA256 MODE PATH      (owned by root; its content is in ./root)
case $0 in */*) here=${0%/*} ;; *) here=. ;; esac
here=$(CDPATH='' cd -- "$here" && pwd -P)
dest=${DESTDIR:-}
dest=${dest%/}
consume=${OVSA_CONSUME:-}
state=$dest/var/lib/ovsactl/components
user=ovsa
newline='
'

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
	count=$((count + 1))
}

set_component() { name=$1 version=$2; }
sum_line() { printf '%s  root%s\n' "$1" "$3"; }

check_package() {
	[ -f "$here/MANIFEST" ] || fail "this package has no MANIFEST"
	first='' last=''
	while read -r line; do
		first=${first:-$line} last=$line
	done <"$here/MANIFEST"
	[ "$first" = 'ovsa-manifest 1' ] || fail "MANIFEST is of another version"
	[ "$last" = end ] || fail "MANIFEST is not whole"
	name='' version='' count=0
	each component set_component
	case $name in '' | *[!a-z0-9_]*) fail "MANIFEST names no component" ;; esac
	case $version in '' | *[!A-Za-z0-9._+~-]*) fail "MANIFEST has no version" ;; esac
	each dir check_dir
	each file check_file
	[ -z "$consume" ] || return 0
	[ "$(find "$here/root" ! -type d | wc -l)" -eq "$count" ] || fail "the package has files that MANIFEST does not name"
	wrong=$(cd "$here" && each file sum_line | sha256sum --check --strict --quiet 2>/dev/null) || {
		wrong=${wrong%%: FAILED*}
		fail "${wrong#root} is not the file that was packaged"
	}
}

# find_user sets uid and gid to those of the user, whom it makes where there is
# none.
find_user() {
	uid=0 gid=0
	[ -z "$dest" ] || return 0
	for try in 1 2; do
		while IFS=: read -r login _ uid gid _; do
			[ "$login" != "$user" ] || return 0
		done </etc/passwd
		[ "$try" = 2 ] || useradd --create-home --shell /bin/bash "$user"
	done
	fail "there is no user $user, and none could be made"
}

# ids OWNER sets owner to the numbers of OWNER: root, ovsa or root:ovsa.
ids() {
	case $1 in
	root) owner=0:0 ;;
	"$user") owner=$uid:$gid ;;
	root:"$user") owner=0:$gid ;;
	*) fail "MANIFEST names the owner $1" ;;
	esac
}

# know PATH...: looks at all of these at once, for is and same_device.
know() { known=$newline$(stat -c '%n %04a %u:%g %d' -- "$@" 2>/dev/null || :)$newline; }

# is PATH MODE OWNER: PATH has this mode and, unless nothing has one, this owner.
is() {
	case $known in
	*"$newline$1 $2 $3 "*) return 0 ;;
	*"$newline$1 $2 "*) [ -n "$dest" ] ;;
	*) return 1 ;;
	esac
}

# device PATH: the number of the file system that PATH is on.
device() {
	rest=${known#*"$newline$1 "}
	rest=${rest%%"$newline"*}
	printf '%s' "${rest##* }"
}

list_dir() { printf '%s\n' "$dest$3"; }

# note_dir adds a directory that has to change to those of its mode and owner.
# What a killed run left in one that stays is removed.
note_dir() {
	path=$dest$3
	[ ! -L "$path" ] || fail "$path is a link"
	ids "$2"
	if [ -d "$path" ]; then
		set -- "$1" "$2" "$3" "$path"/.ovsa-new.??????
		if [ -e "$4" ]; then
			mode=$1
			shift 3
			rm -f -- "$@"
			set -- "$mode"
		fi
		! is "$path" "$1" "$owner" || return 0
	fi
	case $kinds in *" $1/$owner "*) ;; *) kinds="$kinds $1/$owner " ;; esac
	dirs="$dirs $1/$owner$path"
}

# make_dirs makes the directories: those of root's 0755 are above all others.
make_dirs() {
	for kind in 0755/0:0 $kinds; do
		mode=${kind%%/*} owner=${kind#*/}
		set --
		for dir in $dirs; do
			case $dir in "$kind"/*) set -- "$@" "${dir#"$kind"}" ;; esac
		done
		[ $# -gt 0 ] || continue
		if [ -n "$dest" ]; then
			install -d -m "$mode" -- "$@"
		else
			install -d -m "$mode" -o "${owner%:*}" -g "${owner#*:}" -- "$@"
		fi
	done
}

list_file() { printf '%s\n' "$3"; }
list_paths() { printf '%s\n%s\n%s\n' "$dest$3" "$here/root$3" "$dest${3%/*}"; }

# stage_file decides what a file needs. moves are those that can be renamed into
# place as they are; copies have been made beside it.
stage_file() {
	path=$dest$3 source=$here/root$3
	if [ -f "$path" ] && [ ! -L "$path" ] && is "$path" "$2" 0:0 && cmp -s "$source" "$path"; then
		return 0
	fi
	[ ! -d "$path" ] || fail "$path is a directory"
	changed=$((changed + 1))
	# A unit that is new is found when it is asked for; one that has changed is not.
	case $path in *.service) [ ! -e "$path" ] || reload=1 ;; esac
	if [ -n "$consume" ] && is "$source" "$2" 0:0 && [ "$(device "$source")" = "$(device "${path%/*}")" ]; then
		moves="$moves $source" # nothing in these has spaces: see safe
		case " $places " in *" ${path%/*} "*) ;; *) places="$places ${path%/*}" ;; esac
		return 0
	fi
	new=$(mktemp "${path%/*}/.ovsa-new.XXXXXX")
	cat "$source" >"$new"
	[ -n "$dest" ] || chown 0:0 "$new"
	chmod "$2" "$new"
	copies="$copies $new" targets="$targets $path"
}

# place_files: all that changes is on the disk before the first file does.
place_files() {
	[ -n "$moves$copies" ] || return 0
	sync -- $moves $copies
	for dir in $places; do
		set --
		for source in $moves; do
			path=$dest${source#"$here/root"}
			[ "${path%/*}" != "$dir" ] || set -- "$@" "$source"
		done
		mv -f -t "$dir" -- "$@"
	done
	set -- $targets
	for new in $copies; do
		mv -fT -- "$new" "$1"
		shift
	done
}

# remove_old: the files that an earlier version installed and this one has not,
# unless another component has them.
remove_old() {
	grep -Fvx -f "$work/files" "$list" >"$work/gone" || return 0
	while read -r old; do
		safe "$old" || continue
		for other in "$state"/*.files; do
			[ "$other" != "$list" ] || continue
			! grep -Fqsx -- "$old" "$other" || continue 2
		done
		[ -f "$dest$old" ] || continue
		rm -f "$dest$old"
		changed=$((changed + 1))
		case $old in *.service) reload=1 ;; esac
	done <"$work/gone"
}

# keep NAME FILE makes $work/NAME the content of FILE unless it is already.
keep() {
	[ ! -f "$2" ] || ! cmp -s "$work/$1" "$2" || return 0
	sync "$work/$1"
	mv -fT -- "$work/$1" "$2"
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

[ -n "$dest" ] || [ -O / ] || fail "this needs root: sudo $0"
check_package
work=$state/.work
[ -d "$work" ] || mkdir -p -m 0700 "$work"
(umask 077 && : >>"$state/.lock") # whoever can open it can hold it
exec 9>>"$state/.lock"
flock -w 300 9 || fail "another installation is still running"
set -- "$work"/*
[ ! -e "$1" ] || rm -f -- "$@" # of a run that was killed
trap 'rm -f "$work"/*' EXIT
trap 'exit 130' INT TERM HUP
each file list_file >"$work/files"

# Until this run is over, the files of both versions are on record.
list=$state/$name.files
if [ -f "$list" ]; then
	sort -u "$work/files" "$list" >"$work/both"
else
	each file list_file >"$work/both"
fi
keep both "$list"

find_user
changed=0 kinds='' dirs='' moves='' places='' copies='' targets='' reload=''
know $(each dir list_dir)
each dir note_dir
make_dirs
know $(each file list_paths)
each file stage_file
place_files
remove_old
keep files "$list"
if [ -n "$reload" ] && [ -z "$dest" ] && [ -d /run/systemd/system ]; then
	systemctl daemon-reload || printf 'install.sh: warning: systemctl daemon-reload failed\n' >&2
fi
record >"$work/record"
keep record "$state/$name.json"
[ "$changed" -gt 0 ] && what="installed, $changed files changed" || what='installed already'
printf '%s %s: %s\n' "$name" "$version" "$what"
