#!/bin/sh
# Installed by `ovsactl host prepare`. libvirt runs it around the life of every
# guest, with the guest's name and the operation as arguments and its XML on
# stdin; ovsactl renews the binding of its own guests' virtual TPMs with it and
# leaves other guests alone.
#
# A removed ovsactl must not keep guests from starting: a binding that was not
# renewed is found by whoever verifies it.
ovsactl=@OVSACTL@
[ -x "$ovsactl" ] || exit 0
exec "$ovsactl" host hook --data-dir @DATA_DIR@ --tpm @TPM@ -- "$@"
