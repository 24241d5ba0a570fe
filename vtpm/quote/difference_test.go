package quote

import (
	"encoding/binary"
	"strings"
	"testing"
	"unicode/utf16"
)

// The first event of a register in which two logs part, and nothing else, is told.
func TestFirstDifference(t *testing.T) {
	e := func(pcr uint32, digest byte) Event { return Event{PCR: pcr, Type: 8, Digest: []byte{digest}} }
	said := Event{PCR: 4, Type: eventNoAction, Digest: []byte{9}, Data: []byte("a remark")}
	locality := func(l byte) Event {
		return Event{PCR: 0, Type: eventNoAction, Digest: []byte{l}, Data: append([]byte("StartupLocality\x00"), l)}
	}
	reference := []Event{e(0, 1), e(4, 2), e(7, 3), e(4, 4)}
	for _, tt := range []struct {
		name  string
		log   []Event
		pcr   int
		place int // 0: they do not differ
		is    byte
		wants byte
	}{
		{"the same", reference, 4, 0, 0, 0},
		{"other registers", []Event{e(0, 9), e(4, 2), e(7, 9), e(4, 4)}, 4, 0, 0, 0},
		{"what extends nothing", []Event{e(4, 2), said, e(4, 4)}, 4, 0, 0, 0},
		{"another event", []Event{e(0, 1), e(4, 2), e(7, 3), e(4, 5)}, 4, 4, 5, 4},
		{"one before it", []Event{e(4, 8), e(4, 2), e(4, 4)}, 4, 1, 8, 2},
		{"one more", append(append([]Event{}, reference...), e(4, 6)), 4, 5, 6, 0},
		{"one less", []Event{e(0, 1), e(4, 2)}, 4, 3, 0, 4},
		{"another locality", append([]Event{locality(3)}, reference...), 0, 1, 3, 1},
	} {
		d := FirstDifference(tt.log, reference, tt.pcr)
		digest := func(e *Event) byte {
			if e == nil {
				return 0
			}
			return e.Digest[0]
		}
		switch {
		case d == nil && tt.place == 0:
		case d == nil || d.Place != tt.place || digest(d.Is) != tt.is || digest(d.Wants) != tt.wants:
			t.Errorf("%s: %+v", tt.name, d)
		}
	}
}

// What an event says is told when it is text, whatever the firmware's encoding, and
// never as it is when it is not.
func TestDescribeEvents(t *testing.T) {
	wide := func(s string) (b []byte) {
		for _, u := range utf16.Encode([]rune(s)) {
			b = binary.LittleEndian.AppendUint16(b, u)
		}
		return b
	}
	variable := func(name string, n int) []byte {
		b := binary.LittleEndian.AppendUint64(make([]byte, 16), uint64(n))
		b = binary.LittleEndian.AppendUint64(b, 1)
		return append(append(b, wide(name)...), 1)
	}
	for _, tt := range []struct {
		name string
		e    Event
		want string
	}{
		{"a variable", Event{Type: 0x80000001, Data: variable("SecureBoot", 10)}, `EV_EFI_VARIABLE_DRIVER_CONFIG "SecureBoot"`},
		{"a variable that lies about its length", Event{Type: 0x80000001, Data: variable("SecureBoot", 100)}, "EV_EFI_VARIABLE_DRIVER_CONFIG"},
		{"a variable without a name", Event{Type: 0x800000e0, Data: []byte("short")}, "EV_EFI_VARIABLE_AUTHORITY"},
		{"an endless variable", Event{Type: 0x80000002, Data: variable("Boot", -1)}, "EV_EFI_VARIABLE_BOOT"},
		{"an action", Event{Type: 0x80000007, Data: []byte("Exit Boot Services Invocation")}, `EV_EFI_ACTION "Exit Boot Services Invocation"`},
		{"systemd-stub's", Event{Type: 0x0d, Data: append(wide("root=/dev/vda2"), 0, 0)}, `EV_IPL "root=/dev/vda2"`},
		{"Linux's", Event{Type: 0x06, Data: append([]byte{1, 2, 3, 4, 12, 0, 0, 0}, "Linux initrd\x00"...)}, `EV_EVENT_TAG "Linux initrd"`},
		{"bytes", Event{Type: 0x80000003, Data: []byte{1, 2, 0xff}}, "EV_EFI_BOOT_SERVICES_APPLICATION"},
		{"a terminal's", Event{Type: 0x05, Data: []byte("\x1b]0;owned\a")}, "EV_ACTION"},
		{"nothing", Event{Type: 0x04}, "EV_SEPARATOR"},
		{"an unknown type", Event{Type: 0x12345, Data: []byte("x")}, `event type 0x12345 "x"`},
		{"much", Event{Type: 0x05, Data: []byte(strings.Repeat("x", 200))}, `EV_ACTION "` + strings.Repeat("x", 120) + `..."`},
	} {
		if got := tt.e.Describe(); got != tt.want {
			t.Errorf("%s: %s, want %s", tt.name, got, tt.want)
		}
	}
}
