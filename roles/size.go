package roles

import (
	"fmt"
	"math"
	"regexp"
	"strconv"
)

// Sizes in bytes.
const (
	KiB uint64 = 1 << 10
	MiB uint64 = 1 << 20
	GiB uint64 = 1 << 30
	TiB uint64 = 1 << 40
)

var sizeText = regexp.MustCompile(`^([0-9]{1,19}) ?([A-Za-z]*)$`)

// ParseSize reads a size as a manifest writes it: a whole number and one of
// KiB, MiB, GiB and TiB. Its errors say what was probably meant.
func ParseSize(s string) (uint64, error) {
	const form = `sizes are written with a binary unit, as in "512MiB" or "4GiB"`
	m := sizeText.FindStringSubmatch(s)
	if m == nil {
		return 0, fmt.Errorf("%s", form)
	}
	number, unit := m[1], m[2]
	factor, ok := map[string]uint64{"KiB": KiB, "MiB": MiB, "GiB": GiB, "TiB": TiB}[unit]
	if !ok {
		return 0, fmt.Errorf("%s: this looks like %q", form, number+meantUnit(unit))
	}
	n, err := strconv.ParseUint(number, 10, 64)
	if err != nil || n > math.MaxUint64/factor {
		return 0, fmt.Errorf("%q is too large", s)
	}
	return n * factor, nil
}

// meantUnit guesses the binary unit from how it begins; a bare number is
// megabytes to QEMU.
func meantUnit(unit string) string {
	if unit != "" {
		switch unit[0] | 0x20 {
		case 'k':
			return "KiB"
		case 'g':
			return "GiB"
		case 't':
			return "TiB"
		}
	}
	return "MiB"
}

// FormatSize writes a size with the largest unit that keeps it whole.
func FormatSize(n uint64) string {
	for _, u := range []struct {
		size uint64
		name string
	}{{TiB, "TiB"}, {GiB, "GiB"}, {MiB, "MiB"}, {KiB, "KiB"}} {
		if n >= u.size && n%u.size == 0 {
			return fmt.Sprintf("%d%s", n/u.size, u.name)
		}
	}
	return fmt.Sprintf("%dB", n)
}
