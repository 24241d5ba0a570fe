package component

import "path/filepath"

// CheckDynamic checks a program that is to be linked with a guest's C library.
func CheckDynamic(path string) error {
	_, err := programFile(filepath.Dir(path), filepath.Base(path), checkDynamic)
	return err
}

// Newer compares versions.
func Newer(a, b string) bool { return newer(a, b) }
