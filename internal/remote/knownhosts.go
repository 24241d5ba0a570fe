package remote

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"slices"
	"strings"

	"github.com/ovsactl/ovsactl/internal/atomicfile"
)

const (
	knownHostsName = "known_hosts"
	maxKnownHosts  = 4 << 20
)

// Remember makes hostKeys the only known keys of name and of addr. The file is
// one that `ssh -o UserKnownHostsFile=` reads.
func (c *Client) Remember(name string, addr netip.Addr, hostKeys []string) error {
	keys, err := parseHostKeys(hostKeys)
	if err != nil {
		return fmt.Errorf("remember host %q: %w", name, err)
	}
	return c.editKnownHosts(name, addr, keys)
}

// Forget removes what is known of name and of addr. Nothing known is no error.
func (c *Client) Forget(name string, addr netip.Addr) error {
	return c.editKnownHosts(name, addr, nil)
}

func (c *Client) editKnownHosts(name string, addr netip.Addr, keys hostKeys) error {
	if err := checkHostName(name); err != nil {
		return err
	}
	hosts := []string{name}
	if addr.IsValid() {
		hosts = append(hosts, addr.WithZone("").String())
	}
	held, err := lockDir(c.dir)
	if err != nil {
		return fmt.Errorf("edit known hosts: %w", err)
	}
	defer held.Release()
	old, err := readKnownHosts(c.KnownHostsPath())
	if err != nil {
		return fmt.Errorf("edit known hosts: %w", err)
	}
	text := withoutHosts(old, hosts)
	for _, key := range keys {
		text = append(text, strings.Join(hosts, ",")+" "+authorizedLine(key)+"\n"...)
	}
	if bytes.Equal(text, old) {
		return nil
	}
	return atomicfile.WriteFile(c.KnownHostsPath(), text, 0o600)
}

func readKnownHosts(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	if info.Size() > maxKnownHosts {
		return nil, fmt.Errorf("%q is over %d bytes", path, maxKnownHosts)
	}
	return os.ReadFile(path)
}

// withoutHosts drops the lines that name one of hosts and keeps all others as
// they are, comments and lines that it does not understand included.
func withoutHosts(text []byte, hosts []string) []byte {
	var kept []byte
	for line := range bytes.Lines(text) {
		fields := strings.Fields(string(line))
		if len(fields) >= 3 && slices.ContainsFunc(strings.Split(fields[0], ","), func(h string) bool { return slices.Contains(hosts, h) }) {
			continue
		}
		kept = append(kept, line...)
	}
	if len(kept) > 0 && kept[len(kept)-1] != '\n' {
		kept = append(kept, '\n')
	}
	return kept
}

// checkHostName keeps characters that mean something in known_hosts out of it.
func checkHostName(name string) error {
	ok := name != "" && len(name) <= 255 && name[0] != '-'
	for _, r := range name {
		ok = ok && (r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("_-.", r))
	}
	if !ok {
		return fmt.Errorf("known host %q: not a plain host name", name)
	}
	return nil
}
