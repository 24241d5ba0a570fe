// Command mutants switches off the checks of packages, one at a time, and runs the
// packages' tests: a check is one whose test fails without it. `make mutants` runs
// it. A check is a condition on which a function returns an error, as an if or as a
// case of a switch; `err != nil` alone is none.
//
// Those that no test notices are told, unless argued.txt says why that is right. The
// tests have to pass without a mutant, and to fail with it twice: a test that fails by
// chance notices nothing.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/ovsactl/ovsactl/internal/run"
)

// elsewhere are the tests of packages that are tested by others', too.
var elsewhere = map[string][]string{
	"licensing/ledger":   {"licensing/sqlite", "licensing/postgres"},
	"licensing":          {"cmd/internal/ovsatool"},
	"licensing/exchange": {"licensing/server"},
	"licensing/client":   {"licensing/server"},
	"licensing/server":   {},
	"licensing/hosting":  {"cmd/internal/licenseserver"},
	"vtpm/guest":         {"licensing/server"},
	"vtpm/quote":         {"vtpm"},
}

// mutant is one condition that is switched off.
type mutant struct {
	file, condition string
	line            int
	source          []byte
}

func (m mutant) String() string { return fmt.Sprintf("%s:%d: %s", m.file, m.line, m.condition) }

func main() {
	only := flag.String("run", "", "only mutants like `FILE:LINE: CONDITION` that match this regular expression")
	list := flag.Bool("list", false, "list them, and test none")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	missed, err := mutate(ctx, os.Stdout, flag.Args(), *only, *list)
	if err != nil {
		fmt.Fprintln(os.Stderr, "mutants:", err)
		os.Exit(1)
	}
	if missed > 0 {
		os.Exit(1)
	}
}

func mutate(ctx context.Context, out io.Writer, dirs []string, only string, list bool) (missed int, err error) {
	like, err := regexp.Compile(only)
	if err != nil {
		return 0, err
	}
	argued, err := readArgued("test/mutants/argued.txt")
	if err != nil {
		return 0, err
	}
	all, killed, excused := 0, 0, 0
	for _, dir := range dirs {
		mutants, err := find(dir)
		if err != nil {
			return missed, err
		}
		if !list {
			if err := passes(ctx, dir); err != nil {
				return missed, err
			}
		}
		for _, m := range mutants {
			if !like.MatchString(m.String()) {
				continue
			}
			all++
			if list {
				fmt.Fprintln(out, m)
				continue
			}
			start := time.Now()
			noticed, err := test(ctx, dir, m)
			switch {
			case err != nil:
				return missed, err
			case noticed:
				killed++
			case slices.Contains(argued, m.file+": "+m.condition):
				excused++
			default:
				missed++
				fmt.Fprintf(out, "no test notices (%.0f s): %s\n", time.Since(start).Seconds(), m)
			}
		}
	}
	if all > 0 && !list {
		fmt.Fprintf(out, "%d checks: %d have a test that fails without them (%.0f %%), %d are argued, %d are missed\n",
			all, killed, 100*float64(killed)/float64(all), excused, missed)
	}
	return missed, nil
}

// readArgued reads the checks that no test needs to notice: a line for each, as in
// "licensing/pki/pki.go: len(certs) == 0", and why behind it, in lines that begin
// with a space.
func readArgued(path string) (argued []string, err error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if line := lines.Text(); line != "" && line[0] != ' ' && line[0] != '#' {
			argued = append(argued, line)
		}
	}
	return argued, nil
}

// find returns the mutants of a package.
func find(dir string) ([]mutant, error) {
	files, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil {
		return nil, err
	}
	var all []mutant
	for _, path := range files {
		if strings.HasSuffix(path, "_test.go") {
			continue
		}
		source, err := os.ReadFile(path)
		if err != nil {
			return nil, err
		}
		set := token.NewFileSet()
		file, err := parser.ParseFile(set, path, source, parser.SkipObjectResolution)
		if err != nil {
			return nil, err
		}
		for _, c := range conditions(file) {
			from, to := set.Position(c.Pos()), set.Position(c.End())
			text := strings.Join(strings.Fields(string(source[from.Offset:to.Offset])), " ")
			if text == "err != nil" {
				continue
			}
			off := slices.Concat(source[:from.Offset], []byte("false && ("), source[from.Offset:to.Offset], []byte(")"), source[to.Offset:])
			all = append(all, mutant{path, text, from.Line, off})
		}
	}
	return all, nil
}

// conditions are those on which a function returns an error.
func conditions(file *ast.File) (all []ast.Expr) {
	ast.Inspect(file, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.IfStmt:
			if refuses(n.Body.List) {
				all = append(all, n.Cond)
			}
		case *ast.SwitchStmt:
			if n.Tag != nil {
				return true
			}
			for _, clause := range n.Body.List {
				if c := clause.(*ast.CaseClause); refuses(c.Body) {
					all = append(all, c.List...)
				}
			}
		}
		return true
	})
	return all
}

// refuses tells whether statements end in the return of something that looks like an
// error, or of false.
func refuses(body []ast.Stmt) bool {
	if len(body) == 0 {
		return false
	}
	ret, ok := body[len(body)-1].(*ast.ReturnStmt)
	if !ok || len(ret.Results) == 0 {
		return false
	}
	switch last := ret.Results[len(ret.Results)-1].(type) {
	case *ast.Ident:
		return strings.HasPrefix(last.Name, "Err") || strings.HasPrefix(last.Name, "err") || last.Name == "false"
	case *ast.SelectorExpr:
		return strings.HasPrefix(last.Sel.Name, "Err")
	case *ast.UnaryExpr:
		return last.Op == token.AND // a pointer to an error of ours
	case *ast.CallExpr:
		return strings.Contains(strings.ToLower(name(last.Fun)), "err") || name(last.Fun) == "refuse" || name(last.Fun) == "Wrap"
	}
	return false
}

func name(fun ast.Expr) string {
	switch f := fun.(type) {
	case *ast.Ident:
		return f.Name
	case *ast.SelectorExpr:
		return f.Sel.Name
	}
	return ""
}

// test runs the tests of a package, and of those that test it, with a mutant in its
// place, and tells whether one fails.
func test(ctx context.Context, dir string, m mutant) (noticed bool, err error) {
	tmp, err := os.MkdirTemp("", "mutant")
	if err != nil {
		return false, err
	}
	defer os.RemoveAll(tmp)
	path, err := filepath.Abs(m.file)
	if err != nil {
		return false, err
	}
	changed, overlay := filepath.Join(tmp, "mutant.go"), filepath.Join(tmp, "overlay.json")
	text, err := json.Marshal(map[string]map[string]string{"Replace": {path: changed}})
	if err != nil {
		return false, err
	}
	for file, data := range map[string][]byte{changed: m.source, overlay: text} {
		if err := os.WriteFile(file, data, 0o600); err != nil {
			return false, err
		}
	}
	if err := (run.Cmd{Path: "go", Args: []string{"build", "-overlay", overlay, "./" + dir}}).Run(ctx); err != nil {
		return false, fmt.Errorf("%s does not compile: %w", m, err)
	}
	for _, tests := range tested(dir) {
		test := run.Cmd{Path: "go", Args: []string{"test", "-overlay", overlay, "-count=1", "-failfast", "-vet=off", "-timeout", "3m", "./" + tests}}
		if err := test.Run(ctx); err == nil {
			continue
		}
		// Once more: a test that fails now and then is no witness.
		if err := test.Run(ctx); err != nil {
			return true, ctx.Err()
		}
	}
	return false, nil
}

// tested are the packages whose tests are a package's.
func tested(dir string) []string { return append([]string{dir}, elsewhere[dir]...) }

// passes insists that the tests of a package pass as it is.
func passes(ctx context.Context, dir string) error {
	for _, tests := range tested(dir) {
		if err := (run.Cmd{Path: "go", Args: []string{"test", "-count=1", "-vet=off", "-timeout", "3m", "./" + tests}}).Run(ctx); err != nil {
			return fmt.Errorf("without a mutant: %w", err)
		}
	}
	return nil
}
