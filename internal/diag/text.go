package diag

import (
	"fmt"
	"io"
	"strings"
	"unicode/utf8"

	"github.com/hashicorp/hcl/v2"

	"github.com/ovsactl/ovsactl/internal/visible"
)

// Style is how text is fitted to where it goes. The zero Style is for pipes.
type Style struct {
	Width int // columns to wrap at; 0 does not wrap
	Color bool
}

// maxShown is how many diagnostics people are shown.
const maxShown = 25

// escapes of a style: all empty without colour.
type palette struct{ severity, bold, mark, reset string }

func (s Style) palette(severity hcl.DiagnosticSeverity) palette {
	if !s.Color {
		return palette{}
	}
	p := palette{severity: "\x1b[1;31m", bold: "\x1b[1m", mark: "\x1b[31m", reset: "\x1b[0m"}
	if severity == hcl.DiagWarning {
		p.severity, p.mark = "\x1b[1;33m", "\x1b[33m"
	}
	return p
}

// Text writes diags for people, in their order, each as a summary, the place
// with its source line underlined, and the detail. Values of the expressions
// involved are never shown, and control characters never reach w as such.
func Text(w io.Writer, files map[string]*hcl.File, diags hcl.Diagnostics, style Style) error {
	var b strings.Builder
	for i, d := range diags {
		if i == maxShown {
			fmt.Fprintf(&b, "... and %d more.\n\n", len(diags)-maxShown)
			break
		}
		writeOne(&b, files, d, style)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func writeOne(b *strings.Builder, files map[string]*hcl.File, d *hcl.Diagnostic, style Style) {
	p := style.palette(d.Severity)
	fmt.Fprintf(b, "%s%s:%s %s%s%s\n\n", p.severity, severityWord(d.Severity), p.reset, p.bold, visible.Text(d.Summary), p.reset)
	if at := d.Subject; at != nil {
		s, quoted := snippetOf(files, at)
		fmt.Fprintf(b, "  on %s line %d", visible.Text(at.Filename), at.Start.Line)
		if s.context != "" {
			fmt.Fprintf(b, ", in %s", s.context)
		}
		b.WriteString(":\n")
		if quoted {
			fmt.Fprintf(b, "%4d: %s%s%s%s%s\n", at.Start.Line, s.before, p.bold, s.marked, p.reset, s.after)
			fmt.Fprintf(b, "      %s%s%s", p.mark, s.carets(), p.reset)
		} else {
			b.WriteString("      (source not available)")
		}
		b.WriteString("\n\n")
	}
	if d.Detail != "" {
		b.WriteString(wrap(d.Detail, style.Width))
		b.WriteString("\n\n")
	}
}

func severityWord(s hcl.DiagnosticSeverity) string {
	if s == hcl.DiagWarning {
		return "Warning"
	}
	return "Error"
}

// wrap breaks the lines of text at width columns, if that is not 0. Lines that
// begin with a blank are commands and stay whole.
func wrap(text string, width int) string {
	lines := strings.Split(text, "\n")
	for i, line := range lines {
		line = visible.Text(line)
		if width > 0 && !strings.HasPrefix(line, " ") {
			line = wrapLine(line, width)
		}
		lines[i] = line
	}
	return strings.Join(lines, "\n")
}

func wrapLine(line string, width int) string {
	var b strings.Builder
	column := 0
	for _, word := range strings.Fields(line) {
		n := utf8.RuneCountInString(word)
		switch {
		case column == 0:
		case column+1+n > width:
			b.WriteByte('\n')
			column = 0
		default:
			b.WriteByte(' ')
			column++
		}
		b.WriteString(word)
		column += n
	}
	return b.String()
}
