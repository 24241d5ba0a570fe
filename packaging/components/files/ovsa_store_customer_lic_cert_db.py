#!/bin/sh
''':'
# A shell script to a shell, and Python to Python: the guide starts it with python3.
# It stores a customer's licence:  DB LIC PRIMARY SECONDARY
[ $# -ge 1 ] || set -- -help
case $1 in -*) exec /opt/ovsa/bin/license_server store "$@" ;; esac
db=$1
shift
exec /opt/ovsa/bin/license_server store -db "$db" "$@"
'''
import os
import sys

words = sys.argv[1:] or ["-help"]
if not words[0].startswith("-"):
    words.insert(0, "-db")
os.execv("/opt/ovsa/bin/license_server", ["license_server", "store"] + words)
