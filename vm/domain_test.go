package vm

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

func testSpec() Spec {
	display := 1
	return Spec{
		Name: "ovsa_runtime", UUID: "8c1c9e6e-6f0c-5d4e-9d4e-000000000001", CPUs: 4, Memory: 2 << 30,
		Accel: KVM, Firmware: UEFI, TPM: CRB, VNC: &display,
		Disks: []Disk{
			{Pool: "ovsa", Volume: "ovsa_runtime_vm_disk.qcow2", Format: "qcow2", Serial: "root"},
			{Pool: "ovsa", Volume: "ovsa_runtime_seed.img", Format: "raw", ReadOnly: true},
		},
		NICs:        []NIC{{Network: "default", MAC: "52:54:00:aa:bb:01"}, {Bridge: "br0", MAC: "52:54:00:aa:bb:02"}},
		Credentials: map[string]string{"system.hostname": "ovsa-runtime", "ovsactl.user": "ovsa"},
		Metadata: Metadata{
			Role: "runtime", Owner: "root@host", Manifest: "sha256:0a", Intent: []byte(`{"note":"a < b & \"c\""}`), Image: "sha256:0b",
			HostKeys:   []string{"ssh-ed25519 AAAA"},
			Components: []ComponentRecord{{"model_hosting", "1.0", "0c"}},
			CreatedAt:  time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC), DataDir: "/var/OVSA",
			Authority: "0a0b",
		},
	}
}

func TestDomainXML(t *testing.T) {
	for name, change := range map[string]func(*Spec){
		"uefi-kvm": func(*Spec) {},
		"bios-tcg": func(s *Spec) {
			s.Firmware, s.Accel, s.TPM, s.VNC, s.Credentials = BIOS, TCG, TIS, nil, nil
		},
		"kernel": func(s *Spec) {
			s.Firmware, s.TPM, s.VNC = Direct, "", nil
			s.Kernel = &Kernel{Path: "/k/vmlinuz", Initrd: "/k/initrd", Cmdline: "root=/dev/vda2 rw console=ttyS0"}
		},
	} {
		t.Run(name, func(t *testing.T) {
			spec := testSpec()
			change(&spec)
			got, err := DomainXML(spec)
			if err != nil {
				t.Fatal(err)
			}
			golden(t, name+".xml", got)
			s, err := ParseDomain(got)
			if err != nil {
				t.Fatal(err)
			}
			if !s.Ours || s.Name != spec.Name || s.UUID != spec.UUID || !slices.Equal(s.Volumes, spec.Disks) ||
				string(s.Metadata.Intent) != string(spec.Metadata.Intent) || (s.VNC == nil) != (spec.VNC == nil) {
				t.Errorf("read back %+v", s)
			}
		})
	}
}

// golden compares with a file in testdata, or writes it when UPDATE_GOLDEN is set.
func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if os.Getenv("UPDATE_GOLDEN") != "" {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s differs, got\n%s", path, got)
	}
}

func TestSpecIsCheckedBeforeItIsRendered(t *testing.T) {
	for name, change := range map[string]func(*Spec){
		"name with a slash":    func(s *Spec) { s.Name = "../x" },
		"UUID in capitals":     func(s *Spec) { s.UUID = strings.ToUpper(s.UUID) },
		"no CPU":               func(s *Spec) { s.CPUs = 0 },
		"memory in MiB":        func(s *Spec) { s.Memory = 2048 },
		"accelerator is open":  func(s *Spec) { s.Accel = "auto" },
		"kernel without path":  func(s *Spec) { s.Firmware = Direct },
		"kernel with UEFI":     func(s *Spec) { s.Kernel = &Kernel{} },
		"unknown TPM":          func(s *Spec) { s.TPM = "tpm-spapr" },
		"display out of range": func(s *Spec) { *s.VNC = 60000 },
		"bad MAC":              func(s *Spec) { s.NICs[0].MAC = "52:54" },
		"NIC to nowhere":       func(s *Spec) { s.NICs[0].Network = "" },
		"NIC to two places":    func(s *Spec) { s.NICs[0].Bridge = "br0" },
		"credential name":      func(s *Spec) { s.Credentials = map[string]string{"a=b": ""} },
		"no role":              func(s *Spec) { s.Metadata.Role = "" },
		"intent is not JSON":   func(s *Spec) { s.Metadata.Intent = []byte("{") },
		"unprintable owner":    func(s *Spec) { s.Metadata.Owner = "a\x00b" },
	} {
		spec := testSpec()
		change(&spec)
		if _, err := DomainXML(spec); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func TestForeignDomainsAreDescribed(t *testing.T) {
	s, err := ParseDomain(`<domain type="kvm" id="7"><name>web</name><uuid>AAAAAAAA-6f0c-5d4e-9d4e-000000000001</uuid>
		<metadata><app:x xmlns:app="https://example.org/">1</app:x></metadata>
		<devices><interface type="user"><mac address="52:54:00:AA:BB:CC"/></interface><interface type="bridge"/>
		<graphics type="vnc" port="-1" autoport="yes"/><graphics type="vnc" port="5903"/><graphics type="spice"/>
		<disk type="file" device="disk"><source file="/x.img"/></disk><disk type="file" device="cdrom"/></devices></domain>`)
	if err != nil || s.Ours || s.Name != "web" || !slices.Equal(s.MACs, []string{"52:54:00:aa:bb:cc"}) || s.VNC == nil || *s.VNC != 3 {
		t.Errorf("state %+v, %v", s, err)
	}
}

func TestDamagedMetadataIsNotOurs(t *testing.T) {
	good, err := DomainXML(testSpec())
	if err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string][2]string{
		"no role":         {"<ovsa:role>runtime</ovsa:role>", ""},
		"time":            {"2026-11-23T12:00:00Z", "yesterday"},
		"intent":          {"{&#34;note&#34;", "{"},
		"other namespace": {MetadataNamespace, "https://example.org/"},
		"too large":       {"sha256:0a", strings.Repeat("a", maxMetadata)},
		"many host keys":  {"<ovsa:hostkey>ssh-ed25519 AAAA</ovsa:hostkey>", strings.Repeat("<ovsa:hostkey>x</ovsa:hostkey>", 17)},
	} {
		bad := strings.Replace(good, change[0], change[1], 1)
		if bad == good {
			t.Fatalf("%s: nothing to change in\n%s", name, good)
		}
		s, err := ParseDomain(bad)
		if err != nil || s.Ours || s.Name != "ovsa_runtime" {
			t.Errorf("%s: ours %v, %v", name, s.Ours, err)
		}
		if name != "other namespace" && s.Problem == "" {
			t.Errorf("%s: no problem is named", name)
		}
	}
}

func TestReplaceMetadataKeepsWhatOthersWrote(t *testing.T) {
	m := testSpec().Metadata
	for name, old := range map[string]string{
		"none":   `<domain><name>x</name></domain>`,
		"others": `<domain><name>x</name><metadata><a:b xmlns:a="urn:a">kept</a:b></metadata></domain>`,
	} {
		once, err := ReplaceMetadata(old, m)
		if err != nil {
			t.Fatal(err)
		}
		m.Owner = "second"
		twice, err := ReplaceMetadata(once, m)
		if err != nil {
			t.Fatal(err)
		}
		s, err := ParseDomain(twice)
		if err != nil || !s.Ours || s.Metadata.Owner != "second" || strings.Count(twice, "ovsa:guest") != 2 {
			t.Errorf("%s: %+v, %v\n%s", name, s, err, twice)
		}
		if strings.Contains(old, "kept") != strings.Contains(twice, "kept") {
			t.Errorf("%s: lost what others wrote:\n%s", name, twice)
		}
	}
}

func FuzzParseMetadata(f *testing.F) {
	good, err := testSpec().Metadata.namespaced()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add("<a/>" + good)
	f.Add("<guest xmlns='" + MetadataNamespace + "'><role>r</role></guest>")
	f.Fuzz(func(t *testing.T, text string) {
		m, ok, err := ParseMetadata(text)
		if ok && (err != nil || m.Role == "") {
			t.Fatalf("%+v, %v", m, err)
		}
		if !ok {
			return
		}
		again, err := m.namespaced()
		if err != nil {
			return // read what we would not write: control characters as entities
		}
		if back, ok, err := ParseMetadata(again); !ok || err != nil || back.Role != m.Role {
			t.Fatalf("written again as %q: %+v, %v", again, back, err)
		}
	})
}

func FuzzParseDomain(f *testing.F) {
	good, err := DomainXML(testSpec())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Fuzz(func(_ *testing.T, text string) { _, _ = ParseDomain(text) })
}
