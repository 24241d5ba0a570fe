// Package guide runs what docs/guide.md tells its reader to type: each block of
// commands, in the page's order, at the place that the block's first line names.
//
//	```sh host          on the host, as root
//	```sh build         the same, where a network is: a lab has no way out
//	```sh isv_dev       in the guest of that role, as its user
//
// Behind the place stand words about what comes of it: "shown" for output that the
// reader wants to see, "refused" for commands of which the last is to fail, and "later"
// for what does not work yet: it is not run.
package guide

import (
	"bufio"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"
)

// The places that are no guests.
const (
	Host  = "host"
	Build = "build"
)

// Block is some commands of the page.
type Block struct {
	Step     string // the headline that it stands below
	Place    string // Host, Build, or a role
	Commands string
	Line     int // of its first command
	Shown    bool
	Refused  bool
	Later    bool
}

// place is a word that may name one.
var place = regexp.MustCompile(`^[a-z][a-z0-9_]*$`)

// Parse reads a page. Commands that nobody runs are an error: a block of the language
// "sh" says where it is run.
func Parse(page io.Reader) ([]Block, error) {
	var all []Block
	var open *Block // the block that has not ended
	step, inside := "", false
	lines := bufio.NewScanner(page)
	for n := 1; lines.Scan(); n++ {
		text := lines.Text()
		fence, isFence := strings.CutPrefix(text, "```")
		switch {
		case isFence && inside:
			if open != nil {
				all = append(all, *open)
			}
			open, inside = nil, false
		case isFence:
			inside = true
			words := strings.Fields(fence)
			if len(words) == 0 || words[0] != "sh" {
				continue // an output, or a file
			}
			b, err := header(words[1:])
			if err != nil {
				return nil, fmt.Errorf("line %d: %w", n, err)
			}
			b.Step, b.Line = step, n+1
			open = &b
		case open != nil:
			open.Commands += text + "\n"
		case !inside:
			if title, is := strings.CutPrefix(text, "#"); is {
				step = strings.TrimSpace(strings.TrimLeft(title, "#"))
			}
		}
	}
	if err := lines.Err(); err != nil {
		return nil, err
	}
	if inside {
		return nil, fmt.Errorf("the last block does not end")
	}
	return all, nil
}

// header reads what stands behind "sh".
func header(words []string) (Block, error) {
	if len(words) == 0 || !place.MatchString(words[0]) {
		return Block{}, fmt.Errorf("commands that say no place: want %q, %q or a role", Host, Build)
	}
	b := Block{Place: words[0]}
	for _, w := range words[1:] {
		switch w {
		case "shown":
			b.Shown = true
		case "refused":
			b.Refused = true
		case "later":
			b.Later = true
		default:
			return Block{}, fmt.Errorf("%q means nothing", w)
		}
	}
	return b, nil
}

// Places are those of the blocks, sorted.
func Places(blocks []Block) []string {
	var all []string
	for _, b := range blocks {
		all = append(all, b.Place)
	}
	slices.Sort(all)
	return slices.Compact(all)
}
