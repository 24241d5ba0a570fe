#!/usr/bin/env bash
# Fetches libraries from a wheel of PyPI, NAME.txt by version and digest, into a
# directory, those that a list names. It does nothing where they are there.
set -euo pipefail
name=${1:?name of the wheel}
list=$(realpath "${2:?list of files}")
to=$(realpath -m "${3:?directory}")
cd "$(dirname "$0")"

fail() {
	echo "error: $1" >&2
	echo "hint: $2" >&2
	exit 1
}

# What is there is of this wheel and this list.
want=$(cat "$name.txt" "$list" | sha256sum)
[[ ! -e $to/.complete || $(<"$to/.complete") != "$want" ]] || exit 0

python3 -m pip --version >/dev/null 2>&1 || fail "no pip: the libraries of $name cannot be fetched" "apt-get install python3-pip"
mkdir -p "$(dirname "$to")"
work=$(mktemp -d "$to.XXXXXX")
trap 'rm -rf "$work"' EXIT
echo "fetching the libraries of $(grep -o '^[a-z]*==[^ ]*' "$name.txt")" >&2
python3 -m pip --disable-pip-version-check download --quiet --no-deps --require-hashes --dest "$work" \
	--only-binary :all: --implementation cp --python-version 3.11 --abi cp311 --platform manylinux_2_28_x86_64 \
	--requirement "$name.txt" || fail "the libraries of $name cannot be fetched" "PyPI must be reachable (see pip's message); what does not need them works without"

# Libraries go beside each other, as they look for one another, and licences into a directory.
python3 - "$work/$name"-*.whl "$list" "$work/new" <<'PYTHON'
import os, sys, zipfile

wheel, wanted, to = sys.argv[1:]
os.makedirs(os.path.join(to, "licenses"))
names = [line.strip() for line in open(wanted) if line.strip() and not line.startswith("#")]
with zipfile.ZipFile(wheel) as z:
    for name in names:
        kind = "." if ".so" in name else "licenses"
        with open(os.path.join(to, kind, os.path.basename(name)), "wb") as f:
            f.write(z.read(name))
PYTHON
echo "$want" >"$work/new/.complete"
chmod -R u=rwX,go=rX "$work/new"
rm -rf "$to"
mv -T "$work/new" "$to"
