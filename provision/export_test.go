package provision

import (
	"github.com/ovsactl/ovsactl/roles"
	"github.com/ovsactl/ovsactl/vm"
)

// SettledMetadata is what a finished apply keeps of a role without components.
func SettledMetadata(m *roles.Manifest, r roles.Role) vm.Metadata {
	md := vm.Metadata{
		Role: r.Name, Image: "sha256:" + "00", DataDir: m.Host.DataDir, User: r.SSHUser, Address: r.Networks[0].Address,
		HostKeys: []string{"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIKq3nFqQH2bHWb9bVw0DkKQHrB8nC1yK6tq9rWq1nXkP"},
	}
	md.Intent, md.Manifest = newIntent(m, r).encode()
	return md
}
