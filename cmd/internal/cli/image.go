package cli

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/ovsactl/ovsactl/internal/hint"
	"github.com/ovsactl/ovsactl/internal/lock"
	"github.com/ovsactl/ovsactl/provision"
	"github.com/ovsactl/ovsactl/roles"
	"github.com/ovsactl/ovsactl/vm"
	"github.com/ovsactl/ovsactl/vm/image"
)

// newImageCommand is `ovsactl image`: the cache of base disk images.
func newImageCommand(env Env) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "image",
		Short: "List, make and remove base images",
		Long: `Base images are built or fetched once and kept under the data directory, by the
digest of what they were made from. Guests have copies: removing an image here
harms none of them, it only has to be made again when it is next needed.`,
	}
	cmd.AddCommand(
		newImageListCommand(env), newImageBuildCommand(env),
		newImageRemoveCommand(env), newImagePruneCommand(env),
	)
	return cmd
}

// openImages opens the image cache of a data directory.
func openImages(env Env, dataDir string) (*image.Cache, error) {
	return image.Open(imagesDir(dataDir), image.Options{
		Holder: fmt.Sprintf("pid %d (ovsactl)", os.Getpid()),
		OnWait: func(b *lock.Busy) {
			holder := cmp.Or(b.Holder, "another process")
			fmt.Fprintf(env.Stderr, "ovsactl: waiting for %s, which is making the same image\n", holder)
		},
	})
}

// images opens the image cache of the host that the flags name.
func (f *hostFlags) images(env Env) (*image.Cache, error) {
	h, err := f.resolve(env)
	if err != nil {
		return nil, err
	}
	return openImages(env, h.DataDir)
}

func imagesDir(dataDir string) string { return filepath.Join(dataDir, "cache", "images") }

func newImageListCommand(env Env) *cobra.Command {
	var host hostFlags
	var asJSON bool
	cmd := &cobra.Command{
		Use:     "ls",
		Aliases: []string{"list"},
		Short:   "List the images in the cache",
		Long: `Lists the base images of the data directory: digest, what each was made from, how
a guest of it gets its first-boot data, size of its disk, and what it takes up.`,
		Example: `  ovsactl image ls
  ovsactl image ls --json | jq -r '.[].digest'`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cache, err := host.images(env)
			if err != nil {
				return err
			}
			entries, err := cache.List(cmd.Context())
			if err != nil {
				return err
			}
			if asJSON {
				return printImagesJSON(env, entries)
			}
			return printImages(env, entries)
		},
	}
	host.register(cmd)
	registerJSON(cmd, &asJSON)
	return cmd
}

// imageView is one image in --json output.
type imageView struct {
	Digest       string `json:"digest"`
	Origin       string `json:"origin"`
	Format       string `json:"format,omitempty"`
	FirstBoot    string `json:"first_boot,omitempty"`
	VirtualBytes uint64 `json:"virtual_bytes"`
	CacheBytes   int64  `json:"cache_bytes"`
	CreatedAt    string `json:"created_at,omitempty"`
	Leftover     bool   `json:"leftover"`
	Problem      string `json:"problem,omitempty"`
}

func printImagesJSON(env Env, entries []image.Entry) error {
	views := make([]imageView, 0, len(entries))
	for _, e := range entries {
		v := imageView{
			Digest: e.Digest, Origin: e.Origin, Format: e.Format, FirstBoot: string(e.FirstBoot),
			VirtualBytes: e.Virtual, CacheBytes: e.Size, Leftover: e.Leftover, Problem: e.Problem,
		}
		if !e.CreatedAt.IsZero() {
			v.CreatedAt = e.CreatedAt.UTC().Format(time.RFC3339)
		}
		views = append(views, v)
	}
	return writeIndented(env.Stdout, views)
}

func printImages(env Env, entries []image.Entry) error {
	if len(entries) == 0 {
		fmt.Fprintln(env.Stderr, "No images. `ovsactl image build` or `ovsactl apply` makes them.")
		return nil
	}
	w := tabwriter.NewWriter(env.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "IMAGE\tFROM\tFIRST BOOT\tDISK\tIN CACHE\tCREATED")
	for _, e := range entries {
		first, disk, created := cmp.Or(string(e.FirstBoot), "-"), "-", "-"
		origin := cmp.Or(e.Origin, "-")
		if e.Problem != "" {
			origin = "damaged"
		}
		if e.Virtual > 0 {
			disk = megabytes(int64(e.Virtual))
		}
		if !e.CreatedAt.IsZero() {
			created = e.CreatedAt.Local().Format("2006-01-02 15:04")
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\n", shortDigest(e.Digest), origin, first, disk, megabytes(e.Size), created)
	}
	return w.Flush()
}

func shortDigest(digest string) string {
	return fmt.Sprintf("%.12s", strings.TrimPrefix(digest, "sha256:"))
}

// megabytes rounds up to whole MiB: sizes are for comparing, not for counting.
func megabytes(n int64) string { return fmt.Sprintf("%d MiB", (n+1<<20-1)>>20) }

func newImageBuildCommand(env Env) *cobra.Command {
	var manifest manifestFlags
	var dataDir string
	var only []string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "build [ROLES.hcl...]",
		Short: "Build or fetch the images of a manifest now",
		Long: `Makes the images that a manifest names, as apply would, and prints each one's
digest and file. Needs a network where one is not in the cache; a later apply
does not.`,
		Example: `  ovsactl image build roles.hcl
  ovsactl image build roles.hcl --only debian`,
		RunE: func(cmd *cobra.Command, args []string) error {
			manifest.files = args
			m, err := loadManifest(cmd.Context(), env, &manifest)
			if err != nil {
				return err
			}
			images, err := selectImages(m, only)
			if err != nil {
				return err
			}
			cache, err := openImages(env, cmp.Or(dataDir, m.Host.DataDir))
			if err != nil {
				return err
			}
			built := []builtJSON{}
			for _, img := range images {
				view := newImageProgress(env, img.Name)
				made, err := cache.Ensure(cmd.Context(), provision.ImageSource(m, img), view.report)
				view.done(err)
				if err != nil {
					return err
				}
				built = append(built, builtJSON{img.Name, made.Digest, made.Path})
				if !asJSON {
					fmt.Fprintf(env.Stdout, "%s\t%s\t%s\n", img.Name, made.Digest, made.Path)
				}
			}
			if asJSON {
				return writeIndented(env.Stdout, built)
			}
			return nil
		},
	}
	manifest.register(cmd)
	cmd.Flags().StringVar(&dataDir, "data-dir", "", "data directory (default that of the manifest's host)")
	cmd.Flags().StringArrayVar(&only, "only", nil, "only the image of this `name`; may be repeated")
	registerJSON(cmd, &asJSON)
	return cmd
}

// builtJSON is one image in image build --json.
type builtJSON struct {
	Name   string `json:"name"`
	Digest string `json:"digest"`
	Path   string `json:"path"`
}

// removedJSON is one image in image rm --json and image prune --json.
type removedJSON struct {
	Digest string `json:"digest"`
	Origin string `json:"origin,omitempty"`
	Bytes  int64  `json:"cache_bytes,omitempty"`
	DryRun bool   `json:"dry_run,omitempty"` // it would have been removed
}

// selectImages returns the manifest's images with these names, or all.
func selectImages(m *roles.Manifest, only []string) ([]roles.Image, error) {
	var names []string
	var images []roles.Image
	for _, img := range m.Images {
		names = append(names, img.Name)
		if len(only) == 0 || slices.Contains(only, img.Name) {
			images = append(images, img)
		}
	}
	for _, name := range only {
		if !slices.Contains(names, name) {
			return nil, usageError(fmt.Sprintf("the manifest has no image %q", name), "it has: "+strings.Join(names, ", "))
		}
	}
	return images, nil
}

func newImageRemoveCommand(env Env) *cobra.Command {
	var host hostFlags
	var asJSON bool
	cmd := &cobra.Command{
		Use:     "rm IMAGE...",
		Short:   "Remove images from the cache",
		Long:    "Removes images, named by the beginning of their digest. Guests keep their disks.",
		Example: "  ovsactl image rm 646625f84b30",
		Args:    cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			cache, err := host.images(env)
			if err != nil {
				return err
			}
			removed := []removedJSON{}
			for _, arg := range args {
				digest, err := cache.Find(cmd.Context(), arg)
				if err != nil {
					return err
				}
				if err := cache.Remove(cmd.Context(), digest); err != nil {
					return err
				}
				removed = append(removed, removedJSON{Digest: digest})
				fmt.Fprintf(env.Stderr, "removed %s\n", shortDigest(digest))
			}
			if asJSON {
				return writeIndented(env.Stdout, removed)
			}
			return nil
		},
	}
	host.register(cmd)
	registerJSON(cmd, &asJSON)
	return cmd
}

func newImagePruneCommand(env Env) *cobra.Command {
	var host hostFlags
	var all, asJSON bool
	var opts image.PruneOptions
	cmd := &cobra.Command{
		Use:   "prune",
		Short: "Remove images that no guest uses, and what interrupted runs left",
		Long: `Removes the images that no guest of this host was made from, and the leftovers of
builds and downloads that were interrupted.`,
		Example: `  ovsactl image prune --dry-run
  ovsactl image prune`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			h, err := host.resolve(env)
			if err != nil {
				return err
			}
			if !all {
				if opts.Keep, err = imagesInUse(cmd, h); err != nil {
					return err
				}
			}
			cache, err := openImages(env, h.DataDir)
			if err != nil {
				return err
			}
			removed, err := cache.Prune(cmd.Context(), opts)
			if asJSON {
				list := []removedJSON{}
				for _, e := range removed {
					list = append(list, removedJSON{e.Digest, e.Origin, e.Size, opts.DryRun})
				}
				return errors.Join(err, writeIndented(env.Stdout, list))
			}
			printPruned(env, removed, opts.DryRun)
			return err
		},
	}
	host.register(cmd)
	cmd.Flags().BoolVar(&opts.DryRun, "dry-run", false, "only say what would be removed")
	cmd.Flags().BoolVar(&all, "all", false, "also images that guests were made from; libvirt is not asked")
	registerJSON(cmd, &asJSON)
	return cmd
}

// imagesInUse returns the digests of the images that the host's guests were
// made from.
func imagesInUse(cmd *cobra.Command, h roles.Host) ([]string, error) {
	hypervisor, err := vm.Open(cmd.Context(), h.URI, vm.Options{DataDir: h.DataDir})
	if err != nil {
		return nil, fmt.Errorf("find the images in use: %w", hint.Wrap(err, "--all prunes without asking libvirt"))
	}
	defer hypervisor.Close()
	domains, err := hypervisor.Domains(cmd.Context())
	if err != nil {
		return nil, fmt.Errorf("find the images in use: %w", err)
	}
	var digests []string
	for _, d := range domains {
		if d.Ours && d.Metadata.Image != "" {
			digests = append(digests, d.Metadata.Image)
		}
	}
	return digests, nil
}

func printPruned(env Env, removed []image.Entry, dryRun bool) {
	verb, total := "removed", int64(0)
	if dryRun {
		verb = "would remove"
	}
	for _, e := range removed {
		total += e.Size
		fmt.Fprintf(env.Stdout, "%s %s (%s, %s)\n", verb, shortDigest(e.Digest), cmp.Or(e.Origin, "damaged"), megabytes(e.Size))
	}
	fmt.Fprintf(env.Stderr, "%s %d, %s\n", verb, len(removed), megabytes(total))
}
