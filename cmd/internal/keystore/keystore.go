package keystore

import (
	"bufio"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/term"

	"github.com/ovsactl/ovsactl/cmd/internal/filekind"
	"github.com/ovsactl/ovsactl/cmd/internal/guestcli"
	"github.com/ovsactl/ovsactl/cmd/internal/outfiles"
	"github.com/ovsactl/ovsactl/cmd/internal/tpmseal"
	"github.com/ovsactl/ovsactl/internal/atomicfile"
	"github.com/ovsactl/ovsactl/internal/hint"
	"github.com/ovsactl/ovsactl/internal/lock"
	"github.com/ovsactl/ovsactl/licensing"
)

// Ports are what a key store needs of the machine.
type Ports struct {
	Now func() time.Time
	// NewSealer returns the TPM at an address, to seal under the values of PCRs; of
	// none, under any.
	NewSealer func(address string, pcrs []int) licensing.Sealer
	// Secret asks whoever is at the terminal for a secret, without an echo. It
	// reads a line of in where there is no terminal.
	Secret func(in io.Reader, prompt string) (string, error)
}

// Machine are the Ports of the machine that this runs on.
func Machine() Ports {
	return Ports{
		Now:       time.Now,
		NewSealer: func(address string, pcrs []int) licensing.Sealer { return tpmseal.Sealer{Address: address, PCRs: pcrs} },
		Secret:    askSecret,
	}
}

// Session is a command line that uses a key store.
type Session struct {
	*guestcli.Call
	Ports
}

// Open opens the key store of -k.
func (s Session) Open(ctx context.Context) (*licensing.KeyStore, error) {
	return s.OpenFile(ctx, s.Text("k"))
}

// OpenFile opens the key store in a file.
func (s Session) OpenFile(ctx context.Context, path string) (*licensing.KeyStore, error) {
	file, err := guestcli.ReadFile(path, licensing.MaxKeyStore)
	if errors.Is(err, guestcli.ErrTooLarge) {
		return nil, filekind.Wrong(path, "a key store", err)
	}
	if err != nil {
		return nil, fmt.Errorf("open key store: %w", err)
	}
	sealer, err := s.Sealer()
	if err != nil {
		return nil, err
	}
	ks, err := licensing.ParseKeyStore(ctx, file, sealer)
	if errors.Is(err, licensing.ErrFormat) {
		return nil, filekind.Wrong(path, "a key store", err)
	}
	if err != nil {
		return nil, fmt.Errorf("%q: %w", path, err)
	}
	s.WarnInsecure(path, ks.Protection())
	return ks, nil
}

// WarnInsecure says so where whoever has the key store has its keys.
func (s Session) WarnInsecure(path string, p licensing.Protection) {
	if p == licensing.InsecureSoftware {
		s.Say("warning: %q is %s: whoever has the file has its keys", path, p)
	}
}

// Update opens the key store of -k, changes it and writes it, with no other
// process doing so meanwhile.
func (s Session) Update(ctx context.Context, open func() (*licensing.KeyStore, error), change func(*licensing.KeyStore) error) error {
	path := s.Text("k")
	if _, err := os.Stat(path); err != nil {
		return fmt.Errorf("open key store: %w", err)
	}
	held, err := lock.Wait(ctx, filepath.Join(filepath.Dir(path), "."+filepath.Base(path)+".lock"), fmt.Sprintf("pid %d (ovsatool)", os.Getpid()),
		func(b *lock.Busy) { s.Say("waiting: %v", b) })
	if err != nil {
		return err
	}
	defer held.Release()
	ks, err := open()
	if err != nil {
		return err
	}
	defer ks.Close()
	if err := change(ks); err != nil {
		return err
	}
	file, err := ks.Marshal()
	if err != nil {
		return err
	}
	return atomicfile.WriteOwned(path, file, outfiles.Mode)
}

// Party is the owner of a key store, whose certificate was verified just now.
type Party struct {
	*licensing.KeyStore
	Chain []*x509.Certificate // the certificate of its primary key, and its issuers
}

// Cert is the certificate of the primary key.
func (p Party) Cert() *x509.Certificate { return p.Chain[0] }

// Party opens the key store of -k and verifies its primary certificate.
func (s Session) Party(ctx context.Context) (Party, error) {
	ks, err := s.Open(ctx)
	if err != nil {
		return Party{}, err
	}
	chain, err := s.Verified(ctx, ks, licensing.Primary)
	if err != nil {
		ks.Close()
		return Party{}, fmt.Errorf("%q: %w", s.Text("k"), err)
	}
	return Party{ks, chain}, nil
}

// Verified returns a stored certificate that is still to be believed, with the
// issuers that the store has.
func (s Session) Verified(ctx context.Context, ks *licensing.KeyStore, slot licensing.Slot) ([]*x509.Certificate, error) {
	chain, err := ks.Certificates(slot)
	if err != nil {
		return nil, err
	}
	v, err := s.Verifier()
	if err != nil {
		return nil, err
	}
	if _, err := v.Verify(ctx, chain); err != nil {
		return nil, err
	}
	return chain, nil
}

// AskPassphrase asks for a key store's recovery passphrase.
func (s Session) AskPassphrase() (licensing.Passphrase, error) {
	text, err := s.Secret(s.Stdin, "Recovery passphrase: ")
	if err != nil {
		return licensing.Passphrase{}, fmt.Errorf("read the recovery passphrase: %w", err)
	}
	pass, err := licensing.ParsePassphrase(text)
	if errors.Is(err, licensing.ErrPassphrase) {
		err = hint.Wrap(err, "it was printed when the key store was made: six groups of five characters")
	}
	return pass, err
}

// maxSecret is how long a line with a secret may be.
const maxSecret = 1 << 10

// askSecret asks at the terminal that in is, and reads a line of in when it is
// none.
func askSecret(in io.Reader, prompt string) (string, error) {
	if f, ok := in.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		fmt.Fprint(os.Stderr, prompt)
		defer fmt.Fprintln(os.Stderr)
		line, err := term.ReadPassword(int(f.Fd()))
		defer clear(line)
		return string(line), err
	}
	if in == nil {
		return "", errors.New("there is neither a terminal nor an input")
	}
	line, err := bufio.NewReader(io.LimitReader(in, maxSecret)).ReadString('\n')
	if err != nil && (!errors.Is(err, io.EOF) || line == "") {
		return "", errors.New("standard input has no line")
	}
	return strings.TrimRight(line, "\r\n"), nil
}
