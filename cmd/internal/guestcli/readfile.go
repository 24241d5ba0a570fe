package guestcli

import (
	"errors"
	"fmt"
	"io"
	"os"
)

// ErrTooLarge is a file of more bytes than it may have.
var ErrTooLarge = errors.New("it is too large")

// ReadFile reads a regular file of at most max bytes.
func ReadFile(path string, max int) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	switch {
	case err != nil:
		return nil, err
	case info.IsDir():
		return nil, fmt.Errorf("read %q: it is a directory", path)
	case !info.Mode().IsRegular():
		return nil, fmt.Errorf("read %q: not a file", path)
	}
	data, err := io.ReadAll(io.LimitReader(f, int64(max)+1))
	if err != nil {
		return nil, fmt.Errorf("read %q: %w", path, err)
	}
	if len(data) > max {
		return nil, fmt.Errorf("read %q: %w: more than %d bytes", path, ErrTooLarge, max)
	}
	return data, nil
}
