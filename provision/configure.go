package provision

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/ovsactl/ovsactl/internal/component"
	"github.com/ovsactl/ovsactl/internal/hint"
	"github.com/ovsactl/ovsactl/internal/visible"
	"github.com/ovsactl/ovsactl/roles"
	"github.com/ovsactl/ovsactl/templates"
)

// configureDir is where a guest unpacks a component's files, for root and ovsa.
const configureDir = "/var/lib/ovsactl/configure"

// configure brings what a component's arguments say into the guest.
func (s *roleRun) configure(ctx context.Context, c roles.Component) error {
	of, ok := serviceOf(c)
	if !ok {
		return nil
	}
	files, err := guestFiles(c)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, c.Timeout, fmt.Errorf("not done within %s", c.Timeout))
	defer cancel()
	argv := []string{"sudo", "-n", "--", "sh", "-c", templates.ConfigureScript, "ovsactl-configure", configureDir, of.unit, of.program}
	for i, f := range files {
		argv = append(argv, f.kind, strconv.Itoa(i), f.owner, "0644", f.target)
	}
	stream, out := io.Pipe()
	sent := make(chan error, 1)
	go func() {
		err := sendFiles(ctx, out, files, s.progress("role."+s.plan.Role+"/components"), "configure "+c.Name)
		out.CloseWithError(err)
		sent <- err
	}()
	var errs tail
	err = s.guest.Run(ctx, argv, stream, io.Discard, &errs)
	stream.CloseWithError(errNobodyReads)
	if sendErr := <-sent; sendErr != nil && !errors.Is(sendErr, errNobodyReads) {
		err = sendErr
	}
	switch {
	case ctx.Err() != nil:
		err = context.Cause(ctx)
	case err == nil:
		return nil
	case errs.String() != "":
		err = fmt.Errorf("%w: %s", err, errs.String())
	}
	return hint.Wrap(fmt.Errorf("component %q: configure: %w", c.Name, err), "ovsactl exec %s -- sudo journalctl -u %s", s.plan.Role, of.unit)
}

// sendFiles writes files as an archive, in which they have numbers for names.
func sendFiles(ctx context.Context, to io.Writer, files []guestFile, progress func(string, int64, int64), stage string) error {
	archive := tar.NewWriter(to)
	var done int64
	for i, f := range files {
		if f.kind == isRemoved {
			continue
		}
		err := func() error {
			content, size, err := f.open()
			if err != nil {
				return err
			}
			defer content.Close()
			h := &tar.Header{Typeflag: tar.TypeReg, Name: strconv.Itoa(i), Mode: 0o644, Size: size, ModTime: time.Unix(0, 0), Format: tar.FormatPAX}
			if err := archive.WriteHeader(h); err != nil {
				return err
			}
			_, err = io.Copy(archive, content)
			done += size
			progress(stage, done, 0)
			return errors.Join(err, context.Cause(ctx))
		}()
		if err != nil {
			return fmt.Errorf("send %q: %w", f.target, err)
		}
	}
	end := &tar.Header{Typeflag: tar.TypeReg, Name: component.BundleEnd, Mode: 0o600, ModTime: time.Unix(0, 0), Format: tar.FormatPAX}
	return errors.Join(archive.WriteHeader(end), archive.Close())
}

// ready waits until the units of the role's components are ready, and says what they
// say of themselves.
func (s *roleRun) ready(ctx context.Context) error {
	for _, c := range s.plan.role.Components {
		if of, ok := serviceOf(c); ok {
			if err := s.await(ctx, c, of); err != nil {
				return fmt.Errorf("component %q: %w", c.Name, err)
			}
		}
	}
	return nil
}

func (s *roleRun) await(ctx context.Context, c roles.Component, of service) error {
	id := "role." + s.plan.Role + "/ready"
	// The guest's own time is shorter: it has the last words.
	ctx, cancel := context.WithTimeoutCause(ctx, c.Timeout+30*time.Second, fmt.Errorf("%s says nothing within %s", of.unit, c.Timeout))
	defer cancel()
	argv := []string{"sudo", "-n", "--", "sh", "-c", templates.ReadyScript, "ovsactl-ready", of.unit, strconv.Itoa(int(c.Timeout.Seconds()))}
	var errs tail
	w := &waiting{tell: func(line string) { s.progress(id)(c.Name+": "+line, 0, 0) }}
	err := s.guest.Run(ctx, argv, strings.NewReader(""), w, &errs)
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	state, text, _ := strings.Cut(w.last, " ")
	if err != nil || !slices.Contains([]string{"active", "skipped", "disabled"}, state) {
		if err == nil {
			err = fmt.Errorf("the guest says %q", w.last)
		}
		if errs.String() != "" {
			err = fmt.Errorf("%s is %s: %s", of.unit, state, errs.String())
		}
		return hint.Wrap(err, "ovsactl exec %s -- sudo journalctl -u %s", s.plan.Role, of.unit)
	}
	s.emit(Event{Kind: Note, Step: id, Text: c.Name + ": " + readiness(c, state, text)})
	return nil
}

// readiness is what a component is, in a line.
func readiness(c roles.Component, state, text string) string {
	switch {
	case state == "disabled":
		return "disabled in the guest"
	case state == "skipped":
		return "no models yet"
	case text != "":
		return text
	case c.Port != 0:
		return fmt.Sprintf("ready on :%d", c.Port)
	}
	return "ready"
}

// waiting follows what a guest says while it waits.
type waiting struct {
	tell func(string)
	line []byte
	last string // fit for a terminal
}

func (w *waiting) Write(p []byte) (int, error) {
	for _, c := range p {
		switch {
		case c == '\n':
			w.last = strings.TrimSpace(visible.Text(string(w.line)))
			w.line = w.line[:0]
			w.tell(w.last)
		case len(w.line) < maxLine:
			w.line = append(w.line, c)
		}
	}
	return len(p), nil
}
