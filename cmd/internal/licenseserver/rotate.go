package licenseserver

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/ovsactl/ovsactl/cmd/internal/guestcli"
	"github.com/ovsactl/ovsactl/internal/hint"
	"github.com/ovsactl/ovsactl/licensing"
	"github.com/ovsactl/ovsactl/licensing/ledger"
)

// maxTold is how many licences are named, where there may be any number.
const maxTold = 20

// nobodyStranded refuses to replace the certificate while stored licences name this
// server by it and do not name the one that follows: their guests would not know the
// server any more. Without a database there are no licences.
func (s session) nobodyStranded(ctx context.Context) error {
	next, _, err := s.certDir().bundle(nextBundle)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // provision has the words for that
	}
	if err != nil {
		return err
	}
	current, _, err := s.certDir().bundle(bundle)
	if errors.Is(err, fs.ErrNotExist) || err == nil && current.Equal(next) {
		return nil // there is none to replace, or that has been done
	}
	if err != nil {
		return err
	}
	if _, err := os.Stat(s.Text("db")); !isPostgres(s.Text("db")) && errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	var stranded []string
	err = s.withDatabase(ctx, func(l *ledger.Ledger) error {
		return s.documents(ctx, l, func(_ ledger.Licence, doc licensing.Licence) error {
			if strands(doc, licensing.PinOf(current), licensing.PinOf(next)) {
				stranded = append(stranded, string(doc.LicenceGUID))
			}
			return nil
		})
	})
	if err != nil || len(stranded) == 0 {
		return err
	}
	for _, guid := range stranded[:min(len(stranded), maxTold)] {
		s.Say("licence %s does not name the certificate that follows", guid)
	}
	if n := len(stranded) - maxTold; n > 0 {
		s.Say("and %d more", n)
	}
	if s.Has("force") {
		s.Say("warning: guests of %d licences will not know this server any more", len(stranded))
		return nil
	}
	return hint.Wrap(fmt.Errorf("guests of %d licences would not know this server any more", len(stranded)),
		"have the ISV name it with ovsatool updatecustlicense, store what that writes, and give it to the customers; -force goes on without them")
}

// strands says whether a licence names a server by its current pin, and not by the
// one that follows.
func strands(doc licensing.Licence, current, next licensing.Pin) bool {
	return slices.ContainsFunc(doc.Servers, func(s licensing.Server) bool {
		knows := func(p licensing.Pin) bool { return bytes.Equal(s.Pin, p) || bytes.Equal(s.FuturePin, p) }
		return knows(current) && !knows(next)
	})
}

// documents calls f with each stored licence that is in use: not archived, and not
// over.
func (s session) documents(ctx context.Context, l *ledger.Ledger, f func(ledger.Licence, licensing.Licence) error) error {
	return reader{session: s, ctx: ctx, ledger: l}.each(func(lic ledger.Licence) error {
		if !lic.Archived.IsZero() || !lic.NotAfter.IsZero() && !s.Now().Before(lic.NotAfter) {
			return nil
		}
		signed, err := licensing.Verify[licensing.Licence](lic.Document)
		if err != nil {
			return fmt.Errorf("stored licence %s: %w", lic.GUID, err)
		}
		return f(lic, signed.Document)
	})
}

func resealCommand(run binder) guestcli.Command {
	return guestcli.Command{
		Name: "reseal", Summary: "wrap the server's halves of stored licences to the present key-release key, so that older ones may go",
		Flags: []guestcli.Flag{dirFlag(), dbFlag(), jsonFlag()},
		Run: run(func(ctx context.Context, s session) error {
			return s.withDatabase(ctx, func(l *ledger.Ledger) error { return s.certDir().explain(s.reseal(ctx, l)) })
		}),
	}
}

// resealed is what reseal did.
type resealed struct {
	Resealed int      `json:"resealed"`
	Current  int      `json:"current"` // were so already
	Lost     []string `json:"lost"`    // licences for which this server has no key
	Unneeded []string `json:"unneeded_keys"`
}

// reseal can be killed anywhere and run again: each licence is done by itself, and
// older keys stay until somebody removes them.
func (s session) reseal(ctx context.Context, l *ledger.Ledger) error {
	d := s.certDir()
	_, release, err := d.bundle(bundle)
	if err != nil {
		return err
	}
	keys, err := d.releaseKeys(release)
	if err != nil {
		return err
	}
	done := resealed{Lost: []string{}, Unneeded: []string{}}
	err = s.documents(ctx, l, func(lic ledger.Licence, doc licensing.Licence) error {
		half, with, err := openHalf(lic, doc, keys)
		if err != nil {
			done.Lost = append(done.Lost, lic.GUID)
			return nil
		}
		defer half.Wipe()
		if with == keys[0] {
			done.Current++
			return nil
		}
		wrapped, err := doc.Reseal(half, &keys[0].PublicKey)
		if err != nil {
			return err
		}
		if err := l.Reseal(ctx, lic, wrapped, s.Now()); err != nil {
			return err
		}
		done.Resealed++
		return nil
	})
	if err != nil {
		return err
	}
	if len(done.Lost) > 0 {
		return hint.Wrap(fmt.Errorf("for %d licences there is no key-release key here: %s", len(done.Lost), done.Lost[0]), "bring their keys back as release-NAME.key, or have them sold again")
	}
	if done.Unneeded, err = filepath.Glob(d.path(oldRelease)); err != nil {
		return err
	}
	if err := s.Report(done, "resealed: %d licences; %d were", done.Resealed, done.Current); err != nil {
		return err
	}
	for _, path := range done.Unneeded {
		s.Say("%q is not needed for new leases: remove it on every server once a lease's longest time (-proof-every) is over", path)
	}
	return nil
}

// openHalf opens the server's half with the first of keys that can.
func openHalf(lic ledger.Licence, doc licensing.Licence, keys []*ecdsa.PrivateKey) (licensing.Key, *ecdsa.PrivateKey, error) {
	for _, key := range keys {
		if half, err := doc.OpenServerHalf(key); err == nil {
			return half, key, nil
		}
		if half, err := doc.OpenResealed(lic.Half, key); err == nil {
			return half, key, nil
		}
	}
	return licensing.Key{}, nil, licensing.ErrUnwrap
}
