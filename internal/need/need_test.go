package need

import (
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

// ended is a test that tells how it ended.
type ended struct {
	testing.TB
	how string
}

func (e *ended) Helper() {}
func (e *ended) Skip(...any) {
	e.how = "skipped"
	runtime.Goexit()
}
func (e *ended) Fatalf(string, ...any) {
	e.how = "failed"
	runtime.Goexit()
}

func TestWhatIsAbsent(t *testing.T) {
	dir := t.TempDir()
	there, data := filepath.Join(dir, "there"), filepath.Join(dir, "data")
	for path, mode := range map[string]os.FileMode{there: 0o755, data: 0o644} {
		if err := os.WriteFile(path, nil, mode); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("PATH", dir)
	for _, tt := range []struct{ required, names, want string }{
		{"", "there", ""},
		{"there", "there " + data, ""},
		{"", "there gone", "skipped"},
		{"", "data", "skipped"}, // not a program
		{"", "/gone", "skipped"},
		{"gone", "gone", "failed"},
		{"a,gone,b", "there gone", "failed"},
		{"/gone", "/gone", "failed"},
		{"gone2,agone", "gone", "skipped"}, // another name that has this one in it
	} {
		t.Setenv("OVSA_REQUIRE", tt.required)
		e := &ended{TB: t}
		done := make(chan struct{})
		go func() {
			defer close(done)
			Programs(e, strings.Fields(tt.names)...)
		}()
		<-done
		if e.how != tt.want {
			t.Errorf("%q with OVSA_REQUIRE=%q: %q, want %q", tt.names, tt.required, e.how, tt.want)
		}
	}
}

func TestTool(t *testing.T) {
	dir := t.TempDir()
	for _, d := range []string{"bin", "deep/er"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, path := range []string{"go.mod", "bin/there"} {
		if err := os.WriteFile(filepath.Join(dir, path), nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	t.Chdir(filepath.Join(dir, "deep/er"))
	for _, tt := range []struct{ required, path, want, how string }{
		{"", "bin/there", filepath.Join(dir, "bin/there"), ""},
		{"", "bin/gone", "", "skipped"},
		{"bin/gone", "bin/gone", "", "failed"},
	} {
		t.Setenv("OVSA_REQUIRE", tt.required)
		e := &ended{TB: t}
		got := ""
		done := make(chan struct{})
		go func() {
			defer close(done)
			got = Tool(e, tt.path)
		}()
		<-done
		if got != tt.want || e.how != tt.how {
			t.Errorf("%q with OVSA_REQUIRE=%q: %q, %q; want %q, %q", tt.path, tt.required, got, e.how, tt.want, tt.how)
		}
	}
}
