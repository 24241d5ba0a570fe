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
	"regexp"
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
	// MACs are the interfaces that ask for an address; without any, all do.
	MACs []string
}

// Names of the systemd credentials that our own images read.
const (
	HostnameCredential = "system.hostname"
	UserCredential     = "ovsactl.user"
	KeysCredential     = "ovsactl.authorized_keys"
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
	for _, mac := range d.MACs {
		if _, err := net.ParseMAC(mac); err != nil {
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
	return map[string]string{
		HostnameCredential: d.Hostname,
		UserCredential:     d.User,
		KeysCredential:     strings.Join(d.AuthorizedKeys, "\n") + "\n",
	}
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
		{"network-config", "", networkConfig(d.MACs)},
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
	Match      map[string]string `json:"match"`
	DHCP4      bool              `json:"dhcp4"`
	Identifier string            `json:"dhcp-identifier"`
}

// networkConfig asks for addresses by MAC, which is what they are reserved for:
// a client id would make dnsmasq take a cloned guest for its origin.
func networkConfig(macs []string) netConfig {
	nics := map[string]ethernet{}
	for i, mac := range macs {
		nics[fmt.Sprintf("nic%d", i)] = ethernet{Match: map[string]string{"macaddress": strings.ToLower(mac)}, DHCP4: true, Identifier: "mac"}
	}
	if len(macs) == 0 {
		nics["all"] = ethernet{Match: map[string]string{"name": "en*"}, DHCP4: true, Identifier: "mac"}
	}
	return netConfig{Version: 2, Ethernets: nics}
}
