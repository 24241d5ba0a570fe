package vm

import (
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// runDir is where libvirt keeps what it knows of running QEMU guests; root's.
const runDir = "/run/libvirt/qemu"

// maxStatus bounds a status file, in bytes.
const maxStatus = 4 << 20

// ErrNoProcess says that a process is no QEMU of this host's libvirt.
var ErrNoProcess = errors.New("it is no virtual machine of this host")

// OfProcess returns the domain whose QEMU is the process with that id, as libvirt
// has recorded it in files that only root writes, where no QEMU can. It asks
// nothing of libvirt, which may be busy or down.
func OfProcess(pid int) (State, error) { return ofProcess(runDir, pid) }

func ofProcess(dir string, pid int) (State, error) {
	files, err := filepath.Glob(filepath.Join(dir, "*.pid"))
	if err != nil {
		return State{}, err
	}
	for _, file := range files {
		text, err := readAtMost(file, 32)
		if errors.Is(err, fs.ErrNotExist) {
			continue // it has just ended
		}
		if err != nil {
			return State{}, fmt.Errorf("look for the domain of a process: %w", err)
		}
		if n, err := strconv.Atoi(strings.TrimSpace(string(text))); err != nil || n != pid {
			continue
		}
		status, err := readAtMost(strings.TrimSuffix(file, ".pid")+".xml", maxStatus)
		if err != nil {
			return State{}, fmt.Errorf("look for the domain of a process: %w", err)
		}
		s, err := parseStatus(status, pid)
		if err != nil {
			return State{}, fmt.Errorf("read %q: %w", filepath.Base(file), err)
		}
		return s, nil
	}
	return State{}, ErrNoProcess
}

// parseStatus reads libvirt's record of a domain that runs, and insists that it is
// about that process.
func parseStatus(text []byte, pid int) (State, error) {
	var status struct {
		XMLName xml.Name `xml:"domstatus"`
		PID     int      `xml:"pid,attr"`
		Domain  struct {
			Inner string `xml:",innerxml"`
		} `xml:"domain"`
	}
	if err := xml.Unmarshal(text, &status); err != nil {
		return State{}, err
	}
	if status.PID != pid {
		return State{}, ErrNoProcess
	}
	s, err := ParseDomain("<domain>" + status.Domain.Inner + "</domain>")
	if err == nil && !uuidPattern.MatchString(s.UUID) {
		err = fmt.Errorf("UUID %q", s.UUID)
	}
	return s, err
}

func readAtMost(path string, most int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, most+1))
	if err == nil && int64(len(data)) > most {
		err = fmt.Errorf("%q has over %d bytes", path, most)
	}
	return data, err
}
