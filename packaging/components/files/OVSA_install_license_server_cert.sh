#!/bin/sh
# Makes and installs the licence server's certificates:
#   gencert | gencert-new | install-cert FILE [KEY] | install-new-cert FILE [KEY] | provision-new-cert
[ $# -gt 0 ] || set -- help
exec /opt/ovsa/bin/license_server "$@"
