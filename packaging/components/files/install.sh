#!/bin/sh
# Installs this component. Run as root: sudo ./install.sh
case $0 in */*) here=${0%/*} ;; *) here=. ;; esac
exec "$here/ovsainstall" "$@"
