package licenseserver

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"time"

	"github.com/ovsactl/ovsactl/cmd/internal/guestcli"
	"github.com/ovsactl/ovsactl/internal/atomicfile"
	"github.com/ovsactl/ovsactl/internal/hint"
	"github.com/ovsactl/ovsactl/internal/visible"
	"github.com/ovsactl/ovsactl/licensing"
	"github.com/ovsactl/ovsactl/licensing/pki"
)

// defaultSubject is the guide's.
const defaultSubject = "/C=IN/CN=localhost"

func certCommands(run binder) []guestcli.Command {
	flags := []guestcli.Flag{
		dirFlag(),
		{Name: "subj", Arg: "/TYPE=VALUE...", Help: "whose certificates they are", Default: defaultSubject},
		{Name: "force", Help: "replace what is there; never the key-release key"},
		jsonFlag(),
	}
	installed := guestcli.Command{Flags: flags, Operands: "CERTIFICATE [KEY]", Kind: guestcli.File, Min: 1, Max: 2}
	install, installNew := installed, installed
	install.Name, install.Summary, install.Run = "install-cert", "use a certificate that an authority made", run(withOptions(installCert))
	installNew.Name, installNew.Summary, installNew.Run = "install-new-cert", "take a certificate that will follow, beside the one in use", run(withOptions(installNewCert))
	return []guestcli.Command{
		{Name: "gencert", Summary: "make the server's keys, a request for an authority, and a self-signed certificate", Flags: flags, Run: run(withOptions(genCert))},
		{Name: "gencert-new", Summary: "make the key and certificate that will follow, beside those in use",
			Flags: append(slices.Clone(flags), guestcli.Flag{Name: "release", Help: "another key-release key, too; licences that are sold for both files serve before and after"}),
			Run:   run(withOptions(genNewCert))},
		install, installNew,
		{Name: "provision-new-cert", Summary: "use the certificate that was to follow, when all stored licences name it",
			Flags: []guestcli.Flag{dirFlag(), dbFlag(), {Name: "force", Help: "also where guests of stored licences will not know this server any more"}, jsonFlag()},
			Run: run(func(ctx context.Context, s session) error {
				if err := s.nobodyStranded(ctx); err != nil {
					return s.certDir().explain(err)
				}
				return s.certDir().explain(provision(s, s.certDir()))
			})},
		resealCommand(run),
	}
}

func withOptions(run func(s session, o options) error) action {
	return func(_ context.Context, s session) error {
		subject, err := pki.ParseSubject(s.Text("subj"))
		if err != nil {
			return err
		}
		dir := s.certDir()
		if info, err := os.Stat(string(dir)); err != nil {
			return fmt.Errorf("read directory: %w", err)
		} else if !info.IsDir() {
			return fmt.Errorf("%q is not a directory", string(dir))
		}
		release := releaseKey
		if s.Has("release") {
			release = nextRelease
		}
		return dir.explain(run(s, options{dir, subject, s.Has("force"), s.Now(), release}))
	}
}

// options are what the certificate commands work with.
type options struct {
	certDir
	subject pki.Subject
	force   bool
	now     time.Time
	release string // file of the key-release key that a certificate goes with
}

// genCert makes all that a new server needs. What a run that was killed made is
// used; server.crt, which comes last, tells that nothing is missing.
func genCert(s session, o options) error {
	there, err := o.has(bundle)
	if err != nil {
		return err
	}
	if there {
		if !o.force {
			return hint.Wrap(fmt.Errorf("write %q: %w", o.path(bundle), fs.ErrExist),
				"licences name this certificate's key; gencert-new and provision-new-cert replace it without breaking them, -force at once")
		}
		if _, err := o.next(); err != nil {
			return err
		}
		return provision(s, o.certDir)
	}
	cert, err := o.generate(tlsKey, tlsRequest, bundle)
	if err != nil {
		return err
	}
	return o.tell(s, bundle, cert)
}

// genNewCert makes what provision-new-cert will put into use. The key-release key
// stays: licences are sold for it.
func genNewCert(s session, o options) error {
	cert, err := o.next()
	if err != nil {
		return err
	}
	return o.tell(s, nextBundle, cert)
}

func (o options) next() (*x509.Certificate, error) {
	if err := o.forgetNext(); err != nil {
		return nil, err
	}
	return o.generate(nextKey, nextRequest, nextBundle)
}

// generate makes a key, its request and its self-signed certificate.
func (o options) generate(keyName, requestName, bundleName string) (*x509.Certificate, error) {
	if _, err := o.keyOrNew(o.release); err != nil {
		return nil, err
	}
	key, err := o.keyOrNew(keyName)
	if err != nil {
		return nil, err
	}
	request, err := pki.Request(key, o.subject)
	if err != nil {
		return nil, err
	}
	if err := atomicfile.WriteOwned(o.path(requestName), request, public); err != nil {
		return nil, err
	}
	cert, err := pki.SelfSigned(key, o.subject, x509.KeyUsageDigitalSignature, o.now)
	if err != nil {
		return nil, err
	}
	return cert, o.writeBundle(bundleName, cert, o.release, o.subject, o.now)
}

// installed is a certificate that a command put in its place, for programs.
type installed struct {
	File    string    `json:"file"`
	Subject string    `json:"subject"`
	Pin     string    `json:"pin"`
	Ends    time.Time `json:"ends"`
}

func (o options) tell(s session, name string, cert *x509.Certificate) error {
	end := licensing.CertificateEnd(cert).UTC()
	return s.Report(installed{o.path(name), cert.Subject.String(), licensing.PinOf(cert).String(), end},
		"%s: %s, pin %s, used until %s", o.path(name), visible.Line(cert.Subject.String()), licensing.PinOf(cert), day(end))
}

// forgetNext makes way for another future certificate, where -force says so. One
// that is incomplete is finished instead.
func (o options) forgetNext() error {
	there, err := o.has(nextBundle)
	if err != nil || !there {
		return err
	}
	if !o.force {
		return hint.Wrap(fmt.Errorf("write %q: %w", o.path(nextBundle), fs.ErrExist), "licences may name it already; provision-new-cert puts it into use, -force replaces it")
	}
	if busy, err := o.nextInUse(); err != nil {
		return err
	} else if busy { // a provision-new-cert that was killed: its key must not go
		return hint.Wrap(errors.New("the future certificate is in use already"), "finish it first: license_server provision-new-cert")
	}
	return o.remove(nextBundle, nextRequest, nextKey, nextRelease)
}

// nextInUse tells whether server.crt is the future certificate already.
func (d certDir) nextInUse() (bool, error) {
	next, _, err := d.bundle(nextBundle)
	if err != nil {
		return false, err
	}
	current, _, err := d.bundle(bundle)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil && current.Equal(next), err
}

// remove removes files that may be gone, in this order.
func (d certDir) remove(names ...string) error {
	for _, name := range names {
		if err := os.Remove(d.path(name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if err := atomicfile.SyncDir(string(d)); err != nil {
			return err
		}
	}
	return nil
}

// installCert uses another certificate. With the key that the server has, it is
// as good as the one before; with another one, sold licences do not name it.
func installCert(s session, o options) error {
	cert, err := readServerCert(s.Operands[0], o.now)
	if err != nil {
		return err
	}
	if len(s.Operands) == 2 {
		return o.installWithKey(s, cert, s.Operands[1])
	}
	key, err := o.key(tlsKey)
	if err != nil {
		return err
	}
	if !key.PublicKey.Equal(cert.PublicKey) {
		return hint.Wrap(fmt.Errorf("%q is not for the key in %q", s.Operands[0], o.path(tlsKey)), "name its key, too, or have %s signed", o.path(tlsRequest))
	}
	if err := o.writeBundle(bundle, cert, o.release, o.subject, o.now); err != nil {
		return err
	}
	return o.tell(s, bundle, cert)
}

// installWithKey uses a certificate and its key, by way of the future ones:
// there is no moment without a pair that fits.
func (o options) installWithKey(s session, cert *x509.Certificate, keyPath string) error {
	key, err := keyOf(cert, keyPath)
	if err != nil {
		return err
	}
	there, err := o.has(tlsKey)
	if err != nil {
		return err
	}
	if there && !o.force {
		current, err := o.key(tlsKey)
		if err != nil {
			return err
		}
		if !current.Equal(key) {
			return hint.Wrap(fmt.Errorf("write %q: %w", o.path(tlsKey), fs.ErrExist),
				"licences name its certificate; install-new-cert and provision-new-cert replace it without breaking them, -force at once")
		}
	}
	if err := o.stageNext(cert, key); err != nil {
		return err
	}
	return provision(s, o.certDir)
}

// stageNext makes a certificate and its key the future ones.
func (o options) stageNext(cert *x509.Certificate, key *ecdsa.PrivateKey) error {
	if err := o.forgetNext(); err != nil {
		return err
	}
	if have, err := o.key(nextKey); err == nil && !have.Equal(key) { // of a run that was killed
		if err := o.remove(nextKey); err != nil {
			return err
		}
	}
	if err := o.create(nextKey, key); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return o.writeBundle(nextBundle, cert, o.release, o.subject, o.now)
}

func installNewCert(s session, o options) error {
	cert, err := readServerCert(s.Operands[0], o.now)
	if err != nil {
		return err
	}
	if len(s.Operands) == 2 {
		key, err := keyOf(cert, s.Operands[1])
		if err != nil {
			return err
		}
		if err := o.stageNext(cert, key); err != nil {
			return err
		}
		return o.tell(s, nextBundle, cert)
	}
	key, err := o.key(nextKey)
	if err != nil {
		return hint.Wrap(err, "name its key, too, or make one: license_server gencert-new")
	}
	if !key.PublicKey.Equal(cert.PublicKey) {
		return hint.Wrap(fmt.Errorf("%q is not for the key in %q", s.Operands[0], o.path(nextKey)), "name its key, too, or have %s signed", o.path(nextRequest))
	}
	if err := o.writeBundle(nextBundle, cert, o.release, o.subject, o.now); err != nil {
		return err
	}
	return o.tell(s, nextBundle, cert)
}

// provision puts the future certificate into use, or finishes doing so: first
// server.crt, whose key is then in server_future.key, then the key. A server that
// starts between finds a pair that fits.
func provision(s session, d certDir) error {
	cert, release, err := d.bundle(nextBundle)
	if err != nil {
		return hint.Wrap(err, "make the certificate that is to follow: license_server gencert-new, or install-new-cert")
	}
	if err := d.checkNextKey(cert); err != nil {
		return err
	}
	text, err := os.ReadFile(d.path(nextBundle))
	if err != nil {
		return err
	}
	if have, err := os.ReadFile(d.path(bundle)); err != nil || !bytes.Equal(have, text) {
		if err := atomicfile.WriteOwned(d.path(bundle), text, public); err != nil {
			return err
		}
	}
	for _, step := range [][2]string{{nextKey, tlsKey}, {nextRequest, tlsRequest}} {
		if err := os.Rename(d.path(step[0]), d.path(step[1])); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if err := atomicfile.SyncDir(string(d)); err != nil {
			return err
		}
	}
	if err := d.nextRelease(release); err != nil {
		return err
	}
	if err := d.remove(nextBundle); err != nil {
		return err
	}
	s.Say("a server that runs takes it at its next reload: systemctl reload license_server")
	return options{certDir: d}.tell(s, bundle, cert)
}

// nextRelease puts the key-release key of a certificate into its place, when it is
// the future one. The one before stays under another name: licences were sold for it.
func (d certDir) nextRelease(cert *x509.Certificate) error {
	next, err := d.key(nextRelease)
	if errors.Is(err, fs.ErrNotExist) || err == nil && !next.PublicKey.Equal(cert.PublicKey) {
		return nil
	}
	if err != nil {
		return err
	}
	old, err := d.key(releaseKey)
	if err == nil && !old.PublicKey.Equal(cert.PublicKey) {
		spki, err := x509.MarshalPKIXPublicKey(&old.PublicKey)
		if err != nil {
			return err
		}
		sum := sha256.Sum256(spki)
		if err := os.Rename(d.path(releaseKey), d.path(fmt.Sprintf("release-%x.key", sum[:8]))); err != nil {
			return err
		}
	} else if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := os.Rename(d.path(nextRelease), d.path(releaseKey)); err != nil {
		return err
	}
	return atomicfile.SyncDir(string(d))
}

// checkNextKey refuses to go on without the future certificate's key, which is
// where it was made, or in use already.
func (d certDir) checkNextKey(cert *x509.Certificate) error {
	key, err := d.key(nextKey)
	if errors.Is(err, fs.ErrNotExist) {
		key, err = d.key(tlsKey)
	}
	if err != nil {
		return err
	}
	if !key.PublicKey.Equal(cert.PublicKey) {
		return fmt.Errorf("%q is not for the key beside it", d.path(nextBundle))
	}
	return nil
}

// readServerCert reads the first certificate of a file. Its issuers are left out:
// clients know the server by its key.
func readServerCert(path string, now time.Time) (*x509.Certificate, error) {
	certs, err := pki.ReadFile(path)
	if err != nil {
		return nil, err
	}
	if err := checkServerCert(certs[0], now); err != nil {
		return nil, fmt.Errorf("%q: %w", path, err)
	}
	return certs[0], nil
}

func keyOf(cert *x509.Certificate, path string) (*ecdsa.PrivateKey, error) {
	key, err := readKey(path)
	if err != nil {
		return nil, err
	}
	if !key.PublicKey.Equal(cert.PublicKey) {
		return nil, fmt.Errorf("%q is not the certificate's key", path)
	}
	return key, nil
}
