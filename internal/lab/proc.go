package lab

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strconv"
)

// startTime is when process pid started, in ticks since boot: with the pid it
// names a process for good.
func startTime(pid int) (uint64, error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	return parseStartTime(data)
}

// parseStartTime takes field 22 of proc_pid_stat(5). The second field is a name
// in parentheses that may hold anything, so counting starts after the last ")".
// A zombie's time does not count: it has ended.
func parseStartTime(stat []byte) (uint64, error) {
	end := bytes.LastIndexByte(stat, ')')
	fields := bytes.Fields(stat[end+1:])
	if end < 0 || len(fields) < 20 {
		return 0, errors.New("malformed process status")
	}
	if s := fields[0][0]; s == 'Z' || s == 'X' {
		return 0, errors.New("process has ended")
	}
	return strconv.ParseUint(string(fields[19]), 10, 64)
}
