#!/bin/sh
# Serves the models of the sample.json beside it, over mTLS: gRPC at 3335, REST at 2225.
# That is what ovsaruntime.service does; this starts it, and again for another file.
[ $# -eq 0 ] || {
	echo "Usage: start_secure_ovsa_model_server.sh" >&2
	exit 2
}
root=
[ "$(id -u)" -eq 0 ] || root=sudo
config=/opt/ovsa/kvm/example_runtime/sample.json
for path in "$config" /opt/ovsa/kvm/keystore/*; do
	$root test -e "$path" || {
		echo "error: there is no $path: the models are named in the first, and opened with a key store (ovsatool keygen)" >&2
		exit 1
	}
	break
done
$root systemctl restart ovsaruntime.service || {
	$root journalctl --unit ovsaruntime.service --lines 10 --output cat --no-pager >&2
	exit 1
}
$root systemctl is-active --quiet ovsaruntime.service || {
	echo "error: it has nothing to serve yet: no customer's key store is in /opt/ovsa/kvm/keystore (ovsatool keygen)" >&2
	exit 1
}
exec /opt/ovsa/kvm/bin/ovsaruntime status
