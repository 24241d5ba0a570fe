package ovsaruntime

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync/atomic"

	"github.com/ovsactl/ovsactl/cmd/internal/guestcli"
	"github.com/ovsactl/ovsactl/internal/cgroup"
	"github.com/ovsactl/ovsactl/internal/hint"
	"github.com/ovsactl/ovsactl/licensing/hosting"
)

// memoryFlags are what is said of the memory that models are in.
func memoryFlags() []guestcli.Flag {
	return []guestcli.Flag{
		{Name: "memory", Arg: "BYTES", Kind: guestcli.Number, Setting: true, Default: "0", Help: "how much the program may use, with the pages of models that it reads; 0 for any. It needs a unit with Delegate=yes"},
		{Name: "allow-swap", Setting: true, Help: "serve models though the kernel may write their pages to a disk"},
	}
}

// errSwap says that models could be written to a disk.
var errSwap = errors.New("swap is on, and models could be written to it")

// enclosed keeps models from being swapped, and puts an engine into a control group
// where this process may make some.
func (s session) enclosed(command hosting.Command, kills *atomic.Uint64, log *slog.Logger) (hosting.Engine, error) {
	memory := int64(s.Number("memory"))
	if memory < 0 {
		return nil, guestcli.Usagef("-memory %d: want a number of bytes, or 0 for any", memory)
	}
	swaps, err := os.ReadFile("/proc/swaps")
	if err != nil && !errors.Is(err, os.ErrNotExist) { // a kernel without swap has none
		return nil, fmt.Errorf("look for swap: %w", err)
	}
	self, err := cgroup.Self()
	var groups cgroup.Divided
	if err == nil {
		groups, err = cgroup.Divide(self)
	}
	if err == nil { // nothing in there is swapped
		return hosting.Limited{
			Engine: func(group *os.File) hosting.Engine { command.Cgroup = group; return command },
			Group:  func() (hosting.Group, error) { return groups.New("engine", memory) },
			Memory: memory, Kills: kills, Log: log,
		}, nil
	}
	if memory > 0 {
		return nil, hint.Wrap(fmt.Errorf("limit the engine's memory: %w", err), "%s; or do without a limit: -memory 0", hint.Of(err))
	}
	log.Info("the engine has no control group of its own", "why", err.Error())
	return command, checkSwap(string(swaps), self.NoSwap(), s.Has("allow-swap"), log)
}

// checkSwap refuses swap that is not kept away, unless somebody wants that.
func checkSwap(swaps string, away, allowed bool, log *slog.Logger) error {
	on := swapsOf(swaps)
	switch {
	case len(on) == 0 || away:
		return nil
	case allowed:
		log.Warn("swap is on: parts of models may be written to a disk, where nothing wipes them", "swap", on)
		return nil
	}
	return hint.Wrap(fmt.Errorf("%w: %s", errSwap, strings.Join(on, ", ")),
		"switch it off: swapoff -a; or run it as a service whose unit has MemorySwapMax=0; -allow-swap serves them nevertheless")
}

// swapsOf are the areas that /proc/swaps names.
func swapsOf(text string) (on []string) {
	for line := range strings.Lines(text) {
		if words := strings.Fields(line); len(words) > 1 && words[0] != "Filename" {
			on = append(on, words[0])
		}
	}
	return on
}
