package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"
)

// Result is one benchmark.
type Result struct {
	Package string
	Name    string // without "Benchmark" and the number of processors
	Runs    int
	Values  map[string]float64 // by unit: "ns/op", "peak-B"
}

// Results are in the order in which they ran.
type Results []Result

// Value is a figure of the named benchmark.
func (rs Results) Value(name, unit string) (float64, bool) {
	for _, r := range rs {
		if r.Name == name {
			v, ok := r.Values[unit]
			return v, ok
		}
	}
	return 0, false
}

const (
	maxInput = 1 << 20
	maxLine  = 64 << 10
)

// Parse reads the output of `go test -bench`, of many packages. Output with a
// failure in it is an error, as is a benchmark that was measured twice: a page
// over half of a run would mislead.
func Parse(r io.Reader) (Results, error) {
	limited := &io.LimitedReader{R: r, N: maxInput + 1}
	scan := bufio.NewScanner(limited)
	scan.Buffer(nil, maxLine)
	var all Results
	pkg, seen := "", make(map[string]bool)
	for n := 1; scan.Scan(); n++ {
		line := scan.Text()
		switch {
		case strings.HasPrefix(line, "FAIL"), strings.HasPrefix(strings.TrimSpace(line), "--- FAIL"), strings.HasPrefix(line, "panic:"):
			return nil, fmt.Errorf("line %d: the run failed: %q", n, line)
		case strings.HasPrefix(line, "pkg: "):
			pkg = strings.TrimSpace(strings.TrimPrefix(line, "pkg: "))
		case strings.HasPrefix(line, "Benchmark"):
			r, ok, err := parseLine(line)
			if err != nil {
				return nil, fmt.Errorf("line %d: %w", n, err)
			}
			if !ok {
				continue
			}
			if r.Package = pkg; seen[pkg+" "+r.Name] {
				return nil, fmt.Errorf("line %d: %q of %s is there twice", n, r.Name, pkg)
			}
			seen[pkg+" "+r.Name] = true
			all = append(all, r)
		}
	}
	if limited.N <= 0 {
		return nil, fmt.Errorf("more than %d bytes", maxInput)
	}
	if err := scan.Err(); err != nil {
		return nil, err
	}
	if len(all) == 0 {
		return nil, errors.New("no benchmark in it")
	}
	return all, nil
}

// parseLine reads "BenchmarkName-2  5  12.3 ns/op  4 B/op". A line with nothing
// but a name is no result: the benchmark said something before it ended.
func parseLine(line string) (Result, bool, error) {
	fields := strings.Fields(line)
	if len(fields) < 2 {
		return Result{}, false, nil
	}
	runs, err := strconv.Atoi(fields[1])
	if err != nil {
		return Result{}, false, nil //nolint:nilerr // prose, and no result
	}
	r := Result{Name: baseName(fields[0]), Runs: runs, Values: make(map[string]float64)}
	if r.Name == "" || runs < 1 || len(fields)%2 != 0 || len(fields) < 4 {
		return Result{}, false, fmt.Errorf("not a benchmark's result: %q", line)
	}
	for i := 2; i < len(fields); i += 2 {
		v, err := strconv.ParseFloat(fields[i], 64)
		if err != nil || math.IsInf(v, 0) || math.IsNaN(v) {
			return Result{}, false, fmt.Errorf("not a figure: %q", fields[i])
		}
		r.Values[fields[i+1]] = v
	}
	return r, true, nil
}

// baseName drops "Benchmark" and the number of processors that testing appends.
func baseName(name string) string {
	name = strings.TrimPrefix(name, "Benchmark")
	if i := strings.LastIndexByte(name, '-'); i > 0 {
		if _, err := strconv.ParseUint(name[i+1:], 10, 16); err == nil {
			return name[:i]
		}
	}
	return name
}
