package vm

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Limits of an announcement: the guest writes it, and the guest may be hostile.
const (
	maxAnnouncement = 64 << 10
	maxAnnounceLine = 4 << 10
)

const (
	announceFirst = "ovsactl-announce 1"
	announceLast  = "end"
)

// hostKeyTypes are the key types that are taken; others are passed over, so
// that a guest with a newer SSH server still announces the ones we know.
var hostKeyTypes = []string{
	"ssh-ed25519", "ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384", "ecdsa-sha2-nistp521", "ssh-rsa",
}

// announcement collects what a guest writes to its port until one announcement
// is whole. The guest repeats itself, so a beginning that was cut off is passed
// over.
type announcement struct {
	buf   []byte
	total int
	open  bool // between the first line and the last
	keys  []string
}

// add takes more bytes. It returns the keys once an announcement with at least
// one is whole, and an error when what came is not one.
func (a *announcement) add(data []byte) ([]string, error) {
	if a.total += len(data); a.total > maxAnnouncement {
		return nil, fmt.Errorf("host key announcement: over %d bytes without an end", maxAnnouncement)
	}
	a.buf = append(a.buf, data...)
	for {
		line, rest, found := bytes.Cut(a.buf, []byte("\n"))
		if !found {
			if len(a.buf) > maxAnnounceLine {
				return nil, fmt.Errorf("host key announcement: line over %d bytes", maxAnnounceLine)
			}
			return nil, nil
		}
		a.buf = rest
		if keys, err := a.line(strings.TrimSuffix(string(line), "\r")); err != nil || keys != nil {
			return keys, err
		}
	}
}

func (a *announcement) line(line string) ([]string, error) {
	switch {
	case line == announceFirst:
		a.open, a.keys = true, nil
	case !a.open:
	case line == announceLast:
		a.open, a.total = false, 0
		return a.keys, nil // nil while the guest has no keys yet: it will say it again
	default:
		key, err := parseHostKey(line)
		if err != nil {
			return nil, fmt.Errorf("host key announcement: %w", err)
		}
		if key == "" || slices.Contains(a.keys, key) {
			return nil, nil
		}
		if len(a.keys) == maxHostKeys {
			return nil, fmt.Errorf("host key announcement: over %d keys", maxHostKeys)
		}
		a.keys = append(a.keys, key)
	}
	return nil, nil
}

// parseHostKey reads "hostkey TYPE BASE64" and returns "TYPE BASE64", "" for a
// type that is not known.
func parseHostKey(line string) (string, error) {
	fields := strings.Split(line, " ")
	if len(fields) != 3 || fields[0] != "hostkey" {
		return "", fmt.Errorf("line %.40q is not a host key", line)
	}
	kind, blob := fields[1], fields[2]
	if !slices.Contains(hostKeyTypes, kind) {
		return "", nil
	}
	wire, err := base64.StdEncoding.Strict().DecodeString(blob)
	if err != nil {
		return "", fmt.Errorf("key of type %s: %w", kind, err)
	}
	if len(wire) < 4 || int64(binary.BigEndian.Uint32(wire)) != int64(len(kind)) || len(wire) <= 4+len(kind) || string(wire[4:4+len(kind)]) != kind {
		return "", errors.New("key is not of the type it claims")
	}
	return kind + " " + blob, nil
}
