package image

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/ovsactl/ovsactl/internal/atomicfile"
	"github.com/ovsactl/ovsactl/internal/hint"
)

const (
	maxRedirects = 10
	// idleAttempts is how often in a row a transfer may fail without having
	// brought a byte.
	idleAttempts = 4
)

func defaultClient() *http.Client {
	return &http.Client{CheckRedirect: func(req *http.Request, via []*http.Request) error {
		switch {
		case len(via) >= maxRedirects:
			return permanent{fmt.Errorf("more than %d redirects", maxRedirects)}
		case via[0].URL.Scheme == "https" && req.URL.Scheme != "https":
			return permanent{errors.New("redirected from https to plain http")}
		}
		return nil
	}}
}

// transfer is one file on its way from a server to a part file, which outlives
// this process when it is killed. The holder of the image's lock owns it.
type transfer struct {
	cache    *Cache
	url      *url.URL
	part     string
	progress Progress
	resumed  bool // some of the part is from an earlier response
}

// resumeState is kept beside the part file.
type resumeState struct {
	URL       string
	Validator string // ETag or Last-Modified for If-Range; "" when there was none
}

// permanent is a failure that trying again does not change.
type permanent struct{ error }

func (p permanent) Unwrap() error { return p.error }

// download gets u, whose content must have the SHA-256 sum, to the path to.
func (c *Cache) download(ctx context.Context, u *url.URL, sum, to string, progress Progress) error {
	dir := filepath.Join(c.dir, "partial")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return writeHint(err)
	}
	t := &transfer{cache: c, url: u, part: filepath.Join(dir, sum+".part"), progress: progress}
	for again := true; ; again = false {
		if err := t.complete(ctx); err != nil {
			return fmt.Errorf("download %s: %w", u.Redacted(), err)
		}
		err := verify(ctx, t.part, sum, progress)
		var wrong *mismatch
		switch {
		case err == nil:
			if err := os.Rename(t.part, to); err != nil {
				return err
			}
			t.discard()
			return nil
		case !errors.As(err, &wrong):
			return err
		}
		t.discard()
		if !again || !t.resumed {
			return fmt.Errorf("download %s: %w", u.Redacted(), err)
		}
		// Two versions of the file may have been joined: once more, from the start.
		t.resumed = false
	}
}

// complete tries until the part file has all of the content.
func (t *transfer) complete(ctx context.Context) error {
	for idle := 0; ; {
		n, err := t.attempt(ctx)
		if n > 0 {
			idle = 0
		}
		idle++
		var fatal permanent
		switch {
		case err == nil:
			return nil
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case errors.As(err, &fatal):
			return err
		case idle >= idleAttempts:
			return hint.Wrap(err, "%d tries in a row brought nothing; what has arrived is kept, the next run goes on from there", idle)
		}
		t.progress(fmt.Sprintf("download interrupted (%v), trying again", err), 0, 0)
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(min(t.cache.opts.Stall/60, time.Second) << idle):
		}
	}
}

// attempt makes one request and returns how many bytes it brought.
func (t *transfer) attempt(ctx context.Context) (int64, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	stall := time.AfterFunc(t.cache.opts.Stall, func() {
		cancel(fmt.Errorf("nothing arrived for %v", t.cache.opts.Stall))
	})
	defer stall.Stop()

	f, err := os.OpenFile(t.part, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return 0, permanent{writeHint(err)}
	}
	defer f.Close()
	resp, offset, err := t.request(ctx, f)
	if err != nil {
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		return 0, err
	}
	if resp == nil {
		return 0, nil // all of it was there
	}
	defer resp.Body.Close()
	total := int64(0)
	if resp.ContentLength >= 0 {
		total = offset + resp.ContentLength
	}
	if err := t.admit(total, offset); err != nil {
		return 0, permanent{err}
	}
	w := &sparseFile{f: f, off: offset}
	limit := t.cache.opts.MaxSize - offset
	n, err := io.Copy(w, &meter{ctx: ctx, r: io.LimitReader(resp.Body, limit+1), report: func(n int64) {
		stall.Reset(t.cache.opts.Stall)
		t.progress("download", offset+n, total)
	}})
	switch {
	case ctx.Err() != nil:
		return n, context.Cause(ctx)
	case errors.Is(err, syscall.ENOSPC):
		return n, permanent{hint.Wrap(err, "make room in %q, or free old images: ovsactl image prune; what has arrived is kept", t.cache.dir)}
	case err != nil:
		return n, err
	case n > limit:
		return n, permanent{fmt.Errorf("more than the limit of %d bytes", t.cache.opts.MaxSize)}
	}
	return n, w.finish()
}

// admit refuses a file that is too large for the limit or the disk.
func (t *transfer) admit(total, offset int64) error {
	if total > t.cache.opts.MaxSize {
		return fmt.Errorf("%d bytes, more than the limit of %d", total, t.cache.opts.MaxSize)
	}
	return checkSpace(t.cache.dir, total-offset)
}

// request asks for what f does not have yet and leaves f at the offset where
// the response's body goes. A nil response means that nothing is missing.
func (t *transfer) request(ctx context.Context, f *os.File) (*http.Response, int64, error) {
	info, err := f.Stat()
	if err != nil {
		return nil, 0, err
	}
	offset := info.Size()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, t.url.String(), nil)
	if err != nil {
		return nil, 0, permanent{err}
	}
	req.Header.Set("Accept-Encoding", "identity")
	if offset > 0 {
		state := t.state()
		if state.URL != t.url.String() {
			state.Validator = "" // another server's: its checksum decides in the end
		}
		req.Header.Set("Range", fmt.Sprintf("bytes=%d-", offset))
		if state.Validator != "" {
			req.Header.Set("If-Range", state.Validator)
		}
	}
	resp, err := t.cache.opts.Client.Do(req)
	if err != nil {
		return nil, 0, explainDial(err, t.url)
	}
	keep, err := t.accept(resp, f, offset)
	if err != nil || keep < 0 {
		resp.Body.Close()
		return nil, 0, err
	}
	return resp, keep, nil
}

// accept decides by the status where the body goes: behind what f has, or over
// it. -1 means that f is complete.
func (t *transfer) accept(resp *http.Response, f *os.File, offset int64) (int64, error) {
	switch {
	case resp.StatusCode == http.StatusPartialContent && offset > 0:
		var from, to int64
		if n, _ := fmt.Sscanf(resp.Header.Get("Content-Range"), "bytes %d-%d/", &from, &to); n != 2 || from != offset {
			return 0, errors.Join(errors.New("the server answered with another range"), f.Truncate(0))
		}
		t.resumed = true
		return offset, nil
	case resp.StatusCode == http.StatusOK:
		if err := f.Truncate(0); err != nil {
			return 0, permanent{err}
		}
		return 0, t.remember(resp)
	case resp.StatusCode == http.StatusRequestedRangeNotSatisfiable && offset > 0:
		if resp.Header.Get("Content-Range") == fmt.Sprintf("bytes */%d", offset) {
			t.resumed = true
			return -1, nil
		}
		return 0, errors.Join(errors.New("the file on the server is shorter now"), f.Truncate(0))
	case resp.StatusCode >= 500, resp.StatusCode == http.StatusTooManyRequests, resp.StatusCode == http.StatusRequestTimeout:
		return 0, fmt.Errorf("the server answers %s", resp.Status)
	}
	return 0, permanent{hint.Wrap(fmt.Errorf("the server answers %s", resp.Status), "check the image's `source`")}
}

func (t *transfer) statePath() string { return strings.TrimSuffix(t.part, ".part") + ".json" }

// remember keeps what proves later that the rest belongs to the same file.
func (t *transfer) remember(resp *http.Response) error {
	state := resumeState{URL: t.url.String(), Validator: resp.Header.Get("ETag")}
	if state.Validator == "" || strings.HasPrefix(state.Validator, "W/") { // weak ones do not do
		state.Validator = resp.Header.Get("Last-Modified")
	}
	data, err := json.Marshal(state)
	if err != nil {
		return err
	}
	// The URL can hold a password: 0600.
	return atomicfile.WriteFile(t.statePath(), data, 0o600)
}

// state reads it back; a missing or broken one says nothing.
func (t *transfer) state() resumeState {
	var s resumeState
	data, err := os.ReadFile(t.statePath())
	if err != nil || json.Unmarshal(data, &s) != nil {
		return resumeState{}
	}
	return s
}

// discard removes what is only good for resuming.
func (t *transfer) discard() {
	os.Remove(t.part)
	os.Remove(t.statePath())
}

// explainDial adds what to do when the server cannot be reached.
func explainDial(err error, u *url.URL) error {
	var ue *url.Error
	if errors.As(err, &ue) {
		err = ue.Err // the caller names the URL, without its password
	}
	var cert *tls.CertificateVerificationError
	if errors.As(err, &cert) {
		return permanent{err}
	}
	return hint.Wrap(err, "is %s reachable from here? Behind a proxy set https_proxy; in a lab, fetch the image before it starts: ovsactl image build", u.Host)
}
