package vm

import (
	"bytes"
	"errors"
	"image/png"
	"net/netip"
	"strings"
	"testing"

	"libvirt.org/go/libvirt"
	"libvirt.org/go/libvirtxml"

	"github.com/ovsactl/ovsactl/internal/hint"
)

const defaultNetwork = `<network><name>default</name><forward mode='nat'><nat><port start='1024' end='65535'/></nat></forward>
	<bridge name='virbr0' stp='on' delay='0'/><mac address='52:54:00:1d:2c:3b'/>
	<ip address='192.168.122.1' netmask='255.255.255.0'><dhcp><range start='192.168.122.2' end='192.168.122.254'/>
	<host mac='52:54:00:AA:BB:01' name='one' ip='192.168.122.20'/><host name='byname' ip='192.168.122.21'/></dhcp></ip></network>`

func TestNetworkXML(t *testing.T) {
	spec := NetworkSpec{Name: "lab", Bridge: "virbr5", CIDR: netip.MustParsePrefix("10.9.8.0/26")}
	got, err := networkXML(spec)
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "network.xml", got)
	for name, cidr := range map[string]string{"too small": "10.0.0.0/30", "IPv6": "fd00::/64", "everything": "0.0.0.0/0"} {
		spec.CIDR = netip.MustParsePrefix(cidr)
		if _, err := networkXML(spec); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func TestNetworkIsAdoptedWhenItAgrees(t *testing.T) {
	spec := NetworkSpec{Name: "default", Bridge: "virbr0", CIDR: netip.MustParsePrefix("192.168.122.0/24")}
	for name, tt := range map[string]struct{ old, new, want string }{
		"as asked":        {"", "", ""},
		"prefix form":     {"netmask='255.255.255.0'", "prefix='24'", ""},
		"with a domain":   {"<mac ", "<domain name='x'/><mac ", ""},
		"routed":          {"mode='nat'", "mode='route'", "its mode is route"},
		"isolated":        {"<forward mode='nat'><nat><port start='1024' end='65535'/></nat></forward>", "", "its mode is isolated"},
		"other bridge":    {"virbr0", "virbr1", `its bridge is "virbr1"`},
		"other range":     {"192.168.122.1'", "192.168.123.1'", "its range is 192.168.123.0/24"},
		"narrower":        {"255.255.255.0", "255.255.255.128", "its range is 192.168.122.0/25"},
		"no DHCP":         {"dhcp>", "x>", "it has no DHCP"},
		"without address": {"ip address", "x address", "its range is invalid"},
	} {
		text := strings.ReplaceAll(defaultNetwork, tt.old, tt.new)
		if tt.old == "" {
			text = defaultNetwork
		}
		if tt.old == "ip address" {
			text = strings.ReplaceAll(text, "</ip>", "</x>")
		}
		var have libvirtxml.Network
		if err := have.Unmarshal(text); err != nil {
			t.Fatal(name, err)
		}
		err := networkAgrees(have, spec)
		switch {
		case tt.want == "" && err != nil:
			t.Errorf("%s: %v", name, err)
		case tt.want != "" && (!errors.Is(err, ErrForeign) || !strings.Contains(err.Error(), tt.want) || hint.Of(err) == ""):
			t.Errorf("%s: %v, hint %q", name, err, hint.Of(err))
		}
	}
}

func TestReservationsAreReadAndPlanned(t *testing.T) {
	var n libvirtxml.Network
	if err := n.Unmarshal(defaultNetwork); err != nil {
		t.Fatal(err)
	}
	have := reservations(n)
	if len(have) != 1 || have[0].MAC != "52:54:00:aa:bb:01" {
		t.Fatalf("reservations %+v", have)
	}
	address := netip.MustParseAddr
	for name, tt := range map[string]struct {
		r        Reservation
		replaces int
		foreign  bool
	}{
		"new":           {Reservation{"52:54:00:aa:bb:02", address("192.168.122.22"), "two"}, 0, false},
		"same":          {Reservation{"52:54:00:aa:bb:01", address("192.168.122.20"), "one"}, 1, false},
		"moved":         {Reservation{"52:54:00:aa:bb:01", address("192.168.122.30"), "one"}, 1, false},
		"new MAC":       {Reservation{"52:54:00:aa:bb:09", address("192.168.122.20"), "one"}, 1, false},
		"address taken": {Reservation{"52:54:00:aa:bb:09", address("192.168.122.20"), "two"}, 0, true},
	} {
		replaced, err := PlanReservation(have, tt.r)
		if len(replaced) != tt.replaces || errors.Is(err, ErrForeign) != tt.foreign {
			t.Errorf("%s: %+v, %v", name, replaced, err)
		}
	}
}

func TestErrorsOfLibvirtSayWhatToDo(t *testing.T) {
	for name, tt := range map[string]struct {
		err        libvirt.Error
		text, hint string
	}{
		"no daemon": {
			libvirt.Error{Code: libvirt.ERR_SYSTEM_ERROR, Message: "Failed to connect socket to '/var/run/libvirt/libvirt-sock': No such file or directory"},
			"Failed to connect socket", "systemctl start libvirtd",
		},
		"no permission": {
			libvirt.Error{Code: libvirt.ERR_SYSTEM_ERROR, Message: "Failed to connect socket to '/var/run/libvirt/libvirt-sock': Permission denied"},
			"Permission denied", "group libvirt",
		},
		"disk full":   {libvirt.Error{Code: libvirt.ERR_SYSTEM_ERROR, Message: "cannot extend file: No space left on device"}, "No space left", "image prune"},
		"VNC port":    {libvirt.Error{Code: libvirt.ERR_INTERNAL_ERROR, Message: "qemu: Failed to listen on socket: Address already in use"}, "Address already", "display"},
		"control":     {libvirt.Error{Message: "guest said \x1b[31m\n"}, "guest said \uFFFD[31m", ""},
		"not special": {libvirt.Error{Code: libvirt.ERR_INTERNAL_ERROR, Message: "boom"}, "boom", ""},
	} {
		err := explain(tt.err)
		if !strings.Contains(err.Error(), tt.text) || !strings.Contains(hint.Of(err), tt.hint) || strings.Contains(err.Error(), "virError") {
			t.Errorf("%s: %q, hint %q", name, err, hint.Of(err))
		}
		var code libvirt.Error
		if !errors.As(err, &code) || code.Code != tt.err.Code {
			t.Errorf("%s: the code is lost", name)
		}
	}
	if err := explain(libvirt.Error{Code: libvirt.ERR_NO_DOMAIN, Message: "Domain not found"}); !errors.Is(err, ErrMissing) {
		t.Errorf("%v is not ErrMissing", err)
	}
}

func TestPixmapBecomesPNG(t *testing.T) {
	out, err := pixmapToPNG([]byte("P6\n2 1\n255\n\xff\x00\x00\x00\xff\x00"))
	if err != nil {
		t.Fatal(err)
	}
	img, err := png.Decode(bytes.NewReader(out))
	if err != nil || img.Bounds().Dx() != 2 {
		t.Fatalf("%v, %v", img, err)
	}
	if r, g, _, _ := img.At(1, 0).RGBA(); r != 0 || g != 0xffff {
		t.Errorf("second pixel %v", img.At(1, 0))
	}
	for _, bad := range []string{"", "P5\n1 1\n255\n.", "P6\n99999 99999\n255\n", "P6\n2 2\n255\n..", "P6\n-1 1\n255\n", "P6\n1 1\n255\n...."} {
		if _, err := pixmapToPNG([]byte(bad)); err == nil {
			t.Errorf("%q: no error", bad)
		}
	}
}

func FuzzPixmap(f *testing.F) {
	f.Add([]byte("P6\n1 1\n255\n..."))
	f.Fuzz(func(_ *testing.T, data []byte) { _, _ = pixmapToPNG(data) })
}
