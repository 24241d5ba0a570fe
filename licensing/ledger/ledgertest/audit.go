package ledgertest

import (
	"context"
	"encoding/hex"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ovsactl/ovsactl/licensing/ledger"
)

// testRetention: old entries leave the database, and the chain stays whole.
func testRetention(t *testing.T, open func(t *testing.T) *ledger.Ledger) {
	l, ctx := open(t), t.Context()
	store(t, l, licence(1, nil), noon)
	must[ledger.Lease](t)(l.Claim(ctx, claim(1, "a"), noon))
	_, before, err := l.VerifyAudit(ctx, nil)
	if err != nil {
		t.Fatal(err)
	}
	next := noon.AddDate(0, 0, 1)
	must[ledger.Lease](t)(l.Claim(ctx, claim(1, "b"), next))

	var chain ledger.Chain
	archive := func(before time.Time) int64 {
		t.Helper()
		return must[int64](t)(l.ArchiveAudit(ctx, before, chain.Add))
	}
	if last := archive(noon); last != 0 {
		t.Errorf("before the first entry there is entry %d", last)
	}
	last := archive(next)
	if last != 2 {
		t.Fatalf("the last of the first day is entry %d", last)
	}
	if err := l.Joins(ctx, chain); err == nil {
		t.Error("what was not dropped yet joins")
	}
	if err := l.DropAudit(ctx, 3, next); err == nil || !strings.Contains(err.Error(), "entry 3 is not there, or the last") {
		t.Errorf("the last entry of all: %v", err)
	}
	if err := l.DropAudit(ctx, last, next); err != nil {
		t.Fatal(err)
	}
	if err := l.Joins(ctx, chain); err != nil {
		t.Error(err)
	}
	entries, end, err := open(t).VerifyAudit(ctx, nil)
	if err != nil || entries != 4 { // with the one that says so
		t.Errorf("%d entries: %v", entries, err)
	}
	if _, _, err := l.VerifyAudit(ctx, before[:]); err != nil { // the hash of the last that was dropped
		t.Errorf("from where the database begins: %v", err)
	}
	if _, _, err := l.VerifyAudit(ctx, end[:]); err != nil {
		t.Error(err)
	}
	_, _, err = l.VerifyAudit(ctx, make([]byte, 32))
	wants(t, "a hash of an archived entry, or of another log", err, ledger.ErrUnknown)
	all := audit(t, l)
	if len(all) != 2 || all[1].What != "prune" || all[1].Count != 2 {
		t.Errorf("what is left: %+v", all)
	}
	forged := ledger.Archived{Seq: 1, Text: "{}", Hash: hex.EncodeToString(before[:])}
	wants(t, "a forged archive", new(ledger.Chain).Add(forged), ledger.ErrTampered)
}

// testFolded: a lease's renewals are an entry a day, with how many there were, and who
// asked is in each entry.
func testFolded(t *testing.T, open func(t *testing.T) *ledger.Ledger) {
	l := open(t)
	ctx := ledger.On(t.Context(), "203.0.113.7", "0a0b")
	store(t, l, licence(1, nil), noon)
	c := claim(1, "a")
	c.Customer = "CN=alice"
	lease := must[ledger.Lease](t)(l.Claim(ctx, c, noon))
	renew := func(at time.Time) {
		t.Helper()
		must[ledger.Lease](t)(l.Renew(ctx, lease.ID, "a", 36*time.Hour, month, at))
	}
	for i := range 5 {
		renew(noon.Add(time.Duration(i) * time.Minute))
	}
	tomorrow := noon.AddDate(0, 0, 1)
	renew(tomorrow)
	renew(tomorrow)
	if err := l.End(context.WithoutCancel(ctx), lease.ID, "a", tomorrow); err != nil {
		t.Fatal(err)
	}
	type row struct {
		what  string
		count int
	}
	var got []row
	for _, e := range audit(t, l)[1:] {
		got = append(got, row{e.What, e.Count})
		if e.By != "203.0.113.7" || e.Request != "0a0b" {
			t.Errorf("%s by %q, request %q", e.What, e.By, e.Request)
		}
		if e.What == "claim" && e.Customer != "CN=alice" {
			t.Errorf("customer %q", e.Customer)
		}
	}
	want := []row{{"claim", 0}, {"renew", 0}, {"renew", 5}, {"end", 1}}
	if len(got) != len(want) {
		t.Fatalf("%v, want %v", got, want)
	}
	for i := range want {
		if got[i] != want[i] {
			t.Errorf("%v, want %v", got, want)
		}
	}
}

// testVerifyMeanwhile: a log that is written while it is verified is no other for that.
func testVerifyMeanwhile(t *testing.T, open func(t *testing.T) *ledger.Ledger) {
	l, other, ctx := open(t), open(t), t.Context()
	store(t, l, licence(1, nil), noon)
	var writers sync.WaitGroup
	over := make(chan struct{})
	writers.Go(func() {
		for {
			select {
			case <-over:
				return
			default:
			}
			if _, err := other.Claim(ctx, claim(1, "a"), noon); err != nil {
				t.Error(err)
				return
			}
		}
	})
	for range 20 {
		if _, _, err := l.VerifyAudit(ctx, nil); err != nil {
			t.Error(err)
			break
		}
	}
	close(over)
	writers.Wait()
}
