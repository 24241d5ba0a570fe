#!/usr/bin/env bash
# Makes a directory with a Python that has OpenVINO's own interface, for tests, by
# versions and digests; does nothing where it is there.
set -euo pipefail
to=$(realpath -m "${1:?directory}")
cd "$(dirname "$0")"

want=$(sha256sum python.txt)
[[ ! -e $to/.complete || $(<"$to/.complete") != "$want" ]] || exit 0

rm -rf "$to" # a venv knows where it is, and cannot be moved into place
mkdir -p "$(dirname "$to")"
/usr/bin/python3 -m venv "$to"
"$to/bin/python" -m pip --disable-pip-version-check install --quiet --only-binary :all: --require-hashes --requirement python.txt
echo "$want" >"$to/.complete"
