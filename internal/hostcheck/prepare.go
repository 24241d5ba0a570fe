package hostcheck

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/ovsactl/ovsactl/internal/run"
	"github.com/ovsactl/ovsactl/packaging"
)

// Action is one change that prepares a host.
type Action struct {
	What string
	Do   func(context.Context) error
}

// Actions lists what Prepare would do on a host that looks like f, in order. A
// host that is ready has none.
func (h Host) Actions(f Facts) []Action {
	var list []Action
	add := func(what string, do func(context.Context) error) { list = append(list, Action{what, do}) }
	if missing := missingPackages(f); len(missing) > 0 {
		add("install packages: "+strings.Join(missing, " "), func(ctx context.Context) error { return install(ctx, missing) })
	}
	for _, g := range []string{"kvm", "libvirt"} {
		if f.User != "root" && f.User != "" && !f.UserGroups[g] {
			add(fmt.Sprintf("add %s to group %s", f.User, g), func(ctx context.Context) error {
				return run.Cmd{Path: "usermod", Args: []string{"-a", "-G", g, f.User}}.Run(ctx)
			})
		}
	}
	for _, d := range Dirs(h.DataDir) {
		if l := checkDir(f, d); l.Status != OK {
			add(fmt.Sprintf("make directories under %s", h.DataDir), func(context.Context) error { return h.MakeDirs() })
			break
		}
	}
	if f.Hook != HookCurrent {
		add("install libvirt hook "+h.hookPath(), func(context.Context) error { return h.InstallHook() })
	}
	if f.Systemd && (f.Attest.Units != HookCurrent || !f.Attest.Listening) {
		add("install and start the attestation service "+packaging.AttestSocketUnit, func(ctx context.Context) error { return h.startAttest(ctx) })
	}
	if !f.Libvirt.Up || f.Hook == HookAbsent || f.Hook == "" {
		what := "start libvirt"
		if f.Libvirt.Up {
			what = "restart libvirt, so that it sees the hook (guests keep running)"
		}
		add(what, func(ctx context.Context) error { return h.startLibvirt(ctx, f) })
	}
	if !f.Network.Active || !f.Network.Autostart {
		add("start network default, now and at boot", func(ctx context.Context) error { return h.waitAndStartNetwork(ctx) })
	}
	return list
}

func missingPackages(f Facts) []string {
	if !f.Dpkg {
		return nil
	}
	var names []string
	for _, p := range packaging.HostPackages() {
		if f.Packages[p.Name] == "" {
			names = append(names, p.Name)
		}
	}
	return names
}

func install(ctx context.Context, names []string) error {
	if err := apt(ctx, "update"); err != nil {
		return err
	}
	return apt(ctx, append([]string{"install", "--no-install-recommends"}, names...)...)
}

// waitAndStartNetwork gives a daemon that was just started time to answer.
func (h Host) waitAndStartNetwork(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, time.Minute, errors.New("libvirt does not answer within a minute"))
	defer cancel()
	for !libvirt(ctx, h.URI).Up {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(200 * time.Millisecond):
		}
	}
	return h.StartNetwork(ctx)
}

// stopDaemon ends the process that a pid file names and waits for its end.
func stopDaemon(ctx context.Context, pidFile string) error {
	data, err := os.ReadFile(pidFile)
	if err != nil {
		return err
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(data)))
	if err != nil || pid <= 1 {
		return fmt.Errorf("%s holds no process id", pidFile)
	}
	if err := syscall.Kill(pid, syscall.SIGTERM); err != nil {
		return err
	}
	for {
		if err := syscall.Kill(pid, 0); errors.Is(err, syscall.ESRCH) {
			return nil
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(100 * time.Millisecond):
		}
	}
}
