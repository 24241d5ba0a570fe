package lab

import (
	"context"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"github.com/ovsactl/ovsactl/internal/run"
)

// Hold is process 1 of a lab. It starts this program again as serve, reaps
// whatever is orphaned to it, and returns when serve ends: the kernel then
// kills the rest of the lab. It inherits the report pipe as descriptor 3.
func Hold(serve []string) error {
	if os.Getpid() != 1 {
		return errors.New("this verb is for `ovsactl lab up` alone")
	}
	reports := os.NewFile(3, "reports")
	p, err := run.Cmd{
		Path: "/proc/self/exe", Args: serve, Dir: "/", Env: []string{"OVSACTL_LAB_HOLDER=1"},
		Stdout: os.Stdout, Stderr: os.Stderr, Files: []*os.File{reports},
	}.Start(context.Background())
	if err != nil {
		return err
	}
	reports.Close()
	for {
		// Not p.Wait: it waits for one child, and every child has to be reaped.
		var status unix.WaitStatus
		pid, err := unix.Wait4(-1, &status, 0, nil)
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil:
			return fmt.Errorf("reap: %w", err)
		case pid == p.PID():
			return fmt.Errorf("the lab's supervisor ended with status %#x", int(status))
		}
	}
}
