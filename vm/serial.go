package vm

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"libvirt.org/go/libvirt"
	"libvirt.org/go/libvirtxml"
)

// maxSerialTail is how much of the end of a serial log is read.
const maxSerialTail = 256 << 10

// logPool is a storage pool over libvirt's log directory that exists while a
// serial log is read: so the log comes through libvirt from wherever it is.
const logPool = "ovsactl-serial-logs"

// SerialTail returns the last lines of the guest's serial log, control
// characters as the guest sent them. No log is no lines.
func (h *Host) SerialTail(ctx context.Context, name string, lines int) ([]string, error) {
	if err := checkVolume(serialLog(name)); err != nil {
		return nil, err
	}
	return call(ctx, h, fmt.Sprintf("read serial log of domain %q", name), func(c *libvirt.Connect) ([]string, error) {
		var tail []string
		err := h.withLogs(c, func(p *libvirt.StoragePool) error {
			v, err := findVolume(ctx, p, serialLog(name))
			if err != nil || v == nil {
				return err
			}
			defer v.Free()
			data, err := downloadTail(ctx, c, v)
			tail = lastLines(data, lines)
			return err
		})
		return tail, err
	})
}

// removeSerialLog removes the log and what virtlogd rotated away.
func (h *Host) removeSerialLog(ctx context.Context, name string) error {
	return do(ctx, h, fmt.Sprintf("remove serial log of domain %q", name), func(c *libvirt.Connect) error {
		return h.withLogs(c, func(p *libvirt.StoragePool) error {
			names, err := p.ListStorageVolumes()
			if err != nil {
				return err
			}
			for _, n := range names {
				rotated, ok := strings.CutPrefix(n, serialLog(name))
				if !ok || rotated != "" && !strings.HasPrefix(rotated, ".") {
					continue
				}
				if err := deleteVolume(ctx, p, n); err != nil {
					return err
				}
			}
			return nil
		})
	})
}

// withLogs runs f with a pool over libvirt's log directory. Without such a
// directory there are no logs, and f does not run.
func (h *Host) withLogs(c *libvirt.Connect, f func(*libvirt.StoragePool) error) error {
	kind, err := c.GetType()
	if err != nil || kind != "QEMU" {
		return err
	}
	h.logs.Lock() // libvirt has one pool to a directory
	defer h.logs.Unlock()
	p, err := openLogs(c)
	if err != nil || p == nil {
		return err
	}
	defer p.Free()
	err = f(p)
	if name, nameErr := p.GetName(); nameErr != nil || name != logPool {
		return errors.Join(err, nameErr) // somebody else's pool stays
	}
	if destroyErr := p.Destroy(); !isCode(destroyErr, libvirt.ERR_NO_STORAGE_POOL, libvirt.ERR_OPERATION_INVALID) {
		err = errors.Join(err, destroyErr)
	}
	return err
}

// openLogs makes the pool or takes the one that is there, a killed run's or
// somebody else's; nil without a log directory. A pool that is not stored ends
// with libvirt, and its files stay in any case.
func openLogs(c *libvirt.Connect) (*libvirt.StoragePool, error) {
	definition := libvirtxml.StoragePool{Type: "dir", Name: logPool, Target: &libvirtxml.StoragePoolTarget{Path: logDir}}
	text, err := definition.Marshal()
	if err != nil {
		return nil, err
	}
	p, err := c.StoragePoolCreateXML(text, libvirt.STORAGE_POOL_CREATE_NORMAL)
	if err == nil {
		return p, nil
	}
	if strings.Contains(err.Error(), "No such file or directory") {
		return nil, nil
	}
	old, lookupErr := c.LookupStoragePoolByTargetPath(logDir)
	if lookupErr != nil {
		return nil, err
	}
	if err := old.Refresh(0); err != nil {
		old.Free()
		return nil, err
	}
	return old, nil
}

func downloadTail(ctx context.Context, c *libvirt.Connect, v *libvirt.StorageVol) ([]byte, error) {
	info, err := v.GetInfo()
	if err != nil {
		return nil, err
	}
	offset := max(info.Capacity, maxSerialTail) - maxSerialTail
	if info.Capacity == 0 {
		return nil, nil
	}
	stream, err := c.NewStream(libvirt.STREAM_NONBLOCK)
	if err != nil {
		return nil, err
	}
	defer stream.Free()
	if err := v.Download(stream, offset, info.Capacity-offset, 0); err != nil {
		return nil, err
	}
	data, err := drain(ctx, stream, maxSerialTail)
	if err != nil {
		return nil, errors.Join(err, stream.Abort())
	}
	return data, stream.Finish()
}

// drain reads a stream to its end, at most limit bytes.
func drain(ctx context.Context, stream *libvirt.Stream, limit int) ([]byte, error) {
	var data []byte
	buf := make([]byte, uploadChunk)
	for {
		n, err := recv(ctx, stream, buf)
		if errors.Is(err, io.EOF) {
			return data, nil
		} else if err != nil {
			return nil, err
		}
		if data = append(data, buf[:n]...); len(data) > limit {
			return nil, fmt.Errorf("over %d bytes", limit)
		}
	}
}

// lastLines splits at line ends of both kinds and returns the last n lines
// that are not empty at the very end.
func lastLines(data []byte, n int) []string {
	text := strings.TrimRight(strings.ReplaceAll(string(data), "\r\n", "\n"), "\r\n")
	if text == "" || n <= 0 {
		return nil
	}
	lines := strings.Split(text, "\n")
	for i, line := range lines {
		lines[i] = strings.TrimRight(line, "\r")
	}
	return slices.Clone(lines[max(0, len(lines)-n):])
}
