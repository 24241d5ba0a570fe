// Package seed renders what a guest reads at its first boot: a NoCloud disk for
// cloud images, systemd credentials for our own. It is pure, equal data give
// equal bytes, and nothing in it is secret: a public key lets somebody in, and
// the guest makes its own host keys.
package seed

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"regexp"
	"strconv"
	"strings"

	"github.com/ovsactl/ovsactl/templates"
)

// Data is what a guest is told.
type Data struct {
	Hostname   string
	InstanceID string // a new one makes a cloud image set itself up again
	User       string // login with AuthorizedKeys, without password, with sudo
	// AuthorizedKeys are SSH public keys in authorized_keys format.
	AuthorizedKeys []string
	// NICs are the interfaces that get an address; without any, all ask for one.
	NICs []NIC
}

// NIC is a network interface, which is known by its MAC.
type NIC struct {
	MAC     string
	Address netip.Prefix // with the length of its network; zero: the guest asks for one
	Gateway netip.Addr   // with an Address; zero for none
	DNS     []netip.Addr // with an Address
	Metric  int          // of its routes, the lowest wins; 0 for the guest's own
}

// Names of the systemd credentials that our own images read.
const (
	HostnameCredential = "system.hostname"
	UserCredential     = "ovsactl.user"
	KeysCredential     = "ovsactl.authorized_keys"
	// NetworkCredential and a number are a file of systemd.network(5).
	NetworkCredential = "ovsactl.network."
)

var (
	hostPattern = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)
	userPattern = regexp.MustCompile(`^[a-z_][a-z0-9_-]{0,30}$`)
	idPattern   = regexp.MustCompile(`^[A-Za-z0-9._-]{1,64}$`)
)

func (d Data) check() error {
	switch {
	case !hostPattern.MatchString(d.Hostname):
		return fmt.Errorf("seed: host name %q", d.Hostname)
	case !userPattern.MatchString(d.User):
		return fmt.Errorf("seed: user name %q", d.User)
	case !idPattern.MatchString(d.InstanceID):
		return fmt.Errorf("seed: instance id %q", d.InstanceID)
	case len(d.AuthorizedKeys) == 0:
		return errors.New("seed: no authorized key: nobody could log in")
	}
	for _, n := range d.NICs {
		if _, err := net.ParseMAC(n.MAC); err != nil {
			return fmt.Errorf("seed: %w", err)
		}
	}
	for _, key := range d.AuthorizedKeys {
		if key == "" || strings.ContainsAny(key, "\n\r\x00") {
			return fmt.Errorf("seed: authorized key %.40q is not one line", key)
		}
	}
	return nil
}

// Credentials returns the credentials, by name, that make one of our own images
// this guest. They become SMBIOS strings, which anybody who may read the
// domain's XML sees.
func Credentials(d Data) map[string]string {
	c := map[string]string{
		HostnameCredential: d.Hostname,
		UserCredential:     d.User,
		KeysCredential:     strings.Join(d.AuthorizedKeys, "\n") + "\n",
	}
	for i, n := range d.NICs {
		// An interface of which nothing is said asks for an address by itself.
		if n.Metric != 0 || n.Address.IsValid() {
			c[NetworkCredential+strconv.Itoa(i)] = n.networkFile()
		}
	}
	return c
}

// networkFile is what systemd-networkd reads about the interface. Like the image's
// own file it asks by MAC and takes no host name.
func (n NIC) networkFile() string {
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	line("[Match]\nMACAddress=%s\n\n[Network]\nLLDP=no\nIPv6AcceptRA=yes", strings.ToLower(n.MAC))
	route := func(section, metric string) {
		line("\n%s", section)
		if n.Metric != 0 {
			line("%s=%d", metric, n.Metric)
		}
	}
	switch {
	case !n.Address.IsValid():
		line("DHCP=yes")
		route("[DHCPv4]\nUseHostname=no\nClientIdentifier=mac", "RouteMetric")
	default:
		line("Address=%s", n.Address)
		for _, a := range n.DNS {
			line("DNS=%s", a)
		}
		if n.Gateway.IsValid() {
			route(fmt.Sprintf("[Route]\nGateway=%s", n.Gateway), "Metric")
		}
	}
	route("[IPv6AcceptRA]", "RouteMetric")
	return b.String()
}

// NoCloud returns a disk image, a FAT file system labelled CIDATA, from which
// cloud-init makes an image this guest (cloudinit.readthedocs.io, NoCloud).
func NoCloud(d Data) ([]byte, error) {
	if err := d.check(); err != nil {
		return nil, err
	}
	files, err := noCloudFiles(d)
	if err != nil {
		return nil, err
	}
	return fatImage("CIDATA", files)
}

func noCloudFiles(d Data) ([]file, error) {
	var files []file
	for _, f := range []struct {
		name, header string
		content      any
	}{
		{"meta-data", "", metaData{InstanceID: d.InstanceID, Hostname: d.Hostname}},
		{"user-data", "#cloud-config\n", userData(d)},
		{"network-config", "", networkConfig(d.NICs)},
	} {
		text, err := encode(f.content)
		if err != nil {
			return nil, fmt.Errorf("seed: %s: %w", f.name, err)
		}
		files = append(files, file{f.name, append([]byte(f.header), text...)})
	}
	return files, nil
}

// encode writes JSON, which is YAML too and which no value can break out of.
func encode(v any) ([]byte, error) {
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	err := enc.Encode(v)
	return out.Bytes(), err
}

type metaData struct {
	InstanceID string `json:"instance-id"`
	Hostname   string `json:"local-hostname"`
}

type cloudConfig struct {
	Users         []user      `json:"users"`
	PasswordAuth  bool        `json:"ssh_pwauth"`
	DisableRoot   bool        `json:"disable_root"`
	ManageHosts   string      `json:"manage_etc_hosts"`
	HostKeyTypes  []string    `json:"ssh_genkeytypes"`
	ResizeRoot    string      `json:"resize_rootfs"`
	BootCommands  [][]string  `json:"bootcmd"`
	WriteFiles    []writeFile `json:"write_files"`
	PackageUpdate bool        `json:"package_update"`
}

type user struct {
	Name       string   `json:"name"`
	LockPasswd bool     `json:"lock_passwd"`
	Shell      string   `json:"shell"`
	Sudo       string   `json:"sudo"`
	Keys       []string `json:"ssh_authorized_keys"`
}

type writeFile struct {
	Path        string `json:"path"`
	Permissions string `json:"permissions"`
	Content     string `json:"content"`
}

// userData makes the user and announces the host keys. It asks for nothing that
// a login would have to wait for: one host key, as our own images have, for an
// RSA key takes an emulated guest seconds; and the file system grows by itself.
// cloud-init turns passwords off when sshd serves already, and then restarts it;
// it does neither where its own file says so before.
func userData(d Data) cloudConfig {
	return cloudConfig{
		Users:        []user{{Name: d.User, LockPasswd: true, Shell: "/bin/bash", Sudo: "ALL=(ALL) NOPASSWD:ALL", Keys: d.AuthorizedKeys}},
		DisableRoot:  true,
		ManageHosts:  "localhost", // so sudo finds the guest's own name
		HostKeyTypes: []string{"ed25519"},
		ResizeRoot:   "noblock",
		BootCommands: [][]string{announcer()},
		WriteFiles:   []writeFile{{"/etc/ssh/sshd_config.d/50-cloud-init.conf", "0600", "PasswordAuthentication no\n"}},
	}
}

// announcer is the command that starts the announcement of the host keys, at
// each boot. It is a transient unit, since systemd takes an emulated guest
// seconds to read its units again for one more file, and it is asked for early,
// since cloud-init comes to runcmd long after sshd serves. It runs once sshd
// does, whose keys cloud-init makes before: what an image brought along is never
// announced.
func announcer() []string {
	argv := []string{"systemd-run", "--quiet", "--no-block", "--collect", "--unit=" + templates.AnnounceUnitName}
	for _, property := range []string{
		"Description=Announce SSH host keys to the host",
		"DefaultDependencies=no",
		"Conflicts=shutdown.target", "Before=shutdown.target",
		"After=cloud-init.service cloud-init-network.service ssh.service sshd.service",
		"Restart=always", "RestartSec=1", "NoNewPrivileges=yes",
	} {
		argv = append(argv, "--property="+property)
	}
	// What systemd would take for a variable of its own it unquotes.
	script := strings.ReplaceAll(string(templates.AnnounceScript), "$", "$$")
	return append(argv, "--", "/bin/sh", "-c", script)
}

type netConfig struct {
	Version   int                 `json:"version"`
	Ethernets map[string]ethernet `json:"ethernets"`
}

type ethernet struct {
	Match       map[string]string       `json:"match"`
	DHCP4       bool                    `json:"dhcp4"`
	Identifier  string                  `json:"dhcp-identifier,omitempty"`
	Overrides   map[string]int          `json:"dhcp4-overrides,omitempty"`
	Addresses   []netip.Prefix          `json:"addresses,omitempty"`
	Routes      []route                 `json:"routes,omitempty"`
	NameServers map[string][]netip.Addr `json:"nameservers,omitempty"`
}

type route struct {
	To     string     `json:"to"`
	Via    netip.Addr `json:"via"`
	Metric int        `json:"metric,omitempty"`
}

// networkConfig asks for addresses by MAC, which is what they are reserved for:
// a client id would make dnsmasq take a cloned guest for its origin.
func networkConfig(all []NIC) netConfig {
	nics := map[string]ethernet{}
	for i, n := range all {
		nics[fmt.Sprintf("nic%d", i)] = n.ethernet()
	}
	if len(all) == 0 {
		nics["all"] = ethernet{Match: map[string]string{"name": "en*"}, DHCP4: true, Identifier: "mac"}
	}
	return netConfig{Version: 2, Ethernets: nics}
}

func (n NIC) ethernet() ethernet {
	e := ethernet{Match: map[string]string{"macaddress": strings.ToLower(n.MAC)}}
	if !n.Address.IsValid() {
		e.DHCP4, e.Identifier = true, "mac"
		if n.Metric != 0 {
			e.Overrides = map[string]int{"route-metric": n.Metric}
		}
		return e
	}
	e.Addresses = []netip.Prefix{n.Address}
	if n.Gateway.IsValid() {
		e.Routes = []route{{"0.0.0.0/0", n.Gateway, n.Metric}}
	}
	if len(n.DNS) > 0 {
		e.NameServers = map[string][]netip.Addr{"addresses": n.DNS}
	}
	return e
}
