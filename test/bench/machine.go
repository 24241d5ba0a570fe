package main

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"regexp"
	"runtime"
	"strconv"
	"strings"

	"github.com/ovsactl/ovsactl/internal/buildinfo"
	"github.com/ovsactl/ovsactl/internal/run"
)

// Machine is where the benchmarks ran.
type Machine struct {
	CPU     string
	Cores   int
	Memory  uint64 // bytes
	Virtual bool   // itself a guest
	Kernel  string
	Distro  string
	Ovsactl string
	Go      string
	QEMU    string // empty: not installed; likewise the others
	Libvirt string
	SWTPM   string
}

// Describe looks at this machine.
func Describe(ctx context.Context) (Machine, error) {
	m := Machine{Cores: runtime.NumCPU(), Ovsactl: buildinfo.Version(), Go: strings.TrimPrefix(runtime.Version(), "go")}
	cpu, err := keyed("/proc/cpuinfo", ":")
	if err != nil {
		return m, err
	}
	m.CPU, m.Virtual = cpu["model name"], strings.Contains(" "+cpu["flags"]+" ", " hypervisor ")
	memory, err := keyed("/proc/meminfo", ":")
	if err != nil {
		return m, err
	}
	kib, err := strconv.ParseUint(strings.TrimSuffix(memory["MemTotal"], " kB"), 10, 54)
	if err != nil {
		return m, fmt.Errorf("read memory size: %w", err)
	}
	m.Memory = kib << 10
	system, err := keyed("/etc/os-release", "=")
	if err != nil {
		return m, err
	}
	m.Distro = strings.Trim(system["PRETTY_NAME"], `"`)
	kernel, err := os.ReadFile("/proc/sys/kernel/osrelease")
	if err != nil {
		return m, err
	}
	m.Kernel = strings.TrimSpace(string(kernel))
	m.QEMU = version(ctx, "qemu-system-x86_64")
	m.Libvirt = version(ctx, "libvirtd")
	m.SWTPM = version(ctx, "swtpm")
	return m, nil
}

// keyed reads lines of keys and values; the first of a key counts.
func keyed(path, separator string) (map[string]string, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	values := make(map[string]string)
	scan := bufio.NewScanner(f)
	for scan.Scan() {
		k, v, ok := strings.Cut(scan.Text(), separator)
		if k = strings.TrimSpace(k); ok && values[k] == "" {
			values[k] = strings.TrimSpace(v)
		}
	}
	return values, scan.Err()
}

var number = regexp.MustCompile(`\d+(\.\d+)+`)

// version is what a program says that it is, or empty where there is none.
func version(ctx context.Context, program string) string {
	out, err := run.Cmd{Path: program, Args: []string{"--version"}}.Output(ctx)
	if err != nil {
		return ""
	}
	return number.FindString(string(out))
}
