package roles

import (
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/zclconf/go-cty/cty"
)

// Defaults of a built image.
const (
	defaultSuite     = "trixie"
	defaultImageSize = 4 * GiB
)

var (
	suiteName   = regexp.MustCompile(`^[a-z][a-z0-9-]{0,31}$`)
	packageName = regexp.MustCompile(`^[a-z0-9][a-z0-9+.-]{1,127}$`)
	sha256Text  = regexp.MustCompile(`^[0-9a-fA-F]{64}$`)
)

// decodeImage reads an image block. Its value is what references see.
func (l *loader) decodeImage(n *node) cty.Value {
	img := &Image{Name: n.name, Range: n.at}
	n.image = img
	value := cty.ObjectVal(map[string]cty.Value{"id": cty.StringVal(n.addr()), "name": cty.StringVal(n.name)})
	if n.block == nil {
		img.Build = &ImageBuild{Suite: defaultSuite, Size: defaultImageSize}
		return value
	}
	f := l.open(n.block, []string{"source", "file", "sha256"}, []string{"build", "installer"})
	build, installer := f.single("build"), f.single("installer")
	if installer != nil {
		l.unsupported(installer.DefRange, "installer blocks")
		return value
	}
	ways := 0
	for _, way := range []bool{build != nil, f.has("source"), f.has("file")} {
		if way {
			ways++
		}
	}
	if ways != 1 {
		l.fail(n.block.DefRange, "Unclear image", `An image has exactly one of a build block, "source" (a URL) and "file" (a local disk image).`)
		return value
	}
	img.SHA256 = f.checksum("sha256")
	if build != nil {
		img.Build = l.decodeBuild(build)
		if f.has("sha256") {
			f.fail("sha256", "Unexpected checksum", "A built image has no checksum to compare with: it is known by the digest of its inputs.")
		}
		return value
	}
	if f.has("source") {
		img.Source = f.imageURL("source")
		f.require("sha256", "a download is used only when its checksum is right. The publisher lists it, often in a file named SHA256SUMS.")
	}
	img.File = f.path("file")
	return value
}

func (l *loader) decodeBuild(block *hcl.Block) *ImageBuild {
	f := l.open(block, []string{"suite", "mirror", "packages", "size"}, nil)
	b := &ImageBuild{
		Suite:    f.text("suite", defaultSuite),
		Mirror:   f.text("mirror", ""),
		Packages: f.texts("packages"),
		Size:     f.size("size", defaultImageSize, GiB, 64*TiB),
	}
	if !suiteName.MatchString(b.Suite) {
		f.fail("suite", "Unsuitable value", `A suite is the code name of a release, such as "trixie".`)
	}
	if b.Mirror != "" {
		if u, err := url.Parse(b.Mirror); err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.User != nil {
			f.hideLogin("mirror", b.Mirror)
			f.fail("mirror", "Unsuitable mirror", `A mirror is an http or https URL without a password, such as "https://deb.debian.org/debian".`)
		}
	}
	for _, p := range b.Packages {
		if !packageName.MatchString(p) {
			f.fail("packages", "Invalid package name", fmt.Sprintf("The list holds %q, which cannot be the name of a package.", p))
		}
	}
	slices.Sort(b.Packages)
	b.Packages = slices.Compact(b.Packages)
	f.checkWhole("size", b.Size)
	return b
}

// checksum reads a SHA-256 in hexadecimal.
func (f fields) checksum(name string) string {
	s, ok := f.written(name)
	if !ok {
		return ""
	}
	if !sha256Text.MatchString(s) {
		f.fail(name, "Invalid checksum", fmt.Sprintf("A SHA-256 checksum is 64 hexadecimal digits; this has %d characters.", len(s)))
		return ""
	}
	return strings.ToLower(s)
}

func (f fields) imageURL(name string) string {
	s, ok := f.written(name)
	if !ok {
		return ""
	}
	u, err := url.Parse(s)
	switch {
	case err == nil && u.User != nil:
		f.hideLogin(name, s)
		f.fail(name, "Password in a URL", "URLs are shown in messages, so they cannot hold a user or a password.")
	case err == nil && (u.Scheme == "http" || u.Scheme == "https") && u.Host != "":
		return s
	case err == nil && u.Scheme == "file" && u.Host == "" && strings.HasPrefix(u.Path, "/"):
		return s
	default:
		f.hideLogin(name, s)
		f.fail(name, "Unsuitable source", `A source is an http, https or file URL. For a disk image on this machine:`+"\n\n    file = \"PATH\"")
	}
	return ""
}

// hideLogin keeps what may be a password in a URL out of the quoted source.
func (f fields) hideLogin(name, url string) {
	if strings.Contains(url, "@") {
		f.l.hide(f.at(name))
	}
}

// checkWhole reports a size that is not a number of mebibytes.
func (f fields) checkWhole(name string, size uint64) {
	if size%MiB != 0 {
		f.fail(name, "Invalid size", fmt.Sprintf("The argument %q is a whole number of MiB.", name))
	}
}
