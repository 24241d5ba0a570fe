package vm

import "libvirt.org/go/libvirtxml"

func devices(spec Spec) *libvirtxml.DomainDeviceList {
	d := &libvirtxml.DomainDeviceList{
		Serials:     []libvirtxml.DomainSerial{serial(spec.Name)},
		Controllers: []libvirtxml.DomainController{channels(2)},
		Channels:    []libvirtxml.DomainChannel{channel(AnnouncePort), channel(guestAgentPort)},
		MemBalloon:  &libvirtxml.DomainMemBalloon{Model: "virtio", FreePageReporting: "on"},
		RNGs: []libvirtxml.DomainRNG{{
			Model:   "virtio",
			Backend: &libvirtxml.DomainRNGBackend{Random: &libvirtxml.DomainRNGBackendRandom{Device: "/dev/urandom"}},
		}},
	}
	for i, disk := range spec.Disks {
		d.Disks = append(d.Disks, diskXML(i, disk))
	}
	for _, nic := range spec.NICs {
		d.Interfaces = append(d.Interfaces, nicXML(nic))
	}
	if spec.TPM != "" {
		d.TPMs = []libvirtxml.DomainTPM{{
			Model:   string(spec.TPM),
			Backend: &libvirtxml.DomainTPMBackend{Emulator: &libvirtxml.DomainTPMBackendEmulator{Version: "2.0"}},
		}}
		d.Channels = append(d.Channels, attestChannel())
		d.Controllers[0] = channels(uint(len(d.Channels)))
	}
	if spec.VNC != nil {
		d.Graphics = []libvirtxml.DomainGraphic{{VNC: &libvirtxml.DomainGraphicVNC{
			Port: vncBase + *spec.VNC, AutoPort: "no", Listen: "127.0.0.1",
			Listeners: []libvirtxml.DomainGraphicListener{{Address: &libvirtxml.DomainGraphicListenerAddress{Address: "127.0.0.1"}}},
		}}}
		d.Videos = []libvirtxml.DomainVideo{{Model: libvirtxml.DomainVideoModel{Type: "vga"}}}
	}
	return d
}

// diskXML names the volume and not its path, so that it holds on any host; the
// first disk is the one to boot.
func diskXML(i int, disk Disk) libvirtxml.DomainDisk {
	d := libvirtxml.DomainDisk{
		Device: "disk",
		Driver: &libvirtxml.DomainDiskDriver{Name: "qemu", Type: disk.Format, Discard: "unmap"},
		Source: &libvirtxml.DomainDiskSource{Volume: &libvirtxml.DomainDiskSourceVolume{Pool: disk.Pool, Volume: disk.Volume}},
		Target: &libvirtxml.DomainDiskTarget{Dev: "vd" + string(rune('a'+i)), Bus: "virtio"},
		Serial: disk.Serial,
	}
	if i == 0 {
		d.Boot = &libvirtxml.DomainDeviceBoot{Order: 1}
	}
	if disk.ReadOnly {
		d.ReadOnly = &libvirtxml.DomainDiskReadOnly{}
	}
	return d
}

// nicXML leaves out the boot ROM: no guest of ours starts from the network, and
// firmware that tries costs half a minute.
func nicXML(nic NIC) libvirtxml.DomainInterface {
	source := &libvirtxml.DomainInterfaceSource{Network: &libvirtxml.DomainInterfaceSourceNetwork{Network: nic.Network}}
	if nic.Bridge != "" {
		source = &libvirtxml.DomainInterfaceSource{Bridge: &libvirtxml.DomainInterfaceSourceBridge{Bridge: nic.Bridge}}
	}
	return libvirtxml.DomainInterface{
		MAC:    &libvirtxml.DomainInterfaceMAC{Address: nic.MAC},
		Source: source,
		Model:  &libvirtxml.DomainInterfaceModel{Type: "virtio"},
		ROM:    &libvirtxml.DomainROM{Enabled: "no"},
	}
}

// serial is a terminal for `console` whose output libvirt also logs, so that
// what a guest printed before it died can be read.
func serial(name string) libvirtxml.DomainSerial {
	port := uint(0)
	return libvirtxml.DomainSerial{
		Source: &libvirtxml.DomainChardevSource{Pty: &libvirtxml.DomainChardevSourcePty{}},
		Target: &libvirtxml.DomainSerialTarget{Type: "isa-serial", Port: &port},
		Log:    &libvirtxml.DomainChardevLog{File: logDir + "/" + serialLog(name), Append: "off"},
	}
}

// serialLog is the file name of the domain's serial log in logDir.
func serialLog(name string) string { return name + "-serial.log" }

// channels is the controller of n channels. QEMU's default are 31, each with two
// queues that are set up: 4 s of an emulated cloud image
// that boots. Port 0 is kept for a console, whether there is one or not.
func channels(n uint) libvirtxml.DomainController {
	ports, first := n+1, uint(0)
	return libvirtxml.DomainController{
		Type: "virtio-serial", Index: &first,
		VirtIOSerial: &libvirtxml.DomainControllerVirtIOSerial{Ports: &ports},
	}
}

func channel(port string) libvirtxml.DomainChannel {
	return libvirtxml.DomainChannel{
		Source: &libvirtxml.DomainChardevSource{UNIX: &libvirtxml.DomainChardevSourceUNIX{Mode: "bind"}},
		Target: &libvirtxml.DomainChannelTarget{VirtIO: &libvirtxml.DomainChannelTargetVirtIO{Name: port}},
	}
}

// attestChannel leads to the host's attestation service, which sees whose QEMU is
// at its end. QEMU connects again when the service was started again.
func attestChannel() libvirtxml.DomainChannel {
	c := channel(AttestPort)
	c.Source.UNIX.Mode, c.Source.UNIX.Path = "connect", AttestSocket
	seconds := uint(1)
	c.Source.UNIX.Reconnect = &libvirtxml.DomainChardevSourceReconnect{Enabled: "yes", Timeout: &seconds}
	return c
}
