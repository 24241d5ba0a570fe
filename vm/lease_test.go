package vm

import (
	"bytes"
	"net"
	"net/netip"
	"testing"
)

func TestReleaseMessage(t *testing.T) {
	mac := net.HardwareAddr{0x52, 0x54, 0, 0xaa, 0xbb, 1}
	msg := releaseMessage(mac, netip.MustParseAddr("192.168.122.77"), netip.MustParseAddr("192.168.122.1"))
	if len(msg) != 300 || msg[0] != 1 || !bytes.Equal(msg[12:16], []byte{192, 168, 122, 77}) || !bytes.Equal(msg[28:34], mac) {
		t.Errorf("header % x", msg[:44])
	}
	options := []byte{0x63, 0x82, 0x53, 0x63, 53, 1, 7, 54, 4, 192, 168, 122, 1, 255}
	if !bytes.HasPrefix(msg[236:], options) {
		t.Errorf("options % x", msg[236:256])
	}
}
