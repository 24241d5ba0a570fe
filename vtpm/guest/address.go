package guest

import (
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// defaultPort is swtpm's, and that of the TSS's swtpm TCTI.
const defaultPort = 2321

// errAddress says that a text names no TPM.
var errAddress = errors.New(`want a device such as /dev/tpmrm0, unix:PATH, or as the TSS spells it swtpm:port=N, swtpm:path=PATH or device:PATH`)

// address is where a TPM is: a device, or a program's socket.
type address struct {
	device string
	socket unix.Sockaddr // nil for a device
	family int           // of socket
}

// parseAddress parses an address: that of a device, "unix:PATH", or the spelling of
// the TSS's TCTIs (tpm2-tss, tctildr): "device:PATH", "swtpm:path=PATH", or
// "swtpm:host=HOST,port=N", of which either may be missing. Only this machine's own
// addresses are taken: nothing protects what goes to a TPM over a network.
func parseAddress(text string) (address, error) {
	if path, ok := strings.CutPrefix(text, "unix:"); ok {
		return onPath(path)
	}
	if path, ok := strings.CutPrefix(text, "device:"); ok {
		text = path
	} else if config, ok := strings.CutPrefix(text, "swtpm:"); ok {
		return parseSwtpm(config)
	} else if text == "swtpm" {
		return parseSwtpm("")
	}
	if text == "" {
		return address{}, errAddress
	}
	return address{device: text}, nil
}

func onPath(path string) (address, error) {
	if path == "" {
		return address{}, errAddress
	}
	return address{socket: &unix.SockaddrUnix{Name: path}, family: unix.AF_UNIX}, nil
}

// parseSwtpm parses the configuration of the TSS's swtpm TCTI.
func parseSwtpm(config string) (address, error) {
	if path, ok := strings.CutPrefix(config, "path="); ok {
		return onPath(path)
	}
	host, port := netip.AddrFrom4([4]byte{127, 0, 0, 1}), uint64(defaultPort)
	seen := map[string]bool{}
	for word := range strings.SplitSeq(config, ",") {
		if config == "" {
			break
		}
		key, value, ok := strings.Cut(word, "=")
		if !ok || seen[key] {
			return address{}, errAddress
		}
		seen[key] = true
		var err error
		switch key {
		case "port":
			if port, err = strconv.ParseUint(value, 10, 16); err != nil || port == 0 {
				return address{}, fmt.Errorf("port %q: want a number from 1 to 65535", value)
			}
		case "host":
			if value == "localhost" {
				continue
			}
			if host, err = netip.ParseAddr(value); err != nil || !host.IsLoopback() || host.Zone() != "" {
				return address{}, fmt.Errorf("host %q: want an address of this machine alone, such as 127.0.0.1", value)
			}
		default:
			return address{}, errAddress
		}
	}
	host = host.Unmap()
	if host.Is4() {
		return address{socket: &unix.SockaddrInet4{Port: int(port), Addr: host.As4()}, family: unix.AF_INET}, nil
	}
	return address{socket: &unix.SockaddrInet6{Port: int(port), Addr: host.As16()}, family: unix.AF_INET6}, nil
}
