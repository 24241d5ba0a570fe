#!/bin/sh
# Makes the front's certificates, and a client's: what is missing of them.
#   generate_certs.sh [-p DIR] [-d NAME]
# DIR is where they are (/var/OVSA/Modelserver), NAME is by what clients know the front.
usage() {
	echo "Usage: generate_certs.sh [-p DIR] [-d NAME]" >&2
	exit 2
}
certs= name=
while getopts p:d: option; do
	case $option in
	p) certs=$OPTARG ;;
	d) name=$OPTARG ;;
	*) usage ;;
	esac
done
shift $((OPTIND - 1))
[ $# -eq 0 ] || usage
set -- gencerts
[ -z "$certs" ] || set -- "$@" -certs "$certs"
[ -z "$name" ] || set -- "$@" -host "$name" localhost 127.0.0.1
exec /opt/ovsa/kvm/bin/ovsaruntime "$@"
