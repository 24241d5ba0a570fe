// Package templates holds the files that guests get: units, scripts and
// configuration, embedded so that the programs need nothing beside them.
package templates

import _ "embed"

// Where the announcement's files are installed in a guest, and the unit's name.
const (
	AnnounceScriptPath = "/usr/local/lib/ovsactl/ovsactl-announce" // mode 0755
	AnnounceUnitPath   = "/etc/systemd/system/ovsactl-announce.service"
	AnnounceUnitName   = "ovsactl-announce.service"
)

// AnnounceScript writes the guest's SSH host keys to the host, again and
// again, over the virtio-serial port org.ovsactl.0: the line
// "ovsactl-announce 1", "hostkey TYPE BASE64" per key, "end".
//
//go:embed announce/ovsactl-announce
var AnnounceScript []byte

// AnnounceUnit is the systemd unit that runs AnnounceScript.
//
//go:embed announce/ovsactl-announce.service
var AnnounceUnit []byte
