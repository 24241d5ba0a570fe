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
	Cache    int64    // of the models' file system: see modelfs.Options
	Launcher []string // the program, with its first arguments, that calls Launch
	Log      *slog.Logger
}

// launched is a command that runs.
type launched struct {
	c       Command
	fs      *modelfs.FS
	process *run.Process
	stop    context.CancelFunc
	ended   chan struct{}
	err     error // when ended is closed
}

// pollEvery is how often it is looked whether an engine answers.
const pollEvery = 100 * time.Millisecond

// Start implements Engine.
func (c Command) Start(ctx context.Context, models []Shown) (Instance, error) {
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
	l := &launched{c: c, fs: modelfs.New(modelfs.Options{UID: c.UID, GID: c.GID, Cache: c.Cache, Log: c.Log}), ended: make(chan struct{})}
	for _, m := range models {
		if err := l.fs.Add(m.Name, m.Number, m.Model); err != nil {
			return fail(err)
		}
	}
	says, output := io.Pipe()
	cmd := run.Cmd{
		Path:   c.Launcher[0],
		Args:   append(append(c.Launcher[1:len(c.Launcher):len(c.Launcher)], c.Dir, strconv.FormatUint(uint64(c.UID), 10), strconv.FormatUint(uint64(c.GID), 10)), c.arguments()...),
		Stdout: output, Stderr: output, Files: []*os.File{device, tell},
		SysProcAttr: &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWIPC, Pdeathsig: unix.SIGKILL},
	}
	living, stop := context.WithCancel(context.WithoutCancel(ctx))
	l.stop = stop
	if l.process, err = cmd.Start(living); err != nil {
		stop()
		return fail(err)
	}
	tell.Close()
	go logLines(says, func(line string) { c.Log.Info("engine says", "line", line) })
	go func() {
		l.err = l.process.Wait()
		var failed *run.Error
		if errors.As(l.err, &failed) { // of which the launcher's name says nothing
			l.err = failed.Err
		}
		output.Close()
		close(l.ended)
	}()
	// The launcher says that it has mounted the device, or ends.
	number, err := bufio.NewReader(io.LimitReader(mounted, maxLine)).ReadString('\n')
	if err != nil {
		l.Stop()
		return fail(fmt.Errorf("its namespace cannot be made: %w", l.err))
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

// maxLine is how much of a line of an engine's output is logged.
const maxLine = 4096

// logLines tells the lines of what a program says.
func logLines(says io.Reader, tell func(string)) {
	r := bufio.NewReaderSize(says, maxLine)
	for {
		line, more, err := r.ReadLine()
		if text := strings.TrimSpace(string(line)); text != "" {
			tell(text)
		}
		for more && err == nil {
			_, more, err = r.ReadLine()
		}
		if err != nil {
			io.Copy(io.Discard, says)
			return
		}
	}
}

// Ready implements Instance.
func (l *launched) Ready(ctx context.Context) error {
	for !l.answers(ctx) {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-l.ended:
			return fmt.Errorf("the engine ended before it was ready: %w", l.Err())
		case <-time.After(pollEvery):
		}
	}
	return nil
}

// answers asks once.
func (l *launched) answers(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	address := net.JoinHostPort("127.0.0.1", strconv.Itoa(l.c.Port))
	if l.c.Health == "" {
		conn, err := new(net.Dialer).DialContext(ctx, "tcp", address)
		if err != nil {
			return false
		}
		conn.Close()
		return true
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
func (l *launched) Stop() {
	l.stop()
	<-l.ended
}

// Ended implements Instance.
func (l *launched) Ended() <-chan struct{} { return l.ended }

// Err implements Instance.
func (l *launched) Err() error {
	<-l.ended
	return l.err
}

var (
	_ Engine   = Command{}
	_ Instance = (*launched)(nil)
)
