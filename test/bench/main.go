// Command bench renders what `go test -bench` printed as docs/benchmarks.md. It
// reads the files that are its arguments, or stdin without any, and writes to
// stdout or, whole or not at all, to the file of -o. See `make bench`, and
// `make bench-license` for the page of -licensing, and `make bench-hosting` for
// that of -hosting.
package main

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"time"

	"github.com/ovsactl/ovsactl/internal/atomicfile"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := render(ctx, os.Args[1:], os.Stdin, os.Stdout); err != nil {
		fmt.Fprintf(os.Stderr, "bench: error: %v\n", err)
		stop()
		os.Exit(1)
	}
}

func render(ctx context.Context, args []string, stdin io.Reader, stdout io.Writer) error {
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	out := flags.String("o", "", "write to this `file` instead of stdout")
	licensing := flags.Bool("licensing", false, "write the page of make bench-license")
	hosting := flags.Bool("hosting", false, "write the page of make bench-hosting")
	if err := flags.Parse(args); err != nil {
		return err
	}
	in := []io.Reader{stdin}
	if flags.NArg() > 0 {
		in = nil
	}
	for _, path := range flags.Args() {
		f, err := os.Open(path)
		if err != nil {
			return fmt.Errorf("read benchmarks: %w", err)
		}
		defer f.Close()
		in = append(in, f)
	}
	results, err := Parse(io.MultiReader(in...))
	if err != nil {
		return fmt.Errorf("read benchmarks: %w", err)
	}
	m, err := Describe(ctx)
	if err != nil {
		return fmt.Errorf("describe machine: %w", err)
	}
	var page bytes.Buffer
	switch {
	case *licensing:
		RenderLicensing(&page, m, time.Now(), results)
	case *hosting:
		RenderHosting(&page, m, time.Now(), results)
	default:
		Render(&page, m, time.Now(), results)
	}
	if *out == "" {
		_, err = stdout.Write(page.Bytes())
		return err
	}
	return atomicfile.WriteFile(*out, page.Bytes(), 0o644)
}
