package ovsaruntime

import (
	"errors"
	"log/slog"
	"strings"
	"testing"

	"github.com/ovsactl/ovsactl/internal/hint"
	"github.com/ovsactl/ovsactl/internal/testlog"
)

func TestSwap(t *testing.T) {
	const (
		header = "Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n"
		on     = header + "/dev/vda3                               partition\t1048572\t\t0\t\t-2\n/swap\\040file                          file\t\t524284\t\t0\t\t-3\n"
	)
	for name, tt := range map[string]struct {
		swaps         string
		away, allowed bool
		refused, warn bool
	}{
		"no swap":                      {swaps: header},
		"a kernel that knows none":     {swaps: ""},
		"swap":                         {swaps: on, refused: true},
		"swap that is kept away":       {swaps: on, away: true},
		"swap that somebody wants":     {swaps: on, allowed: true, warn: true},
		"none, and somebody wants it":  {swaps: header, allowed: true},
		"kept away, and somebody does": {swaps: on, away: true, allowed: true},
	} {
		log := new(testlog.Log)
		err := checkSwap(tt.swaps, tt.away, tt.allowed, slog.New(slog.NewTextHandler(log, nil)))
		if errors.Is(err, errSwap) != tt.refused || (err != nil) != tt.refused || (log.String() != "") != tt.warn {
			t.Errorf("%s: %v, logged %q", name, err, log)
		}
		if tt.refused && (!strings.Contains(err.Error(), "/dev/vda3, /swap") || !strings.Contains(hint.Of(err), "MemorySwapMax=0")) {
			t.Errorf("%s: %v, %s", name, err, hint.Of(err))
		}
	}
}
