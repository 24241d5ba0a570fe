package vm

import (
	"fmt"
	"regexp"
	"strings"

	"github.com/ovsactl/ovsactl/vm/image"
)

var (
	digestPattern = regexp.MustCompile(`^sha256:[0-9a-f]{64}$`)
	volumePattern = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.-]{0,127}$`)
)

// BaseVolume names the volume of a base image by the image's digest, so that a
// name never means two contents.
func BaseVolume(img image.Image) (string, error) {
	if !digestPattern.MatchString(img.Digest) {
		return "", fmt.Errorf("image %q: digest %q is not sha256:HEX", img.Name, img.Digest)
	}
	if img.Format != "qcow2" && img.Format != "raw" {
		return "", fmt.Errorf("image %q: format %q is not qcow2 or raw", img.Name, img.Format)
	}
	extension := ".qcow2"
	if img.Format == "raw" {
		extension = ".img"
	}
	return "base-" + strings.TrimPrefix(img.Digest, "sha256:")[:16] + extension, nil
}

// checkVolume refuses names that could leave the pool's directory.
func checkVolume(name string) error {
	if !volumePattern.MatchString(name) {
		return fmt.Errorf("volume name %q is not letters, digits, '_', '.' and '-'", name)
	}
	return nil
}
