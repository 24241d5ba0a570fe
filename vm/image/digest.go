package image

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"

	"github.com/ovsactl/ovsactl/vm/image/guest"
	"github.com/ovsactl/ovsactl/vm/image/internal/initrd"
)

// builderVersion changes when the builder makes another image from the same
// inputs.
const builderVersion = "1"

// Digest identifies a build by its inputs: two builds with the same digest are
// interchangeable. It is "sha256:" and lower-case hex.
func (b Build) Digest() string {
	h := sha256.New()
	packages := slices.Sorted(slices.Values(b.Packages))
	tree := guest.Digest()
	fields := []string{
		"ovsactl-image-build", builderVersion, b.Suite, b.Mirror,
		strings.Join(slices.Compact(packages), ","), fmt.Sprint(b.Size), hex.EncodeToString(tree[:]),
		strings.Join(basePackages(b.Suite), ","), kernelArgs, string(initrd.Digest()),
	}
	if len(b.Disabled) > 0 {
		fields = append(fields, strings.Join(b.Disabled, ","))
	}
	for _, field := range fields {
		fmt.Fprintf(h, "%d:%s", len(field), field)
	}
	return "sha256:" + hex.EncodeToString(h.Sum(nil))
}

var (
	suitePattern   = regexp.MustCompile(`^[a-z][a-z0-9-]{0,31}$`)
	mirrorPattern  = regexp.MustCompile(`^(https?|file|copy)://?[!-~]{1,500}$`)
	unitPattern    = regexp.MustCompile(`^[a-z0-9][a-z0-9@._-]{0,127}$`)
	packagePattern = regexp.MustCompile(`^[a-z0-9][a-z0-9+.-]{0,127}$`)
	sumPattern     = regexp.MustCompile(`^[0-9a-f]{64}$`)
)

// check refuses what must not reach a program's arguments.
func (b Build) check() error {
	if !suitePattern.MatchString(b.Suite) {
		return fmt.Errorf("%q is not a suite's name", b.Suite)
	}
	if b.Mirror != "" && !mirrorPattern.MatchString(b.Mirror) {
		return fmt.Errorf("mirror %q is not an http, https or file URL", b.Mirror)
	}
	for _, p := range b.Packages {
		if !packagePattern.MatchString(p) {
			return fmt.Errorf("%q is not a package's name", p)
		}
	}
	for _, u := range b.Disabled {
		if !unitPattern.MatchString(u) {
			return fmt.Errorf("%q is not a unit's name", u)
		}
	}
	return nil
}

func (s Source) check() error {
	n := 0
	for _, set := range []bool{s.Build != nil, s.URL != "", s.File != ""} {
		if set {
			n++
		}
	}
	switch {
	case n != 1:
		return errors.New("an image needs exactly one of build, source and file")
	case s.SHA256 != "" && !sumPattern.MatchString(s.SHA256):
		return fmt.Errorf("%q is not a SHA-256 checksum: 64 lower-case hexadecimal digits", s.SHA256)
	case s.URL != "" && s.SHA256 == "":
		return errors.New("a source needs its sha256")
	case s.Build != nil:
		return s.Build.check()
	}
	return nil
}

// hexOf is the part of a digest that names its directory.
func hexOf(digest string) string { return strings.TrimPrefix(digest, "sha256:") }

// sumReader returns the SHA-256 of all that r has, in lower-case hex.
func sumReader(r io.Reader) (string, error) {
	h := sha256.New()
	if _, err := io.Copy(h, r); err != nil {
		return "", err
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}
