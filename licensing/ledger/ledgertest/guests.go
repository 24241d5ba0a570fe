package ledgertest

import (
	"testing"
	"time"

	"github.com/ovsactl/ovsactl/licensing/ledger"
)

// testCopied: what tells a guest that was started again from a copy of its TPM.
func testCopied(t *testing.T, open func(t *testing.T) *ledger.Ledger) {
	l, ctx := open(t), t.Context()
	store(t, l, licence(1, nil), noon)
	at := func(lineage, life string, resets uint32, millis uint64) ledger.Claim {
		c := claim(1, "a")
		c.Lineage, c.Life, c.Clock = lineage, life, ledger.Clock{Resets: resets, Millis: millis}
		return c
	}
	for _, step := range []struct {
		name  string
		claim ledger.Claim
		want  error
	}{
		{"the first proof", at("line", "one", 5, 1000), nil},
		{"another one in the same life", at("line", "one", 5, 2000), nil},
		{"a copy that started as often", at("line", "two", 5, 3000), ledger.ErrCopied},
		{"one whose clock is behind", at("line", "one", 5, 1999), ledger.ErrRolledBack},
		{"the first again: a copy's proof changed nothing", at("line", "one", 5, 2001), nil},
		{"started again, after it was forced off: its clock is behind", at("line", "three", 6, 10), nil},
		{"the life before", at("line", "one", 5, 9000), ledger.ErrRolledBack},
		{"reset without a new life", at("line", "three", 7, 9000), ledger.ErrCopied},
		{"an old snapshot that was started often enough", at("restored", "four", 9, 9000), ledger.ErrCopied},
		{"moved to another host", at("moved", "five", 7, 9000), ledger.ErrCopied},
		{"the guest itself", at("line", "six", 7, 20), nil},
	} {
		_, err := l.Claim(ctx, step.claim, noon)
		wants(t, step.name, err, step.want)
	}
}

// testGuests: what an administrator sees of guests, and how one that was moved or
// put back is let in again.
func testGuests(t *testing.T, open func(t *testing.T) *ledger.Ledger) {
	l, ctx := open(t), t.Context()
	store(t, l, licence(1, nil), noon)
	c := claim(1, "0a")
	c.VM, c.Life, c.Lineage, c.Clock = "vm", "one", "line", ledger.Clock{Resets: 5, Millis: 7}
	c.Host = ledger.HostBoot{ID: "host", AK: "ak", Resets: 3, Certs: []byte("certificates")}
	c.Subjects = []ledger.Subject{{Kind: ledger.KindHost, ID: "host"}, {Kind: ledger.KindAK, ID: "ak"}}
	lease := must[ledger.Lease](t)(l.Claim(ctx, c, noon))
	held := must[ledger.Holding](t)(l.Holding(ctx, lease.ID))
	if held.Key != (ledger.Key{GUID: c.GUID, Model: c.Model}) || held.AK != "ak" || string(held.Certs) != "certificates" {
		t.Errorf("the lease was given for %+v", held)
	}
	_, err := l.Holding(ctx, "00")
	wants(t, "another lease", err, ledger.ErrNoLease)
	other := claim(1, "0b")
	unknown := must[ledger.Lease](t)(l.Claim(ctx, other, noon))
	if held := must[ledger.Holding](t)(l.Holding(ctx, unknown.ID)); held.AK != "" || held.Certs != nil {
		t.Errorf("a lease on a host that nobody named: %+v", held)
	}
	copied := c
	copied.Lineage = "another"
	later := noon.Add(time.Minute)
	_, err = l.Claim(ctx, copied, later)
	wants(t, "a copy", err, ledger.ErrCopied)

	all := must[[]ledger.Guest](t)(l.Guests(ctx, "", later))
	want := ledger.Guest{ID: "0a", VM: "vm", Host: "host", Clock: c.Clock, Seen: noon, Leases: 1, Refused: 1, Last: later}
	if len(all) != 2 || all[0] != want || all[1].ID != "0b" {
		t.Errorf("guests: %+v, want %+v first", all, want)
	}
	if one := must[[]ledger.Guest](t)(l.Guests(ctx, "0b", later)); len(one) != 1 || one[0].ID != "0b" {
		t.Errorf("guests that begin with 0b: %+v", one)
	}

	if err := l.ResetGuest(ctx, "0a", later); err != nil {
		t.Fatal(err)
	}
	_, err = l.Renew(ctx, lease.ID, "0a", time.Minute, time.Hour, later)
	wants(t, "to renew a lease of a guest that was reset", err, ledger.ErrNoLease)
	must[ledger.Lease](t)(l.Claim(ctx, copied, later))
	_, err = l.Claim(ctx, c, later)
	wants(t, "the one before", err, ledger.ErrCopied)
	wants(t, "to reset a stranger", l.ResetGuest(ctx, "0c", later), ledger.ErrNoGuest)

	if err := l.Revoke(ctx, ledger.Subject{Kind: ledger.KindGuest, ID: "0a"}, "stolen", later); err != nil {
		t.Fatal(err)
	}
	if all := must[[]ledger.Guest](t)(l.Guests(ctx, "0a", later)); !all[0].Revoked {
		t.Errorf("revoked: %+v", all)
	}
}
