//go:build e2e

package e2e

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math"
	"os"
	"strings"
	"testing"

	"github.com/ovsactl/ovsactl/test/guide"
)

// TestGuide does what docs/guide.md tells its reader to do, and sees what the page says.
func TestGuide(t *testing.T) {
	h := openLab(t)
	t.Chdir("../..")
	page, err := os.Open("docs/guide.md")
	if err != nil {
		t.Fatal(err)
	}
	defer page.Close()
	blocks, err := guide.Parse(page)
	if err != nil {
		t.Fatal(err)
	}
	var report bytes.Buffer
	err = guide.Run(t.Context(), blocks, guide.Options{
		Shell: guide.InLab(h.program, h.lab), Env: guide.Small(h.program), Log: t.Output(), Report: io.MultiWriter(&report, t.Output()),
		Before: func(_ context.Context, step string) (ended []string, err error) {
			if step != "Take the licence back" {
				return nil, nil
			}
			s := &served{host: h}
			for _, part := range []struct {
				name string
				run  func(*testing.T)
			}{
				{"nobody else sees the model", s.alone}, {"nothing of it is on the disk", s.disk},
				{"each process killed", s.killed}, {"its host has another TPM, and boots with its own", s.moved},
			} {
				if !t.Run(part.name, part.run) {
					return nil, fmt.Errorf("%s: it failed", part.name)
				}
			}
			return []string{"runtime"}, nil
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	// Both clients have found the face, where the detector's authors' program does.
	want, found := [4]float64{184.4, 62.5, 268.7, 174.7}, 0
	for line := range strings.Lines(report.String()) {
		var sure int
		var box [4]float64
		if _, err := fmt.Sscanf(strings.TrimSpace(line), "%d %% sure: %f, %f to %f, %f", &sure, &box[0], &box[1], &box[2], &box[3]); err != nil {
			continue
		}
		found++
		for i := range box {
			if math.Abs(box[i]-want[i]) > 3 || sure < 80 {
				t.Errorf("a face at %v, %d %% sure, want %v", box, sure, want)
			}
		}
	}
	if found != 2 {
		t.Errorf("%d faces, want one of each client", found)
	}
}
