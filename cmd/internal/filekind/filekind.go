// Package filekind reads our files, and says what a file is that is not what
// somebody took it for.
package filekind

import (
	"bytes"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/ovsactl/ovsactl/cmd/internal/guestcli"
	"github.com/ovsactl/ovsactl/licensing"
	"github.com/ovsactl/ovsactl/licensing/model"
)

// maxHead is how much of a file is looked at: a document, whole.
const maxHead = licensing.MaxDocument + 1

// Of says what the start of a file shows it to be, as in "a licence"; "" for what
// is none of ours.
func Of(head []byte) string {
	trimmed := bytes.TrimSpace(head)
	switch {
	case len(trimmed) == 0:
		return "an empty file"
	case model.IsModel(head):
		return "an encrypted model"
	}
	if kind, err := licensing.KindOf(head); err == nil {
		return Document(kind)
	}
	if _, err := licensing.ReadKeyStoreInfo(head); err == nil {
		return "a key store"
	}
	if block, _ := pem.Decode(head); block != nil {
		switch {
		case block.Type == "CERTIFICATE":
			return "a certificate"
		case block.Type == "CERTIFICATE REQUEST":
			return "a certificate request"
		case strings.HasSuffix(block.Type, "PRIVATE KEY"):
			return "a private key"
		}
	}
	return ""
}

// Document is what a kind of document is called.
func Document(kind licensing.Kind) string {
	switch kind {
	case licensing.KindMasterLicence:
		return "a master licence"
	case licensing.KindConfig:
		return "a licence configuration"
	case licensing.KindTCB:
		return "a reference TCB"
	case licensing.KindLicence:
		return "a licence"
	case licensing.KindLease:
		return "a lease"
	case licensing.KindModel:
		return "a model's manifest"
	}
	return "a document"
}

// wrong is an error whose text says all there is to say.
type wrong struct {
	text string
	err  error
}

func (w *wrong) Error() string { return w.text }
func (w *wrong) Unwrap() error { return w.err }

// Wrong is the error of a file that was to be something, as in "a licence", and
// could not be read as that because of err.
func Wrong(path, want string, err error) error {
	what := Of(head(path))
	switch what {
	case "":
		return &wrong{fmt.Sprintf("%q is not %s, or it is damaged", path, want), err}
	case want:
		return &wrong{fmt.Sprintf("%q is %s that is damaged, or of another version", path, want), err}
	}
	return &wrong{fmt.Sprintf("%q is %s, and not %s", path, what, want), err}
}

// ReadDocument reads a document whose signature fits, and returns its file's bytes,
// too.
func ReadDocument[D licensing.Document](path string) (signed *licensing.Signed[D], file []byte, err error) {
	var want D
	file, err = guestcli.ReadFile(path, licensing.MaxDocument)
	if err == nil {
		if signed, err = licensing.Verify[D](file); err == nil {
			return signed, file, nil
		}
		if !errors.Is(err, licensing.ErrFormat) && !errors.Is(err, licensing.ErrKind) {
			return nil, nil, fmt.Errorf("%q: %w", path, err)
		}
	} else if !errors.Is(err, guestcli.ErrTooLarge) {
		return nil, nil, err
	}
	return nil, nil, Wrong(path, Document(want.Kind()), err)
}

func head(path string) []byte {
	f, err := os.Open(path)
	if err != nil {
		return nil
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxHead))
	if err != nil {
		return nil
	}
	return data
}
