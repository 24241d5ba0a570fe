package diag

import (
	"bytes"
	"strings"
	"unicode/utf8"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hcled"
)

// maxCode is how much of a source line is quoted, in characters.
const maxCode = 120

// snippet is the source line that a diagnostic is about, cut to what can be
// read, with control characters made visible.
type snippet struct {
	context string // `role "runtime"`
	before  string
	marked  string
	after   string
}

// snippetOf quotes the first line of a diagnostic's subject; false when the
// source is not at hand.
func snippetOf(files map[string]*hcl.File, at *hcl.Range) (snippet, bool) {
	if at == nil || files[at.Filename] == nil {
		return snippet{}, false
	}
	f := files[at.Filename]
	start := at.Start.Byte
	if start > len(f.Bytes) || len(f.Bytes) == 0 {
		return snippet{}, false
	}
	from := bytes.LastIndexByte(f.Bytes[:start], '\n') + 1
	to := len(f.Bytes)
	if i := bytes.IndexByte(f.Bytes[start:], '\n'); i >= 0 {
		to = start + i
	}
	end := min(max(at.End.Byte, start), to)
	s := snippet{
		before: string(f.Bytes[from:start]),
		marked: string(f.Bytes[start:end]),
		after:  strings.TrimSuffix(string(f.Bytes[end:to]), "\r"),
	}
	if f.Nav != nil {
		s.context = Visible(hcled.ContextString(f, start))
	}
	s.cut()
	return s, true
}

// cut keeps a long line's part around the mark and makes all of it visible.
func (s *snippet) cut() {
	if runes := []rune(s.before); len(runes) > maxCode/2 {
		s.before = "…" + string(runes[len(runes)-maxCode/2:])
	}
	s.before = Visible(s.before)
	s.marked = Visible(head(s.marked, maxCode))
	s.after = Visible(head(s.after, maxCode/2))
}

func head(s string, n int) string {
	for i := range s {
		if n == 0 {
			return s[:i] + "…"
		}
		n--
	}
	return s
}

// carets underlines the marked part: blanks of the same width, then carets.
func (s snippet) carets() string {
	blank := strings.Map(func(r rune) rune {
		if r == '\t' {
			return r
		}
		return ' '
	}, s.before)
	return blank + strings.Repeat("^", max(utf8.RuneCountInString(s.marked), 1))
}

// Visible replaces what would act on a terminal instead of being shown on it:
// control characters become their pictures, bidirectional overrides and bytes
// that are not UTF-8 become replacement characters. Tabs stay.
func Visible(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\t':
			return r
		case r < 0x20:
			return 0x2400 + r
		case r == 0x7f:
			return 0x2421
		case r >= 0x80 && r < 0xa0, r >= 0x202a && r <= 0x202e, r >= 0x2066 && r <= 0x2069, r == 0x2028, r == 0x2029, r == 0x200e, r == 0x200f, r == 0x061c:
			return utf8.RuneError
		}
		return r
	}, s)
}
