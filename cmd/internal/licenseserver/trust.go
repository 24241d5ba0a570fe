package licenseserver

import "github.com/ovsactl/ovsactl/cmd/internal/trust"

// stores are the server's trust stores.
func (d certDir) stores() trust.Stores {
	const then = "a server that runs reads it at its next reload: systemctl reload license_server"
	noAuthority := "no host can be enrolled, while this server has no authority of its own (gencert-attestation)"
	if own, err := d.has(authorityCert); err == nil && own {
		noAuthority = ""
	}
	dir := func(purpose string) string { return d.path("trust/" + purpose) }
	return trust.Stores{All: []trust.Store{
		{For: "isv", Dir: dir("isv"), Whose: "ISVs', or their authorities'", Lacks: "no licence can be stored"},
		{For: "customer", Dir: dir("customer"), Whose: "customers', or their authorities'", Lacks: "no licence can be stored"},
		{For: "tpm-vendor", Dir: dir("tpm-vendor"), Whose: "makers of hosts' TPMs", Lacks: "no host can be enrolled, and no guest gets a key", Then: then, Authorities: true},
		{For: "attestation", Dir: dir("attestation"), Whose: "authorities that enrol hosts, beside this server's own", Lacks: noAuthority, Then: then, Authorities: true},
	}}
}
