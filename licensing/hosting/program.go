package hosting

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"time"

	"github.com/ovsactl/ovsactl/internal/run"
)

// program is one that runs.
type program struct {
	stop   func()
	pid    int
	signal func(os.Signal) error // one that has ended is no error
	ended  chan struct{}
	err    error // why, when ended is closed; never nil then
}

// errByItself is why something ended that says nothing of it.
var errByItself = errors.New("by itself")

// start starts a program, which runs until it ends or is stopped, and has the lines
// of what it says told.
func start(cmd run.Cmd, tell func(line string)) (*program, error) {
	says, output := io.Pipe()
	cmd.Stdout, cmd.Stderr = output, output
	ctx, stop := context.WithCancel(context.Background())
	process, err := cmd.Start(ctx)
	if err != nil {
		stop()
		return nil, err
	}
	p := &program{stop: stop, pid: process.PID(), signal: process.Signal, ended: make(chan struct{})}
	go tellLines(says, tell)
	go func() {
		p.err = cmp.Or(process.Wait(), errByItself)
		stop()
		output.Close()
		close(p.ended)
	}()
	return p, nil
}

// end stops it, and returns when it has ended.
func (p *program) end() {
	p.stop()
	<-p.ended
}

// maxLine is how much of a line of a program's output is told.
const maxLine = 4096

func tellLines(says io.Reader, tell func(string)) {
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

// pollEvery is how often it is looked whether a program answers.
const pollEvery = 100 * time.Millisecond

// errEnded is what await returns of something that will not answer.
var errEnded = errors.New("it ended")

// await returns when something answers, ends or is not waited for any more.
func await(ctx context.Context, ended <-chan struct{}, answers func(context.Context) bool) error {
	for !answers(ctx) {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-ended:
			return errEnded
		case <-time.After(pollEvery):
		}
	}
	return nil
}

// listens says whether somebody listens at an address.
func listens(ctx context.Context, address string) bool {
	kind, of := network(address)
	conn, err := (&net.Dialer{Timeout: time.Second}).DialContext(ctx, kind, of)
	if err != nil {
		return false
	}
	conn.Close()
	return true
}
