package vm

import (
	"fmt"
	"strings"

	"libvirt.org/go/libvirtxml"
)

// ParseDomain describes a domain by its definition. It is tolerant of what
// others define: what it does not know it leaves out. Status, Active and
// StartedAt are not in a definition and stay zero.
func ParseDomain(definition string) (State, error) {
	var d libvirtxml.Domain
	if err := d.Unmarshal(definition); err != nil {
		return State{}, fmt.Errorf("parse domain: %w", err)
	}
	s := State{Name: d.Name, UUID: strings.ToLower(d.UUID), Exists: true}
	if d.Metadata != nil {
		var err error
		if s.Metadata, s.Ours, err = ParseMetadata(d.Metadata.XML); err != nil {
			s.Problem = err.Error()
		}
	}
	if d.Devices == nil {
		return s, nil
	}
	for _, nic := range d.Devices.Interfaces {
		if nic.MAC != nil {
			s.MACs = append(s.MACs, strings.ToLower(nic.MAC.Address))
		}
	}
	for _, g := range d.Devices.Graphics {
		if g.VNC != nil && g.VNC.Port >= vncBase {
			display := g.VNC.Port - vncBase
			s.VNC = &display
		}
	}
	for _, tpm := range d.Devices.TPMs {
		s.TPM = TPMModel(tpm.Model)
	}
	for _, disk := range d.Devices.Disks {
		if disk.Source == nil || disk.Source.Volume == nil {
			continue
		}
		v := Disk{Pool: disk.Source.Volume.Pool, Volume: disk.Source.Volume.Volume, ReadOnly: disk.ReadOnly != nil, Serial: disk.Serial}
		if disk.Driver != nil {
			v.Format = disk.Driver.Type
		}
		s.Volumes = append(s.Volumes, v)
	}
	return s, nil
}
