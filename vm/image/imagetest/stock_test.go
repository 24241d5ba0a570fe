package imagetest

import (
	"os"
	"testing"

	"github.com/ovsactl/ovsactl/internal/need"
	"github.com/ovsactl/ovsactl/vm/image"
)

func TestStockCloudIsAnImage(t *testing.T) {
	if testing.Short() {
		t.Skip("installs packages: a minute")
	}
	need.Programs(t, Needs()...)
	dir := os.Getenv("OVSACTL_TEST_CACHE")
	if dir == "" {
		dir = t.TempDir()
	}
	path, err := StockCloud(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	cache, err := image.Open(t.TempDir(), image.Options{})
	if err != nil {
		t.Fatal(err)
	}
	img, err := cache.Ensure(t.Context(), image.Source{Name: "stock", File: path}, nil)
	if err != nil || img.Virtual != stockSize || img.FirstBoot != image.CloudInit {
		t.Fatalf("%+v, %v", img, err)
	}
	again, err := StockCloud(t.Context(), dir)
	if err != nil || again != path {
		t.Errorf("built again: %q, %v", again, err)
	}
}
