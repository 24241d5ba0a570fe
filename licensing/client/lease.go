package client

import (
	"context"
	"crypto/hmac"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/ovsactl/ovsactl/licensing"
	"github.com/ovsactl/ovsactl/licensing/exchange"
)

// Lease is the right to use a licensed model, with the model's key. Close it. It
// is safe for concurrent use.
type Lease struct {
	licence licensing.Licence
	options Options
	server  licensing.Server
	guest   string
	renewal []byte
	key     licensing.Key

	mu       sync.Mutex
	session  *session
	document licensing.Lease
}

// Key is the model's key, which stays the lease's and is wiped by Close.
func (l *Lease) Key() licensing.Key { return l.key }

// Document is the lease as its server signed it, with the end that the last
// renewal gave it.
func (l *Lease) Document() licensing.Lease {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.document
}

// Close wipes the key. The lease goes on until it ends or is given back, see End.
func (l *Lease) Close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.key.Wipe()
	clear(l.renewal)
	l.session.close()
}

// Renew asks the server to let the lease last longer. ErrOver says that it is
// over: to go on takes another Acquire.
func (l *Lease) Renew(ctx context.Context) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	var renewed exchange.Renewed
	if err := l.ask(ctx, exchange.PathRenew, &renewed); err != nil {
		return fmt.Errorf("renew lease %s: %w", l.document.ID, err)
	}
	if err := l.prolong(renewed); err != nil {
		return fmt.Errorf("renew lease %s: %w", l.document.ID, err)
	}
	return nil
}

// prolong takes an end that whoever gave the lease has set.
func (l *Lease) prolong(r exchange.Renewed) error {
	switch {
	case !hmac.Equal(r.MAC, exchange.RenewedMAC(l.renewal, l.document.ID, l.session.exporter, r.Expires)):
		return fmt.Errorf("%w: its new end is not by who gave it", ErrLease)
	case !l.options.Now().Before(r.Expires), r.Expires.After(l.document.RenewUntil):
		return fmt.Errorf("%w: it shall end at %s", ErrLease, r.Expires.Format(time.RFC3339))
	}
	l.document.Expires = r.Expires.UTC()
	return nil
}

// End gives the lease back, so that another guest may have its place at once. One
// that is over is no error.
func (l *Lease) End(ctx context.Context) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.ask(ctx, exchange.PathEnd, &exchange.Nothing{}); err != nil && !errors.Is(err, ErrOver) {
		return fmt.Errorf("end lease %s: %w", l.document.ID, err)
	}
	return nil
}

// Keep renews the lease, about twice as often as needed, until ctx ends, the
// lease is over or the server refuses to go on: ErrOver. A server that does not
// answer is asked until the lease's last moment.
func (l *Lease) Keep(ctx context.Context) error {
	for failures := 0; ; {
		left := l.Document().Expires.Sub(l.options.Now())
		if left <= 0 {
			return fmt.Errorf("keep lease %s: %w", l.Document().ID, ErrOver)
		}
		next := left / 2
		if failures > 0 {
			next = min(pause(failures-1), left)
		}
		if err := wait(ctx, next); err != nil {
			return err
		}
		switch err := l.Renew(ctx); {
		case err == nil:
			failures = 0
		case transient(err) && !errors.Is(err, ErrOver):
			l.options.Progress(l.server.Address, err)
			failures++
		default:
			return err
		}
	}
}

// ask proves on the present connection, or on a new one when that is gone, that
// the lease is this guest's.
func (l *Lease) ask(ctx context.Context, path string, out exchange.Message) error {
	request := func() error {
		return l.session.do(ctx, path, exchange.Renew{
			Lease: l.document.ID, Guest: l.guest,
			MAC: exchange.RenewalMAC(l.renewal, path, l.document.ID, l.session.exporter),
		}, out)
	}
	err := request()
	var problem *exchange.Problem
	if err != nil && !errors.As(err, &problem) && ctx.Err() == nil {
		s, dialErr := dial(ctx, l.server, l.options.Now)
		if dialErr != nil {
			return dialErr
		}
		l.session.close()
		l.session = s
		err = request()
	}
	if errors.As(err, &problem) {
		switch problem.Code {
		case exchange.LeaseOver, exchange.Revoked, exchange.Expired:
			return fmt.Errorf("%w: %w", ErrOver, err)
		}
	}
	return err
}

// verify reads a lease that the server at the other end signed for this guest.
func (l *Lease) verify(file []byte) (licensing.Lease, error) {
	signed, err := licensing.Verify[licensing.Lease](file)
	if err != nil {
		return licensing.Lease{}, fmt.Errorf("%w: %w", ErrLease, err)
	}
	d := signed.Document
	switch {
	case string(licensing.PinOf(signed.Chain[0])) != string(l.session.pin):
		return licensing.Lease{}, fmt.Errorf("%w: signed by %q, not by the server", ErrLease, signed.Chain[0].Subject)
	case d.LicenceGUID != l.licence.LicenceGUID || d.ModelGUID != l.licence.ModelGUID || d.Guest != l.guest:
		return licensing.Lease{}, fmt.Errorf("%w: it is another licence's or guest's", ErrLease)
	case !l.options.Now().Before(d.Expires):
		return licensing.Lease{}, fmt.Errorf("%w: it ended at %s", ErrLease, d.Expires.Format(time.RFC3339))
	}
	return d, nil
}
