package ledger

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"sync"
)

// maxBatch bounds what one transaction does, and so how long the first waits.
const maxBatch = 256

// change is one decision, waiting for its transaction.
type change struct {
	ctx  context.Context
	do   func(*txn) error
	done chan error // buffered
}

// batch runs changes in the order in which they come. All that wait while one
// transaction commits share the next: a disk that syncs a hundred times a second
// does not limit decisions to that.
type batch struct {
	db      *sql.DB
	dialect Dialect
	queue   chan change
	over    chan struct{}
	end     func() // closes over, once
	ended   sync.WaitGroup
}

func newBatch(db *sql.DB, d Dialect) *batch {
	b := &batch{db: db, dialect: d, queue: make(chan change, maxBatch), over: make(chan struct{})}
	b.end = sync.OnceFunc(func() { close(b.over) })
	b.ended.Go(b.run)
	return b
}

// errClosed is what changes get that come too late.
var errClosed = errors.New("the ledger is closed")

// do has f run in a transaction, and returns when that is committed. When f fails,
// nothing that it did stays; it may run twice then. A *refused is no failure.
func (b *batch) do(ctx context.Context, f func(*txn) error) error {
	c := change{ctx, f, make(chan error, 1)}
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
	results, failed := make([]error, len(changes)), false
	err := b.transact(func(t *txn) error {
		for i, c := range changes {
			if c.ctx.Err() != nil {
				results[i] = context.Cause(c.ctx) // nobody waits for it
				continue
			}
			t.who = whoOf(c.ctx)
			results[i] = c.do(t)
			if failed = !decided(results[i]); failed {
				return results[i]
			}
		}
		return nil
	})
	if failed && len(changes) > 1 {
		for _, c := range changes {
			b.commit([]change{c})
		}
		return
	}
	for i, c := range changes {
		if results[i] == nil {
			results[i] = err
		}
		c.done <- results[i]
	}
}

// transact is not cut short by anybody's context: others wait for it, too.
func (b *batch) transact(f func(*txn) error) error {
	ctx := context.Background()
	tx, err := b.db.BeginTx(ctx, nil)
	if err != nil {
		return fmt.Errorf("begin: %w", err)
	}
	defer tx.Rollback()
	t := &txn{ctx: ctx, tx: tx}
	if err := t.open(b.dialect.ForUpdate); err != nil {
		return err
	}
	if err := f(t); err != nil {
		return err
	}
	if err := t.close(); err != nil {
		return err
	}
	if err := tx.Commit(); err != nil {
		return fmt.Errorf("commit: %w", err)
	}
	return nil
}

// txn is a transaction, with the end of the audit log in it.
type txn struct {
	ctx     context.Context
	tx      *sql.Tx
	head    head
	was     head
	entries []any // not written yet: numbers, entries and hashes
	who     who   // asks for the present change
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
