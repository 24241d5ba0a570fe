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
