package hosting

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ovsactl/ovsactl/internal/run"
	"github.com/ovsactl/ovsactl/licensing/modelfs"
)

// Command is an engine that is any server: a program that reads models from a directory
// and listens at a port. Of its arguments, {models} is that directory and {port} the
// port.
//
// It runs in mount, PID and IPC namespaces of its own, as a user of its own, and cannot
// get more rights. It alone sees the models. It ends when this process does.
type Command struct {
	Args     []string // the program and its arguments
	Port     int      // on 127.0.0.1
	GRPCPort int      // {grpc_port}, which it may listen at, too
	Health   string   // a path that is answered with 200 when it is ready; "" where it is when it listens
	Dir      string   // where the models are to be, an empty directory
	UID, GID uint32
	Cache    int64             // of the models' file system: see modelfs.Options
	Launcher []string          // the program, with its first arguments, that calls Launch
	Counters *modelfs.Counters // of what it reads; nil: nobody counts
	Cgroup   *os.File          // the control group, open, in which it begins; nil: that of this process
	Log      *slog.Logger
}

// launched is a command that runs.
type launched struct {
	*program
	c  Command
	fs *modelfs.FS
}

// Start implements Engine.
func (c Command) Start(_ context.Context, models []Shown) (Instance, error) {
	fail := func(err error) (Instance, error) { return nil, fmt.Errorf("start the engine: %w", err) }
	device, err := modelfs.Open()
	if err != nil {
		return fail(err)
	}
	defer device.Close()
	mounted, tell, err := os.Pipe()
	if err != nil {
		return fail(err)
	}
	defer mounted.Close()
	defer tell.Close()
	l := &launched{c: c, fs: modelfs.New(modelfs.Options{UID: c.UID, GID: c.GID, Cache: c.Cache, Log: c.Log, Counters: c.Counters})}
	for _, m := range models {
		if err := l.fs.Add(m.Name, m.Number, m.Model); err != nil {
			return fail(err)
		}
	}
	cmd := run.Cmd{
		Path:        c.Launcher[0],
		Args:        append(append(c.Launcher[1:len(c.Launcher):len(c.Launcher)], c.Dir, strconv.FormatUint(uint64(c.UID), 10), strconv.FormatUint(uint64(c.GID), 10)), c.arguments()...),
		Files:       []*os.File{device, tell},
		SysProcAttr: &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWIPC, Pdeathsig: unix.SIGKILL},
	}
	if c.Cgroup != nil {
		cmd.SysProcAttr.UseCgroupFD, cmd.SysProcAttr.CgroupFD = true, int(c.Cgroup.Fd())
	}
	if l.program, err = start(cmd, func(line string) { c.Log.Info("engine says", "line", line) }); err != nil {
		return fail(err)
	}
	tell.Close()
	// The launcher says that it has mounted the device, or ends.
	number, err := bufio.NewReader(io.LimitReader(mounted, maxLine)).ReadString('\n')
	if err != nil {
		l.Stop()
		return fail(fmt.Errorf("its namespace cannot be made: %w", l.Err()))
	}
	if _, err := l.fs.Serve(device); err != nil {
		l.Stop()
		return fail(err)
	}
	if err := modelfs.ReadAhead(strings.TrimSpace(number)); err != nil {
		c.Log.Info("models are read more slowly than they could be", "why", err.Error())
	}
	return l, nil
}

// arguments are those of the engine.
func (c Command) arguments() []string {
	r := strings.NewReplacer("{models}", c.Dir, "{port}", strconv.Itoa(c.Port), "{grpc_port}", strconv.Itoa(c.GRPCPort))
	var all []string
	for _, a := range c.Args {
		all = append(all, r.Replace(a))
	}
	return all
}

// Ready implements Instance.
func (l *launched) Ready(ctx context.Context) error {
	err := await(ctx, l.ended, l.answers)
	if errors.Is(err, errEnded) {
		return fmt.Errorf("the engine ended before it was ready: %w", l.Err())
	}
	return err
}

// answers asks once.
func (l *launched) answers(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	address := net.JoinHostPort("127.0.0.1", strconv.Itoa(l.c.Port))
	if l.c.Health == "" {
		return listens(ctx, address)
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+l.c.Health, nil)
	if err != nil {
		return false
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return false
	}
	response.Body.Close()
	return response.StatusCode == http.StatusOK
}

// Hide implements Instance.
func (l *launched) Hide(name string, number int64) { l.fs.Remove(name, number) }

// Stop implements Instance.
func (l *launched) Stop() { l.end() }

// Ended implements Instance.
func (l *launched) Ended() <-chan struct{} { return l.ended }

// Err implements Instance. The launcher's name says nothing of an engine.
func (l *launched) Err() error {
	<-l.ended
	var failed *run.Error
	if errors.As(l.err, &failed) {
		return failed.Err
	}
	return l.err
}

var (
	_ Engine   = Command{}
	_ Instance = (*launched)(nil)
)
