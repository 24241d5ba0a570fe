package ledger

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"sync"
)

// maxBatch bounds what one transaction does, and so how long the first waits.
const maxBatch = 256

// maxTries bounds how often a change goes again that was in another's way.
const maxTries = 5

// change is one decision, waiting for its transaction.
type change struct {
	ctx   context.Context
	needs needs
	do    func(*txn) error
	done  chan error // buffered
}

// batch runs changes. All that wait while one transaction commits share the next: a
// disk that syncs a hundred times a second does not limit decisions to that, nor does
// a database that is a network away. None of them has been answered yet, so any order
// will do: see needs.
type batch struct {
	db      *sql.DB
	dialect Dialect
	first   string // is run first in each transaction; "" for nothing
	queue   chan change
	over    chan struct{}
	end     func() // closes over, once
	ended   sync.WaitGroup
}

func newBatch(db *sql.DB, d Dialect, first string) *batch {
	b := &batch{db: db, dialect: d, first: first, queue: make(chan change, maxBatch), over: make(chan struct{})}
	b.end = sync.OnceFunc(func() { close(b.over) })
	b.ended.Go(b.run)
	return b
}

// errClosed is what changes get that come too late.
var errClosed = errors.New("the ledger is closed")

// do has f run in a transaction, and returns when that is committed. When f fails,
// nothing that it did stays; it may run twice then. A *refused is no failure.
func (b *batch) do(ctx context.Context, f func(*txn) error) error {
	return b.doWith(ctx, needs{}, f)
}

// doWith is do for a change that says beforehand what it needs.
func (b *batch) doWith(ctx context.Context, n needs, f func(*txn) error) error {
	c := change{ctx, n, f, make(chan error, 1)}
	select {
	case b.queue <- c:
	case <-b.over:
		return errClosed
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	select {
	case err := <-c.done:
		return err
	case <-b.over:
		b.ended.Wait()
		select {
		case err := <-c.done:
			return err
		default:
			return errClosed
		}
	}
}

// close waits for the transaction under way. What still waits fails.
func (b *batch) close() {
	b.end()
	b.ended.Wait()
}

func (b *batch) run() {
	for {
		var changes []change
		select {
		case <-b.over:
			return
		case c := <-b.queue:
			changes = append(changes, c)
		}
		for len(changes) < maxBatch {
			select {
			case c := <-b.queue:
				changes = append(changes, c)
				continue
			default:
			}
			break
		}
		b.commit(changes)
	}
}

// commit runs changes in one transaction and tells each how it went. When one
// fails, which is rare, nothing of them stays, and each goes again alone: its
// failure takes nothing else with it.
func (b *batch) commit(changes []change) {
	slices.SortStableFunc(changes, func(x, y change) int { return x.needs.turn() - y.needs.turn() })
	results, undone, err := b.try(changes)
	if undone && len(changes) > 1 {
		for _, c := range changes {
			b.commit([]change{c})
		}
		return
	}
	for tries := 1; undone && b.another(err) && tries < maxTries; tries++ {
		results, undone, err = b.try(changes)
	}
	for i, c := range changes {
		if results[i] == nil {
			results[i] = err
		}
		c.done <- results[i]
	}
}

// errMeanwhile says that another transaction changed what this one has read.
var errMeanwhile = errors.New("it was changed meanwhile")

// another says whether a transaction failed only because there was another.
func (b *batch) another(err error) bool {
	return errors.Is(err, errMeanwhile) || b.dialect.Another != nil && b.dialect.Another(err)
}

// try runs changes in one transaction. undone says that one failed before there was
// anything to commit, so that nothing of them stays.
func (b *batch) try(changes []change) (results []error, undone bool, err error) {
	results = make([]error, len(changes))
	err = b.transact(func(t *txn) error {
		undone = true
		if err := t.prepare(changes); err != nil {
			return err
		}
		for i, c := range changes {
			if c.ctx.Err() != nil {
				results[i] = context.Cause(c.ctx) // nobody waits for it
				continue
			}
			if err := t.next(c); err != nil {
				return err
			}
			if results[i] = c.do(t); !decided(results[i]) {
				return results[i]
			}
		}
		if err := t.close(); err != nil {
			return err
		}
		undone = false
		return nil
	})
	return results, undone, err
}

// transact is not cut short by anybody's context: others wait for it, too.
func (b *batch) transact(f func(*txn) error) error {
	ctx := context.Background()
	tx, err := b.db.BeginTx(ctx, nil)
	if err != nil {
		return fmt.Errorf("begin: %w", err)
	}
	defer tx.Rollback()
	if b.first != "" {
		if _, err := tx.ExecContext(ctx, b.first); err != nil {
			return fmt.Errorf("begin: %w", err)
		}
	}
	if err := f(&txn{ctx: ctx, tx: tx, forUpdate: b.dialect.ForUpdate}); err != nil {
		return err
	}
	if err := tx.Commit(); err != nil {
		return fmt.Errorf("commit: %w", err)
	}
	return nil
}

// txn is a transaction.
type txn struct {
	ctx       context.Context
	tx        *sql.Tx
	forUpdate string
	ahead     ahead
	pending   pending
	entries   [][]byte // of the audit log, not written yet
	who       who      // asks for the present change

	// seen is the latest time that a decision was made at, as stored and with those
	// of this transaction; 0 before it was asked for.
	stored, seen int64
}

// next prepares for a change. One that does not say what it needs reads what those
// before it wrote.
func (t *txn) next(c change) error {
	t.who = whoOf(c.ctx)
	if c.needs != (needs{}) {
		return nil
	}
	t.ahead = ahead{}
	return t.flush()
}

// refused is a decision against a request, of which nothing has to be undone.
type refused struct{ reason error }

func (r *refused) Error() string { return r.reason.Error() }
func (r *refused) Unwrap() error { return r.reason }

// decided says whether a change ended in a decision, and not in a failure.
func decided(err error) bool {
	var refusal *refused
	return err == nil || errors.As(err, &refusal)
}
