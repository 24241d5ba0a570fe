#!/usr/bin/env bash
# The main job, in a lab: two guests with bound virtual TPMs from one file, a
# second run that changes nothing, and nothing left at the end. The lab's TPM is
# a stand-in, so nobody has enrolled it: hence --allow-unenrolled.
set -euo pipefail
cd "$(dirname "$0")/.."
PATH=$PWD/bin:$PATH
manifest=examples/quickstart.hcl
lab=demo-$$

show() {
	printf '\n$ %s\n' "$*"
	"$@"
}

inside() {
	printf '\n$ %s\n' "$*"
	ovsactl lab run --name "$lab" -- "$@"
}

trap 'ovsactl lab down --name "$lab" >/dev/null' EXIT

show ovsactl version
# Needs a package mirror, which a lab has no way to.
show ovsactl image build "$manifest"
show ovsactl lab up --name "$lab"
inside ovsactl apply "$manifest" --auto-approve
inside ovsactl status "$manifest"
inside ovsactl vtpm verify isv_dev --allow-unenrolled
inside ovsactl apply "$manifest" --auto-approve
inside ovsactl destroy "$manifest" --auto-approve
show ovsactl lab down --name "$lab"
