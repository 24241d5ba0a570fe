// Package client is a guest's side of licensing/exchange: it proves the guest's
// state to a licence server, gets the key of a licensed model for that, and keeps
// the lease that it comes with. Everything stays in memory.
package client

import (
	"context"
	"crypto/ecdsa"
	"crypto/x509"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/ovsactl/ovsactl/internal/sleep"
	"github.com/ovsactl/ovsactl/licensing"
	"github.com/ovsactl/ovsactl/licensing/exchange"
	"github.com/ovsactl/ovsactl/vtpm/guest"
)

// Errors of a proof and of a lease. A server's refusal is an *exchange.Problem.
var (
	ErrPin   = errors.New("the server's key is none that the licence pins")
	ErrLease = errors.New("the server's lease is not good")
	ErrOver  = errors.New("the lease is over")
)

// Customer is whose licence it is.
type Customer struct {
	Primary     *ecdsa.PrivateKey // opens the customer's half
	Secondary   *ecdsa.PrivateKey // proves possession
	Certificate *x509.Certificate // of the secondary key
}

// Options are how a guest proves itself.
type Options struct {
	TPM      *guest.TPM // open for the whole proof, and used by nobody else
	EventLog []byte     // the firmware's; may be nil
	Host     guest.Host // vouches for each proof; servers do not take one without
	Now      func() time.Time
	Rounds   int                 // through the licence's servers; 0: 5
	Progress func(string, error) // told of each server that is asked, and why not that one; may be nil
	Renewed  func(error)         // told of each renewal, and why it was none; may be nil
}

func (o *Options) defaults() {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Rounds == 0 {
		o.Rounds = 5
	}
	if o.Progress == nil {
		o.Progress = func(string, error) {}
	}
	if o.Renewed == nil {
		o.Renewed = func(error) {}
	}
}

// Acquire proves the guest's state to the licence's servers, in their order, until
// one gives the key. Servers that cannot answer are asked again, after longer and
// longer waits.
func Acquire(ctx context.Context, l licensing.Licence, c Customer, o Options) (*Lease, error) {
	o.defaults()
	half, err := l.OpenCustomerHalf(c.Primary)
	if err != nil {
		return nil, fmt.Errorf("acquire licence %s: %w", l.LicenceGUID, err)
	}
	defer half.Wipe()
	var errs []error
	for round := range o.Rounds {
		errs = nil
		again := false
		for _, server := range l.Servers {
			o.Progress(server.Address, nil)
			p := proof{licence: l, customer: c, options: o, half: half}
			lease, err := p.run(ctx, server)
			if err == nil {
				return lease, nil
			}
			o.Progress(server.Address, err)
			errs = append(errs, fmt.Errorf("%s: %w", server.Address, err))
			again = again || Transient(err)
		}
		if !again {
			break
		}
		if err := sleep.For(ctx, pause(round)); err != nil {
			errs = append(errs, err)
			break
		}
	}
	return nil, fmt.Errorf("acquire licence %s: %w", l.LicenceGUID, errors.Join(errs...))
}

// Transient says of an error of Acquire, Renew or Keep that the same server may do it
// later: none has refused it.
func Transient(err error) bool {
	var problem *exchange.Problem
	if errors.As(err, &problem) {
		switch problem.Code {
		case exchange.Unavailable, exchange.SlowDown, exchange.ChallengeOver:
			return true
		}
		return false
	}
	return !errors.Is(err, ErrPin) && !errors.Is(err, ErrLease) && !errors.Is(err, errLocal)
}

const (
	firstPause = 500 * time.Millisecond
	maxPause   = 30 * time.Second
)

// pause is how long to wait after so many failures: twice as long each time, and
// never as long as everybody else.
func pause(failures int) time.Duration {
	d := maxPause
	if failures < 6 {
		d = min(maxPause, firstPause<<failures)
	}
	return d/2 + rand.N(d/2)
}
