package client

import (
	"context"
	"crypto/hmac"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/ovsactl/ovsactl/internal/sleep"
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
	renewal licensing.Key
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
	l.renewal.Wipe()
	l.session.close()
}

// Renew asks the server to let the lease last longer, or another of the licence's
// when that does not answer. ErrOver says that it is
// over: to go on takes another Acquire.
func (l *Lease) Renew(ctx context.Context) error {
	err := l.renew(ctx)
	if ctx.Err() == nil { // nobody has refused what was given up
		l.options.Renewed(err)
	}
	return err
}

func (l *Lease) renew(ctx context.Context) error {
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
	case !hmac.Equal(r.MAC, exchange.RenewedMAC(l.renewal.Bytes(), l.document.ID, l.session.exporter, r.Expires)):
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
		if err := sleep.For(ctx, next); err != nil {
			return err
		}
		switch err := l.Renew(ctx); {
		case err == nil:
			failures = 0
		case Transient(err) && !errors.Is(err, ErrOver):
			failures++
		default:
			return err
		}
	}
}

// ask asks the server that answered last, on the connection that there is or on a
// new one, and while it cannot, the licence's others, in their order: servers that
// have one database know each other's leases. Whoever answers is asked first the
// next time.
func (l *Lease) ask(ctx context.Context, path string, out exchange.Message) error {
	limit := l.patience()
	err := l.request(ctx, limit, l.session, path, out)
	if final(err) {
		return over(err)
	}
	errs := []error{fmt.Errorf("%s: %w", l.server.Address, err)}
	for i, server := range l.order() {
		if ctx.Err() != nil {
			break
		}
		err := l.askAt(ctx, limit, server, path, out)
		var problem *exchange.Problem
		switch {
		case i > 0 && errors.As(err, &problem) && problem.Code == exchange.LeaseOver:
			// It may be one that has another database. The lease's own may come back.
			err = errors.New("it knows no such lease")
		case final(err):
			return over(err)
		}
		l.options.Progress(server.Address, err)
		if i > 0 { // whatever it is: the lease's own server may come back
			err = errors.New(err.Error())
		}
		errs = append(errs, fmt.Errorf("%s: %w", server.Address, err))
	}
	return errors.Join(errs...)
}

// order are the licence's servers, the one that answered last before the others.
func (l *Lease) order() []licensing.Server {
	servers := []licensing.Server{l.server}
	for _, s := range l.licence.Servers {
		if s.Address != l.server.Address {
			servers = append(servers, s)
		}
	}
	return servers
}

const minPatience = time.Second

// patience is how long one server is waited for, so that each of them can be asked
// before the lease is over.
func (l *Lease) patience() time.Duration {
	left := l.document.Expires.Sub(l.options.Now())
	return min(requestTimeout, max(minPatience, left/time.Duration(len(l.licence.Servers)+2)))
}

// askAt asks a server on a connection of its own, which stays when it answers.
func (l *Lease) askAt(ctx context.Context, limit time.Duration, server licensing.Server, path string, out exchange.Message) error {
	dialing, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	s, err := dial(dialing, server, l.options.Now)
	if err != nil {
		return err
	}
	if err := l.request(ctx, limit, s, path, out); err != nil {
		s.close()
		return err
	}
	l.session.close()
	l.session, l.server = s, server
	return nil
}

// request proves on a connection that the lease is this guest's.
func (l *Lease) request(ctx context.Context, limit time.Duration, s *session, path string, out exchange.Message) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	return s.do(ctx, path, exchange.Renew{
		Lease: l.document.ID, Guest: l.guest,
		MAC: exchange.RenewalMAC(l.renewal.Bytes(), path, l.document.ID, s.exporter),
	}, out)
}

// final says that no other server has to be asked: one has answered.
func final(err error) bool {
	var problem *exchange.Problem
	return err == nil || errors.As(err, &problem) && problem.Code != exchange.Unavailable
}

// over tells that a lease has ended from what is only a refusal.
func over(err error) error {
	var problem *exchange.Problem
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
