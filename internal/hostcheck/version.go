package hostcheck

import (
	"strconv"
	"strings"
)

// Older tells whether a distribution's version is below min, by the numbers of
// the upstream part: "1:7.2+dfsg-7" counts as 7.2.
func Older(version, min string) bool {
	have, want := numbers(version), numbers(min)
	for i := range want {
		if i >= len(have) {
			return true
		}
		if have[i] != want[i] {
			return have[i] < want[i]
		}
	}
	return false
}

// numbers returns the leading dotted numbers after an epoch.
func numbers(v string) []int {
	if _, rest, ok := strings.Cut(v, ":"); ok {
		v = rest
	}
	var list []int
	for part := range strings.SplitSeq(v, ".") {
		digits := part
		if end := strings.IndexFunc(part, func(r rune) bool { return r < '0' || r > '9' }); end >= 0 {
			digits = part[:end]
		}
		n, err := strconv.Atoi(digits)
		if err != nil {
			break
		}
		list = append(list, n)
		if digits != part {
			break
		}
	}
	return list
}
