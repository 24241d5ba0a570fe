#!/bin/sh
# Serves the models of the sample.json beside it, over mTLS.
# That is what ovsaruntime.service does; this starts it, and starts it again.
set -eu
[ $# -eq 0 ] || {
	echo "Usage: start_secure_ovsa_model_server.sh" >&2
	exit 2
}
root=
[ "$(id -u)" -eq 0 ] || root=sudo
config=/opt/ovsa/kvm/example_runtime/sample.json
[ -e "$config" ] || {
	echo "error: there is no $config, which says what is served" >&2
	exit 1
}
[ -n "$($root ls -A /opt/ovsa/kvm/keystore)" ] || {
	echo "error: no key store is in /opt/ovsa/kvm/keystore yet, with which models are opened: make one with ovsatool keygen" >&2
	exit 1
}
$root systemctl restart ovsaruntime.service || {
	$root journalctl --unit ovsaruntime.service --lines 10 --output cat --no-pager >&2
	exit 1
}
exec /opt/ovsa/kvm/bin/ovsaruntime status -wait 3m
