package vtpm

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/google/go-tpm/tpm2"
	"golang.org/x/sys/unix"

	"github.com/ovsactl/ovsactl/internal/hint"
	"github.com/ovsactl/ovsactl/internal/run"
)

// ErrRunning says that a vTPM's state is in use: its guest runs.
var ErrRunning = errors.New("the vTPM is in use")

// swtpm is a TPM emulator process over a state directory. Its two sockets have
// no name, so nobody else can talk to it, and it ends with its last client.
// It is a transport.TPM for one goroutine.
type swtpm struct {
	process *run.Process
	data    net.Conn
	ctrl    net.Conn
	stop    func() bool // detaches the context
}

// startSWTPM starts swtpm on dir, an absolute path, with the TPM started up.
func startSWTPM(ctx context.Context, dir string) (*swtpm, error) {
	data, dataPeer, err := socketPair()
	if err != nil {
		return nil, fmt.Errorf("start swtpm: %w", err)
	}
	defer dataPeer.Close()
	ctrl, ctrlPeer, err := socketPair()
	if err != nil {
		data.Close()
		return nil, fmt.Errorf("start swtpm: %w", err)
	}
	defer ctrlPeer.Close()
	t := &swtpm{data: data, ctrl: ctrl}
	t.process, err = run.Cmd{
		Path: "swtpm",
		Args: []string{
			"socket", "--tpm2", "--tpmstate", "dir=" + dir + ",mode=0600",
			"--server", "type=tcp,fd=3", "--ctrl", "type=unixio,clientfd=4",
			"--flags", "not-need-init,startup-clear",
		},
		Dir: "/", Files: []*os.File{dataPeer, ctrlPeer},
	}.Start(context.WithoutCancel(ctx))
	if err != nil {
		data.Close()
		ctrl.Close()
		return nil, err
	}
	// A TPM that does not answer must not hold up whoever gave up waiting.
	t.stop = context.AfterFunc(ctx, func() { t.data.SetDeadline(time.Now()) })
	dataPeer.Close()
	ctrlPeer.Close()
	if _, err := (tpm2.ReadClock{}).Execute(t); err != nil {
		return nil, t.failed(dir, err)
	}
	return t, nil
}

// failed ends a process that did not start, and says why.
func (t *swtpm) failed(dir string, cause error) error {
	interrupted := !t.stop()
	t.kill()
	err := t.process.Wait()
	if interrupted {
		return context.Canceled
	}
	var ended *run.Error
	if errors.As(err, &ended) && strings.Contains(ended.Stderr, "lock") {
		return hint.Wrap(ErrRunning, "shut the guest down first: its vTPM can have one user at a time")
	}
	if ended != nil && ended.Stderr != "" {
		cause = fmt.Errorf("%w: %s", cause, ended.Stderr)
	}
	return fmt.Errorf("start swtpm on %q: %w", filepath.Dir(dir), cause)
}

func socketPair() (ours net.Conn, theirs *os.File, err error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, err
	}
	f := os.NewFile(uintptr(fds[0]), "swtpm")
	defer f.Close()
	theirs = os.NewFile(uintptr(fds[1]), "swtpm")
	ours, err = net.FileConn(f)
	if err != nil {
		theirs.Close()
		return nil, nil, err
	}
	return ours, theirs, nil
}

// maxResponse bounds a TPM's answer; swtpm's own buffer has 4096 bytes.
const maxResponse = 8192

// Send implements transport.TPM.
func (t *swtpm) Send(command []byte) ([]byte, error) {
	if _, err := t.data.Write(command); err != nil {
		return nil, fmt.Errorf("write to swtpm: %w", err)
	}
	response := make([]byte, 10, 4096)
	if _, err := io.ReadFull(t.data, response); err != nil {
		return nil, fmt.Errorf("read from swtpm: %w", err)
	}
	size := binary.BigEndian.Uint32(response[2:])
	if size < 10 || size > maxResponse {
		return nil, fmt.Errorf("read from swtpm: an answer of %d bytes", size)
	}
	response = append(response, make([]byte, size-10)...)
	if _, err := io.ReadFull(t.data, response[10:]); err != nil {
		return nil, fmt.Errorf("read from swtpm: %w", err)
	}
	return response, nil
}

// close shuts the TPM down in order, so that its state is whole, and waits for
// the process.
func (t *swtpm) close() error {
	_, err := tpm2.Shutdown{ShutdownType: tpm2.TPMSUClear}.Execute(t)
	if err != nil {
		t.kill()
		t.process.Wait()
		return fmt.Errorf("shut swtpm down: %w", err)
	}
	const cmdShutdown = 3 // swtpm_ioctl.h, CMD_SHUTDOWN
	t.ctrl.SetDeadline(time.Now().Add(5 * time.Second))
	if err := binary.Write(t.ctrl, binary.BigEndian, uint32(cmdShutdown)); err == nil {
		var result uint32
		err = binary.Read(t.ctrl, binary.BigEndian, &result)
		if err != nil || result != 0 {
			t.kill()
		}
	}
	t.release()
	if err := t.process.Wait(); err != nil {
		return fmt.Errorf("shut swtpm down: %w", err)
	}
	return nil
}

// abort ends the process at once. What it wrote may be anything.
func (t *swtpm) abort() {
	t.kill()
	t.process.Wait()
}

func (t *swtpm) kill() {
	t.process.Signal(os.Kill)
	t.release()
}

func (t *swtpm) release() {
	t.stop()
	t.data.Close()
	t.ctrl.Close()
}
