package image

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// freeSpace is what the file system of path has left for us.
func freeSpace(path string) (int64, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(path, &st); err != nil {
		return 0, fmt.Errorf("free space of %q: %w", path, err)
	}
	return int64(st.Bavail) * st.Bsize, nil
}

// diskUse is what the file takes on disk, which is less than its size when it
// has holes.
func diskUse(path string) (int64, error) {
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil {
		return 0, fmt.Errorf("size of %q: %w", path, err)
	}
	return st.Blocks * 512, nil
}
