package guestcli

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/ovsactl/ovsactl/internal/hint"
)

// shells are the scripts that complete a command line: they ask the program, with
// the words up to the cursor, the last of which may be "". It answers with a word
// in each line, or with one of the marks. NAME is the program's.
var shells = map[string]string{
	"bash": `# bash completion of NAME: source <(NAME completion bash)
_NAME() {
	local IFS=$'\n' words
	words=$(NAME __complete "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null) || return 0
	case $words in
	:files) compopt -o filenames && COMPREPLY=($(compgen -f -- "${COMP_WORDS[COMP_CWORD]}")) ;;
	:dirs) compopt -o filenames && COMPREPLY=($(compgen -d -- "${COMP_WORDS[COMP_CWORD]}")) ;;
	*) COMPREPLY=($words) ;;
	esac
}
complete -F _NAME NAME
`,
	"zsh": `#compdef NAME
# zsh completion of NAME: source <(NAME completion zsh), behind compinit
_NAME() {
	local -a found
	found=("${(@f)$(NAME __complete "${(@)words[2,CURRENT]}" 2>/dev/null)}")
	case $found[1] in
	:files) _files ;;
	:dirs) _files -/ ;;
	?*) compadd -- "${(@)found}" ;;
	esac
}
compdef _NAME NAME
`,
	"fish": `# fish completion of NAME: NAME completion fish | source
function __NAME_complete
	set -l words (commandline -opc) (commandline -ct)
	set -l found (NAME __complete $words[2..-1] 2>/dev/null)
	switch "$found[1]"
	case :files
		__fish_complete_path (commandline -ct)
	case :dirs
		__fish_complete_directories (commandline -ct)
	case '*'
		string join \n -- $found
	end
end
complete -c NAME -f -a '(__NAME_complete)'
`,
}

// Marks that stand for what the shell knows better.
const (
	markFiles = ":files"
	markDirs  = ":dirs"
)

// completion prints a shell's script.
func (p Program) completion(w io.Writer, words []string) error {
	if len(words) == 1 {
		if script, ok := shells[words[0]]; ok {
			_, err := io.WriteString(w, strings.ReplaceAll(script, "NAME", p.Name))
			return err
		}
	}
	return hint.Wrap(Usagef("completion: want bash, zsh or fish"), "source <(%s completion bash)", p.Name)
}

// complete prints what the last word may become, behind those before it.
func (p Program) complete(w io.Writer, words []string) error {
	if len(words) == 0 {
		words = []string{""}
	}
	before, last := words[:len(words)-1], words[len(words)-1]
	found := p.candidates(before, last)
	if len(found) == 1 && (found[0] == markFiles || found[0] == markDirs) {
		_, err := fmt.Fprintln(w, found[0])
		return err
	}
	for _, word := range found {
		if strings.HasPrefix(word, last) {
			if _, err := fmt.Fprintln(w, word); err != nil {
				return err
			}
		}
	}
	return nil
}

func (p Program) candidates(before []string, last string) []string {
	if len(before) > 0 && before[0] == "help" {
		return p.next(before[1:]...)
	}
	if len(before) == 1 && before[0] == "completion" {
		return []string{"bash", "fish", "zsh"}
	}
	more := p.next(before...) // a command may be the group of others, too
	if len(before) == 0 {
		return append(more, "help", "completion", "version")
	}
	c, n := p.find(before)
	if c == nil {
		return more
	}
	if n < len(before) {
		more = nil
	}
	own := c.candidates(before[n:], last)
	if slices.ContainsFunc(more, func(word string) bool { return strings.HasPrefix(word, last) }) {
		own = slices.DeleteFunc(own, func(word string) bool { return word == markFiles || word == markDirs })
		return append(more, own...)
	}
	return own
}

// candidates are the words that may follow those of a command line.
func (c *Command) candidates(before []string, last string) []string {
	given := map[string]bool{}
	operands := 0
	for len(before) > 0 {
		word := before[0]
		before = before[1:]
		f, glued, isFlag := c.flag(word)
		if !isFlag || len(word) < 2 || word[0] != '-' {
			operands++
			continue
		}
		given[f.Name] = true
		var taken []string
		taken, before = c.take(f, glued, before)
		min, max := f.words()
		if len(before) > 0 || len(taken) >= max {
			continue
		}
		// The last word belongs to this flag, or may begin the next.
		if !strings.HasPrefix(last, "-") || len(taken) < min {
			return f.candidates()
		}
	}
	if operands < c.Max && !strings.HasPrefix(last, "-") {
		if c.Values != "" && operands == 0 {
			return strings.Split(c.Values, "|")
		}
		if found := c.Kind.mark(); found != nil {
			return found
		}
	}
	var flags []string
	for _, f := range c.Flags {
		if !given[f.Name] || f.Repeat {
			flags = append(flags, "-"+f.Name)
		}
	}
	slices.Sort(flags)
	return flags
}

// candidates are the words that may follow a flag.
func (f Flag) candidates() []string {
	if f.Values != "" {
		return strings.Split(f.Values, "|")
	}
	return f.Kind.mark()
}

func (k Kind) mark() []string {
	switch k {
	case File:
		return []string{markFiles}
	case Dir:
		return []string{markDirs}
	}
	return nil
}
