package vm

import (
	"encoding/xml"
	"time"

	"libvirt.org/go/libvirt"
)

// statusText gives libvirt's words, those of `virsh list` and `virsh domstate
// --reason`.
func statusText(status libvirt.DomainState, reason int) (string, string) {
	words := map[libvirt.DomainState]string{
		libvirt.DOMAIN_NOSTATE: "no state", libvirt.DOMAIN_RUNNING: "running", libvirt.DOMAIN_BLOCKED: "idle",
		libvirt.DOMAIN_PAUSED: "paused", libvirt.DOMAIN_SHUTDOWN: "in shutdown", libvirt.DOMAIN_SHUTOFF: "shut off",
		libvirt.DOMAIN_CRASHED: "crashed", libvirt.DOMAIN_PMSUSPENDED: "pmsuspended",
	}
	word, ok := words[status]
	if !ok {
		word = "unknown"
	}
	return word, reasonText(status, reason)
}

func reasonText(status libvirt.DomainState, reason int) string {
	switch status {
	case libvirt.DOMAIN_PAUSED:
		return map[libvirt.DomainPausedReason]string{
			libvirt.DOMAIN_PAUSED_USER: "user", libvirt.DOMAIN_PAUSED_IOERROR: "I/O error",
			libvirt.DOMAIN_PAUSED_SAVE: "saving", libvirt.DOMAIN_PAUSED_DUMP: "dumping",
			libvirt.DOMAIN_PAUSED_STARTING_UP: "starting up", libvirt.DOMAIN_PAUSED_WATCHDOG: "watchdog",
			libvirt.DOMAIN_PAUSED_CRASHED: "crashed", libvirt.DOMAIN_PAUSED_MIGRATION: "migrating",
		}[libvirt.DomainPausedReason(reason)]
	case libvirt.DOMAIN_SHUTOFF:
		return map[libvirt.DomainShutoffReason]string{
			libvirt.DOMAIN_SHUTOFF_SHUTDOWN: "shutdown", libvirt.DOMAIN_SHUTOFF_DESTROYED: "destroyed",
			libvirt.DOMAIN_SHUTOFF_CRASHED: "crashed", libvirt.DOMAIN_SHUTOFF_SAVED: "saved",
			libvirt.DOMAIN_SHUTOFF_FAILED: "failed to start", libvirt.DOMAIN_SHUTOFF_DAEMON: "daemon",
			libvirt.DOMAIN_SHUTOFF_MIGRATED: "migrated",
		}[libvirt.DomainShutoffReason(reason)]
	}
	return ""
}

// runXML is the mark of a start.
type runXML struct {
	XMLName xml.Name `xml:"run"`
	Started string   `xml:"started,attr"`
}

func encodeRun(now time.Time) (string, error) {
	out, err := xml.Marshal(runXML{Started: formatTime(now)})
	return string(out), err
}

// parseRun returns the time of a start, zero when element is not as we write it.
func parseRun(element string) time.Time {
	var run runXML
	if len(element) > 1024 || xml.Unmarshal([]byte(element), &run) != nil {
		return time.Time{}
	}
	t, err := parseTime(run.Started)
	if err != nil {
		return time.Time{}
	}
	return t
}
