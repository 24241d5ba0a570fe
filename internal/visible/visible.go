// Package visible makes text from elsewhere fit for a terminal: it is shown there,
// and does nothing.
package visible

import (
	"strings"
	"unicode"
)

// Text replaces what would act on a terminal instead of being shown on it: control
// characters become their pictures (U+2400 and on); what changes the direction of
// text, what has no width, and bytes that are not UTF-8 become U+FFFD. Tabs stay.
func Text(s string) string {
	return strings.Map(func(r rune) rune {
		if r == '\t' {
			return r
		}
		return visible(r)
	}, s)
}

// Line is Text without tabs: it stays in its column of a table.
func Line(s string) string { return strings.Map(visible, s) }

func visible(r rune) rune {
	switch {
	case r < 0x20:
		return 0x2400 + r
	case r == 0x7f:
		return 0x2421
	case !unicode.IsGraphic(r):
		return unicode.ReplacementChar
	}
	return r
}
