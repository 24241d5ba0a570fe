package cli

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

// shownIn returns root and all commands below it that the help lists.
func shownIn(root *cobra.Command) []*cobra.Command {
	all := []*cobra.Command{root}
	for _, c := range root.Commands() {
		if c.IsAvailableCommand() && c.Name() != "help" && c.Name() != "completion" { // cobra's own
			all = append(all, shownIn(c)...)
		}
	}
	return all
}

func TestEveryVerbExplainsItself(t *testing.T) {
	env, _ := testEnv(nil)
	for _, c := range shownIn(newRoot(env)) {
		name := c.CommandPath()
		if c.Short == "" || strings.HasSuffix(c.Short, ".") {
			t.Errorf("%s: short text %q, want one without a full stop", name, c.Short)
		}
		if c.Long == "" {
			t.Errorf("%s: no long text", name)
		}
		if c.Example == "" && !c.HasSubCommands() && c.Name() != "version" {
			t.Errorf("%s: no example", name)
		}
		for line := range strings.Lines(c.Long + "\n" + c.Example) {
			if len(line) > 82 {
				t.Errorf("%s: a line of %d columns: %s", name, len(line)-1, line)
			}
		}
	}
}

// An example's verbs and flags are the program's.
func TestExamplesAreTrue(t *testing.T) {
	env, _ := testEnv(nil)
	root := newRoot(env)
	for _, c := range shownIn(root) {
		for line := range strings.Lines(c.Example) {
			_, rest, ok := strings.Cut(line, "ovsactl ")
			if !ok || strings.Contains(line, ".tar.gz") {
				continue
			}
			rest, _, _ = strings.Cut(rest, " -- ")
			rest, _, _ = strings.Cut(rest, " | ")
			words := strings.Fields(rest)
			found, _, err := root.Find(words)
			if err != nil || found.HasSubCommands() {
				t.Errorf("%s: no such verb: %s", c.CommandPath(), line)
				continue
			}
			for _, w := range words {
				if flag, ok := strings.CutPrefix(w, "--"); ok && found.Flags().Lookup(flag) == nil && found.InheritedFlags().Lookup(flag) == nil {
					t.Errorf("%s: no flag --%s: %s", c.CommandPath(), flag, line)
				}
			}
		}
	}
}

func TestManualPages(t *testing.T) {
	dir := t.TempDir()
	env, stderr := testEnv(nil)
	env.Args = []string{"man", dir}
	if code := Run(t.Context(), env); code != 0 {
		t.Fatalf("exit %d: %s", code, stderr)
	}
	for _, c := range shownIn(newRoot(env)) {
		page := filepath.Join(dir, strings.ReplaceAll(c.CommandPath(), " ", "-")+".1")
		if _, err := os.Stat(page); err != nil {
			t.Errorf("%s has no page: %v", c.CommandPath(), err)
		}
	}
	for _, hidden := range []string{"lab-hold", "host-hook", "man"} {
		if _, err := os.Stat(filepath.Join(dir, "ovsactl-"+hidden+".1")); err == nil {
			t.Errorf("the hidden verb %s has a page", hidden)
		}
	}
	main, err := os.ReadFile(filepath.Join(dir, "ovsactl.1"))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		".SH EXIT STATUS", "130", ".SH ENVIRONMENT", "OVSACTL_TPM", "OVSACTL_PACKAGES", "OVSA_VAR_", "NO_COLOR",
		".SH FILES", "roles.hcl", "/var/OVSA", "/etc/libvirt/hooks/qemu.d/50-ovsactl",
	} {
		if !strings.Contains(string(main), want) {
			t.Errorf("ovsactl(1) does not have %q", want)
		}
	}
}
