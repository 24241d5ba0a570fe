package roles

import (
	"encoding/hex"
	"fmt"
	"net/url"
	"slices"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/zclconf/go-cty/cty"
)

// Enroll names the licence server that certifies the host's attestation key.
// Exactly one of Role and URL is set.
type Enroll struct {
	Role   string // with the component license_server; whom to believe is read over SSH
	Port   int    // of that component
	URL    string // https://HOST[:PORT]; Issuer and one of Pin and CA are set
	Pin    string // SHA-256 of the server's public key, lower-case hex
	CA     string // absolute path of the authority of the server's certificate
	Issuer string // absolute path of the attestation authority
	Range  hcl.Range
}

// licenseServer is the component that certifies hosts.
const licenseServer = "license_server"

// decodeEnroll reads the host's enroll block, which may name a role: unlike the rest
// of the host it needs the rest of the manifest.
func (l *loader) decodeEnroll() *Enroll {
	if l.host == nil {
		return nil
	}
	// What else is wrong with the host block has been said.
	content, _, _ := l.host.Body.PartialContent(&hcl.BodySchema{Blocks: []hcl.BlockHeaderSchema{{Type: "enroll"}}})
	block := fields{l, content, l.host.DefRange}.single("enroll")
	if block == nil {
		return nil
	}
	f := l.open(block, []string{"server", "pin", "ca", "issuer"}, nil)
	f.require("server", `it is the licence server's role, as in role.isv_dev, or its address, such as "https://lic.example.org:4452".`)
	if !f.has("server") {
		return nil
	}
	e := &Enroll{Range: block.DefRange}
	v, ok := f.value("server", cty.DynamicPseudoType, "")
	switch {
	case !ok:
	case v.Type() == cty.String:
		l.decodeServerURL(f, e)
	default:
		l.decodeServerRole(f, e)
	}
	return e
}

// decodeServerRole takes a guest of this host: all that has to be known of its
// licence server is read in it.
func (l *loader) decodeServerRole(f fields, e *Enroll) {
	n := f.reference("server", "role")
	for _, name := range []string{"pin", "ca", "issuer"} {
		if f.has(name) {
			f.fail(name, "Unexpected argument", fmt.Sprintf("Whom to believe is read in the role's own guest, over SSH: the argument %q goes with an address.", name))
		}
	}
	if n == nil || n.role == nil {
		return
	}
	e.Role = n.name
	i := slices.IndexFunc(n.role.Components, func(c Component) bool { return c.Name == licenseServer })
	if i < 0 {
		f.fail("server", "No licence server", fmt.Sprintf("The role %q has no licence server:\n\n    component %q {}", n.name, licenseServer))
		return
	}
	e.Port = n.role.Components[i].Port
}

// decodeServerURL takes somebody's server: nothing about it is believed that the
// manifest does not say.
func (l *loader) decodeServerURL(f fields, e *Enroll) {
	e.URL = f.text("server", "")
	u, err := url.Parse(e.URL)
	if err != nil || u.Scheme != "https" || u.Hostname() == "" || u.User != nil || strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.Fragment != "" {
		f.hideLogin("server", e.URL)
		f.fail("server", "Invalid address", `A licence server is written as role.NAME, or as "https://lic.example.org:4452".`)
	}
	if f.has("pin") == f.has("ca") {
		f.l.fail(f.block, "Unknown server", `Nothing is believed that a stranger says: give the server's "pin", the SHA-256 of its public key, or "ca", a file with the authority of its certificate.`)
	}
	e.Pin = f.pin("pin")
	e.CA = f.path("ca")
	f.require("issuer", "it is a file with the attestation authority that the server certifies hosts with, as its administrator gave it to you.")
	e.Issuer = f.path("issuer")
}

// pin reads the SHA-256 of a public key.
func (f fields) pin(name string) string {
	s, ok := f.written(name)
	if !ok {
		return ""
	}
	sum, err := hex.DecodeString(strings.TrimPrefix(s, "sha256:"))
	if err != nil || len(sum) != 32 {
		f.fail(name, "Invalid pin", "A pin is the SHA-256 of the server's public key (SubjectPublicKeyInfo), in 64 hexadecimal digits.")
		return ""
	}
	return hex.EncodeToString(sum)
}
