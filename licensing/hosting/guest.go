package hosting

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"sync"
	"time"

	"github.com/ovsactl/ovsactl/internal/hint"
	"github.com/ovsactl/ovsactl/licensing"
	"github.com/ovsactl/ovsactl/licensing/client"
	"github.com/ovsactl/ovsactl/licensing/model"
	"github.com/ovsactl/ovsactl/vtpm/guest"
)

// Guest is the guest that this runs in, and gets leases by proofs of its TPM.
type Guest struct {
	TPM  string // see guest.Open
	Host guest.Host
	// KeyStore opens the key store in a file.
	KeyStore func(ctx context.Context, path string) (*licensing.KeyStore, error)
	// Believe says whether a chain is believed now, leaf first.
	Believe func(ctx context.Context, chain []*x509.Certificate) error
	Tally   *Tally       // of proofs and renewals; may be nil
	Log     *slog.Logger // of how long each took; nil: nobody is told

	tpm sync.Mutex // is used by one proof at a time
}

// Errors of a version's files.
var (
	ErrOtherModel = errors.New("the licence is for another model")
	ErrOtherISV   = errors.New("the model is signed by another than the licence")
)

// rounds is how often a licence's servers are asked for one proof. Whoever needs it
// asks again later, and lets others have the TPM meanwhile.
const rounds = 2

// leased is a version with its lease.
type leased struct {
	g       *Guest
	v       Version
	licence licensing.Licence
	file    *os.File
	model   *model.Model

	mu     sync.Mutex
	lease  *client.Lease
	proven time.Time
}

// Acquire implements Licensor. What is wrong with the files is found before the guest
// is proven.
func (g *Guest) Acquire(ctx context.Context, v Version) (_ Licensed, err error) {
	l := &leased{g: g, v: v}
	began := time.Now()
	licence, err := g.licence(ctx, v.Lic)
	if err != nil {
		return nil, err
	}
	l.licence = licence.Document
	if l.file, err = os.Open(v.Dat); err != nil {
		return nil, fmt.Errorf("open model: %w", err)
	}
	defer func() {
		if err != nil {
			l.file.Close()
		}
	}()
	container, err := openModel(ctx, l.file, licence)
	if err != nil {
		return nil, fmt.Errorf("open model %q: %w", v.Dat, err)
	}
	opened := time.Now()
	if err := l.prove(ctx); err != nil {
		return nil, err
	}
	proven := time.Now()
	if l.model, err = container.Unlock(l.lease.Key()); err != nil {
		l.lease.Close()
		return nil, fmt.Errorf("open model %q: %w", v.Dat, err)
	}
	if g.Log != nil {
		g.Log.Info("unlocked", "model", v.Model.Name, "version", v.Number, "open_seconds", opened.Sub(began).Seconds(),
			"proof_seconds", proven.Sub(opened).Seconds(), "unlock_seconds", time.Since(proven).Seconds())
	}
	return l, nil
}

// licence reads a licence whose signer is believed.
func (g *Guest) licence(ctx context.Context, path string) (*licensing.Signed[licensing.Licence], error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("open licence: %w", err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, licensing.MaxDocument+1))
	if err != nil {
		return nil, fmt.Errorf("read licence: %w", err)
	}
	signed, err := licensing.Verify[licensing.Licence](data)
	if err != nil {
		return nil, fmt.Errorf("licence %q: %w", path, err)
	}
	if err := g.Believe(ctx, signed.Chain); err != nil {
		return nil, fmt.Errorf("the signer of licence %q: %w", path, err)
	}
	return signed, nil
}

// openModel opens the model that a licence is for.
func openModel(ctx context.Context, f *os.File, licence *licensing.Signed[licensing.Licence]) (*model.Container, error) {
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	isv := licence.Chain[0].PublicKey
	o := model.Opener{Verify: func(signed []byte) ([]byte, error) {
		manifest, chain, err := licensing.VerifyModel(signed)
		if err != nil {
			return nil, err
		}
		if key, ok := chain[0].PublicKey.(*ecdsa.PublicKey); !ok || !key.Equal(isv) {
			return nil, fmt.Errorf("%w: %q", ErrOtherISV, chain[0].Subject)
		}
		return manifest, nil
	}}
	c, err := o.Open(ctx, f, info.Size())
	if err != nil {
		return nil, err
	}
	if digest := c.Digest(); !bytes.Equal(digest[:], licence.Document.ModelDigest) {
		return nil, hint.Wrap(fmt.Errorf("%w: %s", ErrOtherModel, c.Info().Name), "the ISV sells a licence with the .masterlic that was made with this .dat")
	}
	return c, nil
}

// prove gets a lease, in the place of the one that there is.
func (l *leased) prove(ctx context.Context) error {
	err := l.acquire(ctx)
	if ctx.Err() == nil { // nobody has refused what was given up
		l.g.Tally.proved(l.v, err)
	}
	return err
}

func (l *leased) acquire(ctx context.Context) error {
	ks, err := l.g.KeyStore(ctx, l.v.Model.KeyStore)
	if err != nil {
		return err
	}
	defer ks.Close()
	chain, err := ks.Certificates(licensing.Secondary)
	if err != nil {
		return fmt.Errorf("%q: %w", l.v.Model.KeyStore, err)
	}
	l.g.tpm.Lock()
	defer l.g.tpm.Unlock()
	tpm, err := guest.Open(ctx, l.g.TPM)
	if err != nil {
		return err
	}
	defer tpm.Close()
	log, err := guest.EventLog(l.g.TPM)
	if err != nil {
		return err
	}
	customer := client.Customer{Primary: ks.Key(licensing.Primary), Secondary: ks.Key(licensing.Secondary), Certificate: chain[0]}
	lease, err := client.Acquire(ctx, l.licence, customer, client.Options{TPM: tpm, EventLog: log, Host: l.g.Host, Rounds: rounds, Renewed: func(err error) { l.g.Tally.renewed(l.v, err) }})
	if err != nil {
		return err
	}
	l.mu.Lock()
	old := l.lease
	l.lease, l.proven = lease, time.Now().UTC()
	l.mu.Unlock()
	if old != nil {
		old.Close()
	}
	return nil
}

func (l *leased) current() *client.Lease {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.lease
}

// Model implements Licensed.
func (l *leased) Model() *model.Model { return l.model }

// Lease implements Licensed.
func (l *leased) Lease() (until, proven time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.lease.Document().Expires, l.proven
}

const (
	proofTime = 10 * time.Second // that there is for another proof, at least
	lastProof = time.Second      // before the end that none is tried any more
)

// errProve says that it is time for another proof.
var errProve = errors.New("another proof is needed")

// Keep implements Licensed. The lease is renewed, and before it cannot be any more the
// guest is proven again, which nobody who uses the model notices.
func (l *leased) Keep(ctx context.Context) error {
	var failed error // of the latest proof
	for {
		lease := l.current()
		document := lease.Document()
		term := document.RenewUntil.Sub(document.Issued)
		at := document.RenewUntil.Add(-max(term/10, min(term/2, proofTime)))
		if failed != nil { // half of what is left
			at = time.Now().Add(time.Until(document.RenewUntil) / 2)
		}
		waiting, cancel := context.WithDeadlineCause(ctx, at, errProve)
		err := lease.Keep(waiting)
		cancel()
		switch {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case !errors.Is(err, errProve):
			return err
		case failed != nil && time.Until(document.RenewUntil) < lastProof:
			return fmt.Errorf("%w: it could not be proven again in time: %w", client.ErrOver, failed)
		}
		if failed = l.prove(ctx); failed != nil && !client.Transient(failed) {
			return failed
		}
	}
}

// endTime is how long giving a lease back may take.
const endTime = 3 * time.Second

// Close implements Licensed.
func (l *leased) Close() {
	ctx, cancel := context.WithTimeout(context.Background(), endTime)
	defer cancel()
	lease := l.current()
	lease.End(ctx) // one that cannot be given back ends by itself
	l.model.Close()
	lease.Close()
	l.file.Close()
}

var _ Licensor = (*Guest)(nil)
