//go:build e2e

package e2e

import (
	"fmt"
	"path/filepath"
	"testing"

	"github.com/ovsactl/ovsactl/vm/image/imagetest"
)

// roles is what the story's manifest varies.
type roles struct {
	runtimeMemory string
	runtimeDisk   string
	runtimeVNC    bool
}

func first() roles { return roles{runtimeMemory: "1GiB", runtimeDisk: "4GiB"} }

// manifest renders the two roles of the story: one from a stock cloud image,
// one from an image of ours.
func (h *host) manifest(r roles) string {
	vnc := ""
	if r.runtimeVNC {
		vnc = "vnc { display = 7 }"
	}
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
  image  = image.cloud
  cpus   = 1
  memory = "1GiB"
  disk   = "4GiB"
  network "default" { address = "192.168.122.20" }
  vtpm {}
  component "developer" {}
}

role "runtime" {
  image  = image.debian
  cpus   = 1
  memory = %q
  disk   = %q
  network "default" { address = "192.168.122.30" }
  vtpm {}
  %s
  component "model_hosting" {}
}
`, h.dataDir, h.cloud, r.runtimeMemory, r.runtimeDisk, vnc)
}

// images makes what a lab cannot: it has no way to a package mirror.
func (h *host) images(tb testing.TB) {
	tb.Helper()
	imagetest.Require(tb, imagetest.Needs()...)
	var err error
	if h.cloud, err = imagetest.StockCloud(tb.Context(), filepath.Join(h.dataDir, "cache", "images")); err != nil {
		tb.Fatal(err)
	}
	manifest := h.write(tb, "images.hcl", h.manifest(first()))
	if r := h.outside(tb, "image", "build", manifest); r.code != 0 {
		tb.Fatalf("image build: %v", r)
	}
}
