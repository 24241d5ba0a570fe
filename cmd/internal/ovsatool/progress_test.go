package ovsatool

import (
	"slices"
	"testing"
)

// The counts of files that follow each other are one.
func TestCounted(t *testing.T) {
	var told []int64
	add := counted(15, func(done int64) { told = append(told, done) })
	for _, c := range []struct {
		file  int
		bytes int64
	}{{0, 4}, {0, 8}, {1, 0}, {2, 5}, {2, 9}} {
		add(c.file, c.bytes)
	}
	if want := []int64{4, 8, 8, 13, 15}; !slices.Equal(told, want) { // it grew on the way
		t.Errorf("told %v, want %v", told, want)
	}
}
