package ledgertest

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/ovsactl/ovsactl/licensing/ledger"
)

// testRefusals: of each licence the latest refusals are remembered, and of no other
// licence fewer for that.
func testRefusals(t *testing.T, open func(t *testing.T) *ledger.Ledger) {
	l, ctx := open(t), t.Context()
	one := ledger.Refusal{Request: "one", At: noon, GUID: "a", Model: "m", Data: []byte("why")}
	keep := func(r ledger.Refusal) {
		t.Helper()
		if err := l.Remember(ctx, r, 3); err != nil {
			t.Fatal(err)
		}
	}
	keep(one)
	got, err := open(t).Refusal(ctx, "one") // as another process asks
	if err != nil || got.GUID != "a" || got.Model != "m" || string(got.Data) != "why" || !got.At.Equal(noon) {
		t.Errorf("%+v, %v", got, err)
	}
	_, err = l.Refusal(ctx, "another")
	wants(t, "one that never was", err, ledger.ErrNoRefusal)
	one.Data = []byte("another reason")
	keep(one)
	if got := must[ledger.Refusal](t)(l.Refusal(ctx, "one")); string(got.Data) != "why" {
		t.Errorf("a second refusal by the same name says %q", got.Data)
	}
	for i := range 5 {
		keep(ledger.Refusal{Request: fmt.Sprint("later ", i), At: noon.Add(time.Duration(i+1) * time.Second), GUID: "a", Model: "m", Data: []byte{1}})
		keep(ledger.Refusal{Request: fmt.Sprint("other ", i), At: noon, GUID: "a", Model: fmt.Sprint(i), Data: []byte{1}})
	}
	var kept []string
	for _, name := range []string{"one", "later 0", "later 1", "later 2", "later 3", "later 4", "other 0", "other 4"} {
		if _, err := l.Refusal(ctx, name); err == nil {
			kept = append(kept, name)
		}
	}
	if want := []string{"later 2", "later 3", "later 4", "other 0", "other 4"}; !slices.Equal(kept, want) {
		t.Errorf("kept %q, want %q", kept, want)
	}
}

// testLogs: the first log of a TCB is its reference.
func testLogs(t *testing.T, open func(t *testing.T) *ledger.Ledger) {
	l, ctx := open(t), t.Context()
	if log, err := l.Log(ctx, "tcb"); err != nil || log != nil {
		t.Errorf("%q, %v", log, err)
	}
	for _, log := range []string{"first", "second"} {
		if err := l.KeepLog(ctx, "tcb", []byte(log), noon); err != nil {
			t.Fatal(err)
		}
	}
	if log := must[[]byte](t)(l.Log(ctx, "tcb")); string(log) != "first" {
		t.Errorf("%q", log)
	}
}

// testInUse: what is held, by licence, and what ends soon.
func testInUse(t *testing.T, open func(t *testing.T) *ledger.Ledger) {
	l, ctx := open(t), t.Context()
	store(t, l, licence(1, instances(2)), noon)
	store(t, l, licence(2, nil), noon)
	store(t, l, licence(3, until(noon.AddDate(0, 0, 10))), noon)
	store(t, l, licence(4, until(noon.AddDate(0, 0, 40))), noon)
	if used := must[[]ledger.InUse](t)(l.InUse(ctx, 10, noon)); len(used) != 0 {
		t.Errorf("%+v", used)
	}
	for _, c := range []ledger.Claim{claim(1, "a"), claim(2, "a"), claim(2, "b"), claim(2, "c")} {
		must[ledger.Lease](t)(l.Claim(ctx, c, noon))
	}
	ended := must[ledger.Lease](t)(l.Claim(ctx, claim(3, "a"), noon))
	if err := l.End(ctx, ended.ID, ended.Guest, noon); err != nil {
		t.Fatal(err)
	}
	want := []ledger.InUse{
		{Key: ledger.Key{GUID: guid(2), Model: model}, Type: ledger.Sale, Held: 3},
		{Key: ledger.Key{GUID: guid(1), Model: model}, Type: ledger.InstanceLimit, Seats: 2, Held: 1},
	}
	if used := must[[]ledger.InUse](t)(l.InUse(ctx, 10, noon)); !slices.Equal(used, want) {
		t.Errorf("%+v", used)
	}
	if used := must[[]ledger.InUse](t)(l.InUse(ctx, 1, noon)); !slices.Equal(used, want[:1]) {
		t.Errorf("%+v", used)
	}
	if used := must[[]ledger.InUse](t)(l.InUse(ctx, 10, noon.AddDate(1, 0, 0))); len(used) != 0 {
		t.Errorf("after all leases: %+v", used)
	}
	month := func(from time.Time) int { return must[int](t)(l.Ending(ctx, from, from.AddDate(0, 0, 30))) }
	if n := month(noon); n != 1 {
		t.Errorf("%d end within a month", n)
	}
	if n := month(noon.AddDate(0, 0, 11)); n != 1 {
		t.Errorf("a month later %d do", n)
	}
	if err := l.Archive(ctx, []ledger.Key{{GUID: guid(3), Model: model}}, noon); err != nil {
		t.Fatal(err)
	}
	if n := month(noon); n != 0 {
		t.Errorf("%d of those that are archived end", n)
	}
}
