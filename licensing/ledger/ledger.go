// Package ledger is what a licence server remembers: licences, the leases that
// guests hold, revocations, open challenges, and a hash-chained log of every
// decision. It is SQL that SQLite and PostgreSQL both speak; see the packages
// licensing/sqlite and licensing/postgres for how to open one.
//
// Every change is in one transaction with its entry in the log, so that what was
// decided and what was counted cannot differ, whenever the process dies. Changes
// that wait for each other commit together: see batch. Servers on one database give
// leases one after another; renewals and challenges of theirs go on beside each other.
package ledger

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"sync/atomic"
	"time"
)

// Errors of decisions. A caller tells them apart with errors.Is.
var (
	ErrNoLicence  = errors.New("no such licence")
	ErrNoLease    = errors.New("no such lease")
	ErrRevoked    = errors.New("revoked")
	ErrExpired    = errors.New("the licence's time is over")
	ErrExhausted  = errors.New("all instances of the licence are in use")
	ErrConflict   = errors.New("another licence has these GUIDs")
	ErrArchived   = errors.New("the licence is archived")
	ErrInUse      = errors.New("the licence is in use")
	ErrChallenge  = errors.New("the challenge was used, is over, or never was")
	ErrClock      = errors.New("the clock went back")
	ErrRolledBack = errors.New("the guest's TPM is behind what it was")
	ErrCopied     = errors.New("the guest's TPM is a copy")
	ErrNoGuest    = errors.New("no such guest")
	ErrTampered   = errors.New("the audit log was changed")
	ErrUnknown    = errors.New("no entry in the database has this hash")
)

// Type says what a licence limits.
type Type string

const (
	Sale          Type = "Sale"          // nothing
	InstanceLimit Type = "InstanceLimit" // the guests that hold a lease at the same time
	TimeLimit     Type = "TimeLimit"     // until when leases are given
)

// Licence is a customer's licence as its ISV stored it.
type Licence struct {
	GUID, Model string // 8-4-4-4-12, lower case
	Type        Type
	Instances   int       // of an InstanceLimit, at least 1
	NotAfter    time.Time // of a TimeLimit
	Document    []byte    // the .lic file
	Primary     []byte    // the customer's certificates, DER
	Secondary   []byte
	Created     time.Time
	Updated     time.Time
	Archived    time.Time // zero for one that is in use
	Half        []byte    // the server's half, for another key than the document's; nil for none: see Reseal
}

// Lease is the right of one guest to a licence's key for a while.
type Lease struct {
	ID      string // 32 hex digits
	GUID    string // of the licence
	Model   string
	Guest   string // what the guest is known by: hex of its EK's name
	Issued  time.Time
	Expires time.Time
	Ended   time.Time // zero while it is held
}

// Kind is what can be revoked.
type Kind string

const (
	KindLicence  Kind = "licence"  // a licence's GUID
	KindCustomer Kind = "customer" // SHA-256 of a certificate's SPKI, hex
	KindHost     Kind = "host"     // a host id of claims
	KindAK       Kind = "ak"       // the TPM name of a host's attestation key, hex
	KindTCB      Kind = "tcb"      // SHA-256 of a TCB document, hex
	KindGuest    Kind = "guest"    // the TPM name of a guest's endorsement key, hex
)

// Subject is one of the things that a decision is about.
type Subject struct {
	Kind Kind   `json:"kind"`
	ID   string `json:"id"`
}

// Dialect is where the two databases differ.
type Dialect struct {
	Name string
	Blob string // type of a column of bytes
	// Lock is run first in a transaction that changes the schema, "" for nothing.
	Lock string
	// Serial is run first in a transaction that gives leases or changes what they
	// are given by, and has it wait for others that do; "" where all transactions
	// follow each other by themselves.
	Serial string
	// ForUpdate ends a SELECT of a row that the transaction then changes; "" where
	// Serial is.
	ForUpdate string
	// Another says that a transaction failed because of others at the same time, and
	// may go again; nil for never.
	Another func(error) bool
}

// Ledger is one open database. It is safe for concurrent use, PostgreSQL's also
// by several processes on several machines.
type Ledger struct {
	db      *sql.DB
	dialect Dialect
	batch   *batch
	// Renewals and challenges are batches of their own where the database can do
	// several things at once; else they are batch.
	renewals, challenges *batch
	swept                atomic.Int64 // when challenges that were over were removed
}

// New takes an open database, which the ledger closes. Everything fails until
// Migrate has been done, by this process or another.
func New(db *sql.DB, d Dialect) *Ledger {
	l := &Ledger{db: db, dialect: d, batch: newBatch(db, d, d.Serial)}
	l.renewals, l.challenges = l.batch, l.batch
	if d.Serial != "" {
		l.renewals, l.challenges = newBatch(db, d, ""), newBatch(db, d, "")
	}
	return l
}

// Migrate brings the database's schema up to date. A schema that is so already is no
// error, one that is newer than this program is.
func (l *Ledger) Migrate(ctx context.Context) error {
	if err := l.migrate(ctx); err != nil {
		return fmt.Errorf("open ledger: %w", err)
	}
	return nil
}

// Open is New and Migrate. When it fails, the database stays the caller's.
func Open(ctx context.Context, db *sql.DB, d Dialect) (*Ledger, error) {
	l := New(db, d)
	if err := l.Migrate(ctx); err != nil {
		l.end()
		return nil, err
	}
	return l, nil
}

// Close ends what is under way and closes the database.
func (l *Ledger) Close() error {
	l.end()
	return l.db.Close()
}

// end waits for the transactions under way.
func (l *Ledger) end() {
	for _, b := range []*batch{l.batch, l.renewals, l.challenges} {
		b.close()
	}
}

// Check says whether the database answers, and takes what is written to it. It writes
// a challenge that was over before it began.
func (l *Ledger) Check(ctx context.Context) error {
	if _, err := l.db.ExecContext(ctx, `INSERT INTO challenges (id, data, expires) VALUES ('check', $1, 0)
		ON CONFLICT (id) DO UPDATE SET expires = 0`, []byte{}); err != nil {
		return fmt.Errorf("ask ledger: %w", err)
	}
	return nil
}

// stamp is how times are stored: nanoseconds since 1970 UTC, 0 for none.
func stamp(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixNano()
}

func unstamp(n int64) time.Time {
	if n == 0 {
		return time.Time{}
	}
	return time.Unix(0, n).UTC()
}
