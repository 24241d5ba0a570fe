package cli

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/ovsactl/ovsactl/roles"
)

// documents are the texts for users.
func documents(t *testing.T) map[string]string {
	t.Helper()
	names, err := filepath.Glob("../../../docs/*.md")
	if err != nil || len(names) == 0 {
		t.Fatalf("documents: %q, %v", names, err)
	}
	texts := make(map[string]string)
	for _, name := range append(names, "../../../README.md") {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		texts[filepath.Base(name)] = string(text)
	}
	return texts
}

func TestReadmeNamesEveryVerb(t *testing.T) {
	env, _ := testEnv(nil)
	readme := documents(t)["README.md"]
	for _, c := range shownIn(newRoot(env)) {
		switch c.Parent() {
		case nil:
		case c.Root():
			if !strings.Contains(readme, "`ovsactl "+c.Name()+"`") {
				t.Errorf("the table of verbs is without %s", c.Name())
			}
		default:
			if !strings.Contains(readme, "`"+c.Name()+"`") {
				t.Errorf("the table of verbs is without %s", c.CommandPath())
			}
		}
	}
}

// A command line in the documents is one of the program's, with its flags.
func TestDocumentedCommandLinesExist(t *testing.T) {
	env, _ := testEnv(nil)
	root := newRoot(env)
	quoted := regexp.MustCompile("`(?:sudo )?ovsactl ([a-z][^`]*)`|\n    (?:sudo )?ovsactl ([a-z].*)")
	for name, text := range documents(t) {
		for _, m := range quoted.FindAllStringSubmatch(text, -1) {
			line, _, _ := strings.Cut(m[1]+m[2], " -- ")
			line, _, _ = strings.Cut(line, " #")
			words := strings.Fields(line)
			found, _, err := root.Find(words)
			if err != nil || found == root {
				t.Errorf("%s: there is no %q", name, "ovsactl "+line)
				continue
			}
			for _, w := range words {
				flag, ok := strings.CutPrefix(w, "--")
				if ok && flag != "" && flag != "help" && found.Flags().Lookup(flag) == nil && found.InheritedFlags().Lookup(flag) == nil {
					t.Errorf("%s: %s has no flag --%s", name, found.CommandPath(), flag)
				}
			}
		}
	}
}

func TestDocumentedManifestsAreValid(t *testing.T) {
	block := regexp.MustCompile("(?s)```hcl\n(.*?)```")
	for name, text := range documents(t) {
		for _, m := range block.FindAllStringSubmatch(text, -1) {
			manifest, _, diags := roles.Load([]string{"doc.hcl"}, roles.Options{Sources: map[string][]byte{"doc.hcl": []byte(m[1])}})
			if manifest == nil || diags.HasErrors() {
				t.Errorf("%s: %v\n%s", name, diags, m[1])
			}
		}
	}
}

func TestDocumentsLinkToWhatIsThere(t *testing.T) {
	link := regexp.MustCompile(`\]\(([^):#]+)\)`)
	for name, text := range documents(t) {
		dir := "../../../docs"
		if name == "README.md" {
			dir = "../../.."
		}
		for _, m := range link.FindAllStringSubmatch(text, -1) {
			if _, err := os.Stat(filepath.Join(dir, m[1])); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
}
