package hosting

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ovsactl/ovsactl/internal/atomicfile"
	"github.com/ovsactl/ovsactl/internal/run"
	"github.com/ovsactl/ovsactl/internal/visible"
	"github.com/ovsactl/ovsactl/licensing/modelfs"
)

// Command is an engine that is any server: a program that reads models from a directory
// and answers somewhere.
//
// It runs in mount, PID and IPC namespaces of its own, as a user of its own, and cannot
// get more rights. It alone sees the models, and writes to nothing that is left. It ends
// when this process does.
type Command struct {
	// Args are the program and its arguments, in which {models} is the models'
	// directory, {port} the port of REST, and {grpc_port} the one of GRPC.
	Args []string
	// Arrange makes more arguments for the models that are shown, at each start; they go
	// behind the program, before the others. nil: it needs none.
	Arrange func(models []Shown) (Arrangement, error)
	// REST is where it answers over HTTP/1.1, "127.0.0.1:PORT" or "unix:PATH", and
	// GRPC where it may answer over HTTP/2, as well; "" for nowhere.
	//
	// Sockets with a path are made here, and given to the program as systemd gives
	// them, "http" and "grpc": sd_listen_fds(3). It has no network then.
	REST, GRPC string
	Clients    uint32 // the group that may connect to sockets with a path
	Health     string // a path of REST that is answered with 200 when it is ready; "" where it is when it listens
	// Served is such a path for one model, {model} and {version}; "" where whatever is
	// ready has all models.
	Served   string
	Dir      string // where the models are to be, an empty directory
	UID, GID uint32
	Cache    int64             // of the models' file system: see modelfs.Options
	Launcher []string          // the program, with its first arguments, that calls Launch
	Counters *modelfs.Counters // of what it reads; nil: nobody counts
	Cgroup   *os.File          // the control group, open, in which it begins; nil: that of this process
	Log      *slog.Logger
}

// Arrangement is what a command is told of the models that it sees.
type Arrangement struct {
	Args []string // as they are: nothing in them is replaced
	// Refuses says why it will not answer for one of them; nil: it may answer for all.
	Refuses func(name string, number int64) error
}

// launched is a command that runs.
type launched struct {
	*program
	c      Command
	as     Arrangement
	fs     *modelfs.FS
	client *http.Client // of REST
}

// Start implements Engine.
func (c Command) Start(_ context.Context, models []Shown) (Instance, error) {
	fail := func(err error) (Instance, error) { return nil, fmt.Errorf("start the engine: %w", err) }
	var as Arrangement
	if c.Arrange != nil {
		var err error
		if as, err = c.Arrange(models); err != nil {
			return fail(err)
		}
	}
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
	sockets, err := c.sockets()
	if err != nil {
		return fail(err)
	}
	defer closeAll(sockets)
	l := &launched{c: c, as: as, fs: modelfs.New(modelfs.Options{UID: c.UID, GID: c.GID, Cache: c.Cache, Log: c.Log, Counters: c.Counters}), client: c.Client()}
	for _, m := range models {
		if err := l.fs.Add(m.Name, m.Number, m.Model); err != nil {
			return fail(err)
		}
	}
	attributes := &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWIPC, Pdeathsig: unix.SIGKILL}
	if len(sockets) > 0 {
		attributes.Cloneflags |= unix.CLONE_NEWNET
	}
	cmd := run.Cmd{
		Path:        c.Launcher[0],
		Args:        slices.Concat(c.Launcher[1:], launchArguments(c, len(sockets)), c.arguments(as.Args)),
		Files:       append([]*os.File{device, tell}, sockets...),
		SysProcAttr: attributes,
	}
	if l.program, err = start(cmd, func(line string) { c.Log.Info("engine says", "line", line) }); err != nil {
		return fail(err)
	}
	if err := c.join(l.pid); err != nil {
		l.Stop()
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

// join moves a process into the control group. It has nothing of the models yet: they
// are not served before. (It cannot begin there: a service's filter of system calls does
// not see into clone3(2), and so refuses that where it restricts namespaces.)
func (c Command) join(pid int) error {
	if c.Cgroup == nil {
		return nil
	}
	fd, err := unix.Openat(int(c.Cgroup.Fd()), "cgroup.procs", unix.O_WRONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("join its control group: %w", err)
	}
	procs := os.NewFile(uintptr(fd), "cgroup.procs")
	defer procs.Close()
	if _, err := procs.WriteString(strconv.Itoa(pid)); err != nil {
		return fmt.Errorf("join its control group: %w", err)
	}
	return nil
}

// network splits an address into what net calls its parts.
func network(address string) (network, of string) {
	if path, is := strings.CutPrefix(address, "unix:"); is {
		return "unix", path
	}
	return "tcp", address
}

// sockets makes those that have a path: all, or none.
func (c Command) sockets() (all []*os.File, err error) {
	for _, address := range []string{c.REST, c.GRPC} {
		kind, path := network(address)
		if kind != "unix" {
			continue
		}
		socket, err := listenAt(path, int(c.Clients))
		if err != nil {
			closeAll(all)
			return nil, err
		}
		all = append(all, socket)
	}
	return all, nil
}

// listenAt makes a socket to which root and a group may connect. One that a dead process
// has left there is in nobody's way.
func listenAt(path string, group int) (*os.File, error) {
	if err := atomicfile.PublicDir(filepath.Dir(path)); err != nil { // the group finds it there
		return nil, err
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	socket, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return nil, err
	}
	defer socket.Close()
	socket.SetUnlinkOnClose(false) // the engine has it then
	if err := errors.Join(os.Chown(path, 0, group), os.Chmod(path, 0o660)); err != nil {
		return nil, err
	}
	return socket.File()
}

func closeAll(files []*os.File) {
	for _, f := range files {
		f.Close()
	}
}

// Client connects to REST, whatever address is asked for.
func (c Command) Client() *http.Client {
	kind, address := network(c.REST)
	return &http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, kind, address)
		},
	}}
}

// arguments are the engine and its own, more of them behind the first.
func (c Command) arguments(more []string) []string {
	port := func(address string) string { return address[strings.LastIndex(address, ":")+1:] }
	r := strings.NewReplacer("{models}", c.Dir, "{port}", port(c.REST), "{grpc_port}", port(c.GRPC))
	var all []string
	for _, a := range c.Args {
		all = append(all, r.Replace(a))
	}
	return slices.Insert(all, 1, more...)
}

// Ready implements Instance.
func (l *launched) Ready(ctx context.Context) error {
	err := await(ctx, l.ended, func(ctx context.Context) bool {
		if l.c.Health == "" {
			return listens(ctx, l.c.REST)
		}
		return l.ask(ctx, l.c.Health) == nil
	})
	if errors.Is(err, errEnded) {
		return fmt.Errorf("the engine ended before it was ready: %w", l.Err())
	}
	return err
}

// Serves implements Instance.
func (l *launched) Serves(ctx context.Context, name string, number int64) error {
	if l.as.Refuses != nil {
		if err := l.as.Refuses(name, number); err != nil {
			return err
		}
	}
	if l.c.Served == "" {
		return nil
	}
	return l.ask(ctx, strings.NewReplacer("{model}", name, "{version}", strconv.FormatInt(number, 10)).Replace(l.c.Served))
}

// maxAnswer is how much of an engine's answer is told, in bytes.
const maxAnswer = 4096

// ask asks once whether all is well at a path, and says what is not.
func (l *launched) ask(ctx context.Context, path string) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://localhost"+path, nil)
	if err != nil {
		return err
	}
	response, err := l.client.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode == http.StatusOK {
		return nil
	}
	answer, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer))
	if err != nil || len(answer) == 0 {
		return errors.New(response.Status)
	}
	var said struct{ Error string } // as the Open Inference Protocol has it
	if json.Unmarshal(answer, &said) == nil && said.Error != "" {
		return errors.New(said.Error)
	}
	return fmt.Errorf("%s: %s", response.Status, visible.Text(string(answer)))
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
