// Package licensing is the language that an ISV, its customers and a licence
// server share: the signed documents, how a model's key is wrapped and split,
// how long things are valid, and the key store that holds a party's keys.
//
// Each document is a [Document]; [Sign] makes its file and [Verify] reads it. A
// file proves who signed it and nothing else: whether that signer is to be
// believed is decided by whoever calls Verify, against what they trust.
//
// A model's key is released and not checked. [MasterLicence] holds it for the ISV
// alone. A [Licence] holds it in two halves, one for the customer and one for the
// licence server, and either is of no use without the other: see [Split].
package licensing

import (
	"errors"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Kind is the type of a document. It is in the protected header and in the signed
// payload, so that no kind can pass for another.
type Kind string

// The kinds of documents.
const (
	KindMasterLicence Kind = "ovsa-master-licence"
	KindConfig        Kind = "ovsa-licence-config"
	KindTCB           Kind = "ovsa-tcb"
	KindLicence       Kind = "ovsa-licence"
	KindModel         Kind = "ovsa-model" // the manifest in a model's container
)

// Limits of texts and files.
const (
	MaxDocument = 1 << 20 // bytes of a signed document
	MaxModel    = 8 << 20 // bytes of a model's signed manifest
	MaxName     = 256     // bytes of a name
	MaxVersion  = 32      // bytes of a version
	MaxServers  = 16      // licence servers of a licence
	MaxTCBs     = 16      // reference TCBs of a licence
)

// Why a document is refused. Callers tell them apart with errors.Is.
var (
	ErrFormat    = errors.New("not a document of this version")
	ErrKind      = errors.New("another kind of document")
	ErrSignature = errors.New("the signature does not fit")
	ErrSigner    = errors.New("signed by someone else")
	ErrUnwrap    = errors.New("the key was wrapped for another key, or for another document")
)

// GUID names a licence or a model: 8-4-4-4-12 hex digits in lower case.
type GUID string

// ParseGUID parses a GUID in upper or lower case.
func ParseGUID(s string) (GUID, error) {
	g := GUID(strings.ToLower(s))
	if err := g.check(); err != nil {
		return "", fmt.Errorf("parse GUID %q: %w", s, err)
	}
	return g, nil
}

func (g GUID) check() error {
	if len(g) != 36 {
		return errors.New("want 8-4-4-4-12 hex digits")
	}
	for i, c := range []byte(g) {
		dash := i == 8 || i == 13 || i == 18 || i == 23
		if dash != (c == '-') || !dash && !strings.ContainsRune("0123456789abcdef", rune(c)) {
			return errors.New("want 8-4-4-4-12 hex digits")
		}
	}
	return nil
}

// checkText accepts what can be printed on one line of a terminal and means
// there what it shows: no control characters and no change of direction.
func checkText(what, s string, max int) error {
	switch {
	case s == "":
		return fmt.Errorf("no %s", what)
	case len(s) > max:
		return fmt.Errorf("a %s of %d bytes: at most %d", what, len(s), max)
	case !utf8.ValidString(s):
		return fmt.Errorf("the %s is not UTF-8", what)
	}
	for _, r := range s {
		if !unicode.IsPrint(r) {
			return fmt.Errorf("the %s contains %U, which does not print", what, r)
		}
	}
	return nil
}
