//go:build e2e

package e2e

import (
	"fmt"
	"path/filepath"
	"testing"

	"github.com/ovsactl/ovsactl/internal/need"
	"github.com/ovsactl/ovsactl/vm/image/imagetest"
)

// roles is what the story's manifest varies.
type roles struct {
	isvImage      string
	runtimeMemory string
	runtimeVTPM   string
	runtimeExtra  string // more of the runtime's block
	more          string // more blocks
}

func first() roles {
	return roles{isvImage: "image.cloud", runtimeMemory: "1GiB", runtimeVTPM: "crb"}
}

// manifest renders the two roles of the story: one from a stock cloud image,
// one from an image of ours.
func (h *host) manifest(r roles) string {
	return fmt.Sprintf(`
host "local" {
  data_dir = %q
}

image "cloud" {
  file = %q
}

image "debian" {
  build { suite = "trixie" }
}

role "isv_dev" {
  image  = %s
  cpus   = 1
  memory = "1GiB"
  disk   = "4GiB"
  network "default" { address = "192.168.122.20" }
  vtpm {}
  component "developer" {}
  component "license_server" {}
}

role "runtime" {
  image  = image.debian
  cpus   = 1
  memory = %q
  disk   = "4GiB"
  network "default" { address = "192.168.122.30" }
  vtpm { model = %q }
  component "model_hosting" {}
%s}
%s`, h.dataDir, h.cloud, r.isvImage, r.runtimeMemory, r.runtimeVTPM, r.runtimeExtra, r.more)
}

// images makes what a lab cannot: it has no way to a package mirror.
func (h *host) images(tb testing.TB) {
	tb.Helper()
	need.Programs(tb, imagetest.Needs()...)
	var err error
	if h.cloud, err = imagetest.StockCloud(tb.Context(), filepath.Join(h.dataDir, "cache", "images")); err != nil {
		tb.Fatal(err)
	}
	manifest := h.write(tb, "images.hcl", h.manifest(first()))
	if r := h.outside(tb, "image", "build", manifest); r.code != 0 {
		tb.Fatalf("image build: %v", r)
	}
}
