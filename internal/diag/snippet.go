package diag

import (
	"bytes"
	"strings"
	"unicode/utf8"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hcled"

	"github.com/ovsactl/ovsactl/internal/visible"
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
		s.context = visible.Text(hcled.ContextString(f, start))
	}
	s.cut()
	return s, true
}

// cut keeps a long line's part around the mark and makes all of it visible.
func (s *snippet) cut() {
	if runes := []rune(s.before); len(runes) > maxCode/2 {
		s.before = "…" + string(runes[len(runes)-maxCode/2:])
	}
	s.before = visible.Text(s.before)
	s.marked = visible.Text(head(s.marked, maxCode))
	s.after = visible.Text(head(s.after, maxCode/2))
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
