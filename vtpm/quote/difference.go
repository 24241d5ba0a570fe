package quote

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf16"
)

// Difference is the first event of one register in which two logs part.
type Difference struct {
	Place     int    // of it in the first log, from 1; of where it is missing, the log's length and 1
	Is, Wants *Event // nil where a log has no more events of the register
}

// FirstDifference compares what two logs say of a register. nil says that they lead to
// the same value.
func FirstDifference(log, reference []Event, pcr int) *Difference {
	is, wants := extending(log, pcr), extending(reference, pcr)
	for i := range max(len(is), len(wants)) {
		d := Difference{Place: len(log) + 1}
		if i < len(is) {
			d.Place, d.Is = is[i]+1, &log[is[i]]
		}
		if i < len(wants) {
			d.Wants = &reference[wants[i]]
		}
		if d.Is == nil || d.Wants == nil || !bytes.Equal(d.Is.Digest, d.Wants.Digest) {
			return &d
		}
	}
	return nil
}

// extending are the places of the events that extend a register, or say what it began
// with.
func extending(log []Event, pcr int) []int {
	var places []int
	for i, e := range log {
		if int(e.PCR) == pcr && (e.Type != eventNoAction || bytes.HasPrefix(e.Data, []byte("StartupLocality\x00"))) {
			places = append(places, i)
		}
	}
	return places
}

// eventNames are the types of the TCG PC Client Platform Firmware Profile, table
// "Events".
var eventNames = map[uint32]string{
	0x00: "EV_PREBOOT_CERT", 0x01: "EV_POST_CODE", 0x03: "EV_NO_ACTION", 0x04: "EV_SEPARATOR", 0x05: "EV_ACTION",
	0x06: "EV_EVENT_TAG", 0x07: "EV_S_CRTM_CONTENTS", 0x08: "EV_S_CRTM_VERSION", 0x09: "EV_CPU_MICROCODE",
	0x0a: "EV_PLATFORM_CONFIG_FLAGS", 0x0b: "EV_TABLE_OF_DEVICES", 0x0c: "EV_COMPACT_HASH", 0x0d: "EV_IPL",
	0x0e: "EV_IPL_PARTITION_DATA", 0x0f: "EV_NONHOST_CODE", 0x10: "EV_NONHOST_CONFIG", 0x11: "EV_NONHOST_INFO",
	0x12: "EV_OMIT_BOOT_DEVICE_EVENTS", 0x13: "EV_POST_CODE2",
	0x80000001: "EV_EFI_VARIABLE_DRIVER_CONFIG", 0x80000002: "EV_EFI_VARIABLE_BOOT", 0x80000003: "EV_EFI_BOOT_SERVICES_APPLICATION",
	0x80000004: "EV_EFI_BOOT_SERVICES_DRIVER", 0x80000005: "EV_EFI_RUNTIME_SERVICES_DRIVER", 0x80000006: "EV_EFI_GPT_EVENT",
	0x80000007: "EV_EFI_ACTION", 0x80000008: "EV_EFI_PLATFORM_FIRMWARE_BLOB", 0x80000009: "EV_EFI_HANDOFF_TABLES",
	0x8000000a: "EV_EFI_PLATFORM_FIRMWARE_BLOB2", 0x8000000b: "EV_EFI_HANDOFF_TABLES2", 0x8000000c: "EV_EFI_VARIABLE_BOOT2",
	0x8000000d: "EV_EFI_GPT_EVENT2", 0x80000010: "EV_EFI_HCRTM_EVENT", 0x800000e0: "EV_EFI_VARIABLE_AUTHORITY",
	0x800000e1: "EV_EFI_SPDM_FIRMWARE_BLOB", 0x800000e2: "EV_EFI_SPDM_FIRMWARE_CONFIG",
}

// Describe is an event's type, and its text where it has one, as far as that is safe
// to print. Only its digest is vouched for.
func (e Event) Describe() string {
	name := eventNames[e.Type]
	if name == "" {
		name = fmt.Sprintf("event type %#x", e.Type)
	}
	if text := e.text(); text != "" {
		name += fmt.Sprintf(" %q", text)
	}
	return name
}

// maxText is how much of an event's text is told, in characters.
const maxText = 120

// text is what an event's data says for people: the name of a variable of UEFI, or
// ASCII or UTF-16 that is nothing else.
func (e Event) text() string {
	data := e.Data
	if e.Type >= 0x80000001 && e.Type <= 0x80000002 || e.Type == 0x8000000c || e.Type == 0x800000e0 {
		// UEFI_VARIABLE_DATA: a GUID, the length of the name, that of the value, the name
		const fixed = 16 + 8 + 8
		if len(data) < fixed {
			return ""
		}
		n := binary.LittleEndian.Uint64(data[16:])
		if n > maxText || uint64(len(data)-fixed) < 2*n {
			return ""
		}
		data = data[fixed : fixed+2*n]
		return printable(wide(data))
	}
	if e.Type == 0x06 && len(data) > 8 { // TCG_PCClientTaggedEvent: an ID, a length, the text
		data = data[8:]
	}
	data = bytes.TrimRight(data, "\x00")
	if text := printable(string(data)); text != "" {
		return text
	}
	// Any bytes are some UTF-16: what a boot loader writes is ASCII.
	text := printable(wide(data))
	if strings.ContainsFunc(text, func(r rune) bool { return r > unicode.MaxASCII }) {
		return ""
	}
	return text
}

// wide decodes UTF-16, little-endian. A zero byte that was trimmed is put back.
func wide(b []byte) string {
	if len(b)%2 == 1 {
		b = append(bytes.Clone(b), 0)
	}
	units := make([]uint16, 0, len(b)/2)
	for ; len(b) > 0; b = b[2:] {
		units = append(units, binary.LittleEndian.Uint16(b))
	}
	return string(utf16.Decode(units))
}

// printable is s, cut to maxText, when all of it may be printed; else "".
func printable(s string) string {
	s = strings.TrimRight(s, "\x00")
	if strings.ContainsFunc(s, func(r rune) bool { return r == unicode.ReplacementChar || !unicode.IsPrint(r) }) {
		return ""
	}
	if runes := []rune(s); len(runes) > maxText {
		return string(runes[:maxText]) + "..."
	}
	return s
}

// registerUses are what extends the registers of a PC: TCG PC Client Platform Firmware
// Profile, section "PCR Usage", and for those of the operating system the UAPI Group's
// "Linux TPM PCR Registry".
var registerUses = map[int]string{
	0: "firmware", 1: "firmware's settings and devices", 2: "option ROMs", 3: "option ROMs' settings",
	4: "boot loader", 5: "boot loader's settings and the partition table", 6: "the manufacturer's", 7: "Secure Boot's state and keys",
	8: "GRUB's commands", 9: "initial RAM disk and kernel command line", 10: "IMA", 11: "unified kernel image",
	12: "kernel command line's overrides", 13: "system extensions", 14: "shim's keys", 15: "the system's identity",
}

// RegisterUse says for people what a register measures; "" for one that is free.
func RegisterUse(pcr int) string { return registerUses[pcr] }
