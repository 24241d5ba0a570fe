package visible

import (
	"testing"
	"unicode/utf8"
)

func TestText(t *testing.T) {
	for _, tt := range []struct{ in, text, line string }{
		{"", "", ""},
		{"Größe 大 \u3000 é", "Größe 大 \u3000 é", "Größe 大 \u3000 é"},
		{"a\tb", "a\tb", "a␉b"},
		{"\x1b[2J\a\r\n\x7f", "␛[2J␇␍␊␡", "␛[2J␇␍␊␡"},
		{"\u009b31m", "\ufffd31m", "\ufffd31m"},                                                          // CSI in one character
		{"\u202eevil\u2066\u200f\u061c", "\ufffdevil\ufffd\ufffd\ufffd", "\ufffdevil\ufffd\ufffd\ufffd"}, // direction
		{"a\u200bb\ufeff\u00ad\U000e0041", "a\ufffdb\ufffd\ufffd\ufffd", "a\ufffdb\ufffd\ufffd\ufffd"},   // nothing to see
		{"\u2028\u2029", "\ufffd\ufffd", "\ufffd\ufffd"},
		{"\xff\xc3", "\ufffd\ufffd", "\ufffd\ufffd"},
	} {
		if got := Text(tt.in); got != tt.text {
			t.Errorf("Text(%q) = %q, want %q", tt.in, got, tt.text)
		}
		if got := Line(tt.in); got != tt.line {
			t.Errorf("Line(%q) = %q, want %q", tt.in, got, tt.line)
		}
	}
}

// FuzzText: whatever comes in, what goes out is valid and does nothing more when it
// is taken again.
func FuzzText(f *testing.F) {
	f.Add("a\tb\x1b[0m\xff")
	f.Fuzz(func(t *testing.T, s string) {
		for _, of := range []func(string) string{Text, Line} {
			if out := of(s); !utf8.ValidString(out) || of(out) != out {
				t.Errorf("%q becomes %q", s, out)
			}
		}
	})
}
