// Package ledgertest is the contract that a ledger fulfils on every database.
package ledgertest

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ovsactl/ovsactl/licensing/ledger"
)

const (
	model = "00000000-0000-4000-8000-00000000000a"
	month = 30 * 24 * time.Hour
)

// noon is when the tests take place.
var noon = time.Date(2026, 3, 29, 0, 59, 59, 0, time.UTC) // a second before Europe's clocks go forward

func guid(n int) string { return fmt.Sprintf("00000000-0000-4000-8000-%012d", n) }

func licence(n int, change func(*ledger.Licence)) ledger.Licence {
	lic := ledger.Licence{
		GUID: guid(n), Model: model, Type: ledger.Sale,
		Document: []byte("document"), Primary: []byte("primary"), Secondary: []byte("secondary"),
	}
	if change != nil {
		change(&lic)
	}
	return lic
}

func instances(n int) func(*ledger.Licence) {
	return func(l *ledger.Licence) { l.Type, l.Instances = ledger.InstanceLimit, n }
}

func until(t time.Time) func(*ledger.Licence) {
	return func(l *ledger.Licence) { l.Type, l.NotAfter = ledger.TimeLimit, t }
}

// Run tests ledgers that open opens, each empty. Opened again with the same t, it
// is the same one, as another server has it.
func Run(t *testing.T, open func(t *testing.T) *ledger.Ledger) {
	for name, test := range map[string]func(*testing.T, func(t *testing.T) *ledger.Ledger){
		"store": testStore, "archive": testArchive, "sale": testSale, "instances": testInstances, "double spend": testDoubleSpend,
		"time limit": testTimeLimit, "clock": testClock, "renew and end": testRenew, "revoke": testRevoke,
		"a TPM that went back": testRolledBack, "copies of a TPM": testCopied, "guests": testGuests, "retention": testRetention, "refusals": testRefusals, "logs": testLogs, "in use": testInUse, "renewals are folded": testFolded, "the longest lease": testLongest,
		"decided together": testTogether, "the last moment of a lease": testLastMoment, "one guest, many claims": testAgain, "many challenges": testManyChallenges, "reset with a claim": testResetWithClaim,
		"challenges": testChallenges, "enrol": testEnrol, "audit": testAudit, "audit, meanwhile": testVerifyMeanwhile, "failures": testFailures, "closed": testClosed,
	} {
		t.Run(name, func(t *testing.T) { test(t, open) })
	}
}

func must[T any](t *testing.T) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func wants(t *testing.T, what string, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("%s: %v, want %v", what, err, want)
	}
}

// store stores a licence that nothing is in the way of.
func store(t *testing.T, l *ledger.Ledger, lic ledger.Licence, now time.Time) {
	t.Helper()
	if _, err := l.Store(t.Context(), lic, now, func(ledger.Licence) error { return nil }); err != nil {
		t.Fatal(err)
	}
}

// audit is the log.
func audit(t *testing.T, l *ledger.Ledger) (all []ledger.Entry) {
	t.Helper()
	if err := l.Audit(t.Context(), 0, func(_ int64, e ledger.Entry) error {
		all = append(all, e)
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return all
}

func claim(n int, guest string) ledger.Claim {
	return ledger.Claim{GUID: guid(n), Model: model, Guest: guest, Expires: noon.Add(time.Hour)}
}

func testStore(t *testing.T, open func(t *testing.T) *ledger.Ledger) {
	l, ctx := open(t), t.Context()
	lic := licence(1, instances(2))
	ask := func(lic ledger.Licence, answer error) (asked *ledger.Licence, did ledger.Stored, err error) {
		did, err = l.Store(ctx, lic, noon.Add(time.Second), func(old ledger.Licence) error {
			asked = &old
			return answer
		})
		return asked, did, err
	}
	if did, err := l.Store(ctx, lic, noon, nil); err != nil || did != ledger.Added {
		t.Errorf("a new licence: %s, %v", did, err)
	}
	first := lic
	entries := len(audit(t, l))
	if asked, did, err := ask(lic, nil); err != nil || did != ledger.Unchanged || asked != nil || len(audit(t, l)) != entries {
		t.Errorf("the same again: %s, %v", did, err)
	}
	lic.Secondary = []byte("another certificate")
	if asked, did, err := ask(lic, nil); err != nil || did != ledger.Replaced || asked != nil {
		t.Errorf("the same with another certificate: %s, %v", did, err)
	}
	lic.Instances, lic.Document = 3, []byte("replaced")
	if asked, did, err := ask(lic, nil); err != nil || did != ledger.Replaced || asked == nil || string(asked.Document) != string(first.Document) {
		t.Errorf("another document: %s, %v", did, err)
	}
	got := must[ledger.Licence](t)(open(t).Licence(ctx, lic.GUID, lic.Model))
	if got.Instances != 3 || string(got.Document) != "replaced" || !got.Created.Equal(noon) || !got.Updated.Equal(noon.Add(time.Second)) {
		t.Errorf("%+v", got)
	}
	boom := errors.New("boom")
	_, _, err := ask(first, boom)
	wants(t, "what does not replace it", err, ledger.ErrConflict)
	wants(t, "what does not replace it", err, boom)
	if all := audit(t, l); !strings.Contains(all[len(all)-1].Refused, "boom") || all[len(all)-1].What != "store" {
		t.Errorf("its refusal is not in the log: %+v", all)
	}
	if now := must[ledger.Licence](t)(l.Licence(ctx, lic.GUID, lic.Model)); string(now.Document) != "replaced" {
		t.Error("what was refused is stored")
	}
	if _, did, err := ask(licence(1, until(noon.Add(month))), nil); err == nil && did != ledger.Replaced {
		t.Errorf("another type: %s, %v", did, err)
	}
	if got := must[ledger.Licence](t)(l.Licence(ctx, lic.GUID, lic.Model)); got.Type != ledger.TimeLimit || !got.NotAfter.Equal(noon.Add(month)) {
		t.Errorf("another type: %+v", got)
	}
	for _, tt := range []struct {
		bad  func(*ledger.Licence)
		want string
	}{
		{func(l *ledger.Licence) { l.Type = "Forever" }, `unknown licence type "Forever"`},
		{func(l *ledger.Licence) { l.Instances = 1 }, "1 instances do not fit the type Sale"},
		{func(l *ledger.Licence) { l.Type = ledger.TimeLimit }, "does not fit the type TimeLimit"},
		{func(l *ledger.Licence) { l.NotAfter = noon }, "does not fit the type Sale"},
		{func(l *ledger.Licence) { l.Type = ledger.InstanceLimit }, "0 instances do not fit the type InstanceLimit"},
		{func(l *ledger.Licence) { l.Secondary = nil }, "its document or a certificate is missing"},
		{func(l *ledger.Licence) { l.GUID = "" }, "it has no GUIDs"},
	} {
		if _, err := l.Store(ctx, licence(2, tt.bad), noon.Add(time.Second), nil); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("want %q: %v", tt.want, err)
		}
	}
	_, err = l.Licence(ctx, guid(2), model)
	wants(t, "a licence that is not there", err, ledger.ErrNoLicence)
	for n := 3; n < 6; n++ {
		store(t, l, licence(n, nil), noon.Add(time.Second))
	}
	page := must[[]ledger.Licence](t)(l.Licences(ctx, guid(1), model, 2))
	if len(page) != 2 || page[0].GUID != guid(3) || page[1].GUID != guid(4) {
		t.Errorf("second page %+v", page)
	}
}

// testArchive: what is put away gives nothing, and goes only when nobody has it.
func testArchive(t *testing.T, open func(t *testing.T) *ledger.Ledger) {
	l, ctx := open(t), t.Context()
	store(t, l, licence(1, instances(2)), noon)
	store(t, l, licence(2, nil), noon)
	one, two, none := licence(1, nil).Key(), licence(2, nil).Key(), licence(3, nil).Key()
	held := must[ledger.Lease](t)(l.Claim(ctx, claim(1, "a"), noon))
	must[ledger.Lease](t)(l.Claim(ctx, claim(2, "a"), noon))

	wants(t, "to remove what is in use", l.Remove(ctx, []ledger.Key{two}, noon), ledger.ErrInUse)
	wants(t, "to archive what is not there", l.Archive(ctx, []ledger.Key{one, none}, noon), ledger.ErrNoLicence)
	must[ledger.Lease](t)(l.Renew(ctx, held.ID, "a", time.Hour, month, noon)) // and nothing changed
	entries := len(audit(t, l))
	for range 2 {
		if err := l.Archive(ctx, []ledger.Key{one}, noon); err != nil {
			t.Fatal(err)
		}
	}
	if all := audit(t, l); len(all) != entries+1 || all[entries].What != "archive" || all[entries].GUID != guid(1) || all[entries].Refused != "" {
		t.Errorf("the log has %+v", all[entries:])
	}
	if got := must[ledger.Licence](t)(open(t).Licence(ctx, guid(1), model)); !got.Archived.Equal(noon) {
		t.Errorf("%+v", got)
	}
	_, err := l.Claim(ctx, claim(1, "b"), noon)
	wants(t, "a claim", err, ledger.ErrArchived)
	_, err = l.Renew(ctx, held.ID, "a", time.Hour, month, noon)
	wants(t, "a renewal", err, ledger.ErrNoLease)
	_, err = l.Store(ctx, licence(1, nil), noon, nil)
	wants(t, "to store it", err, ledger.ErrArchived)
	must[ledger.Lease](t)(l.Claim(ctx, claim(2, "b"), noon)) // another licence

	wants(t, "to remove what guests hold", l.Remove(ctx, []ledger.Key{one}, noon), ledger.ErrInUse)
	if err := l.Restore(ctx, []ledger.Key{one}, noon); err != nil {
		t.Fatal(err)
	}
	must[ledger.Lease](t)(l.Renew(ctx, held.ID, "a", time.Hour, month, noon))
	if err := l.Archive(ctx, []ledger.Key{one}, noon); err != nil {
		t.Fatal(err)
	}

	later := noon.Add(month) // nobody holds a lease any more
	wants(t, "to remove one that is in use beside one that is not", l.Remove(ctx, []ledger.Key{one, two}, later), ledger.ErrInUse)
	must[ledger.Licence](t)(l.Licence(ctx, guid(1), model))
	if err := l.Remove(ctx, []ledger.Key{one}, later); err != nil {
		t.Fatal(err)
	}
	_, err = l.Licence(ctx, guid(1), model)
	wants(t, "what was removed", err, ledger.ErrNoLicence)
	wants(t, "to remove it again", l.Remove(ctx, []ledger.Key{one}, later), ledger.ErrNoLicence)
	must[ledger.Licence](t)(l.Licence(ctx, guid(2), model))
	if _, _, err := l.VerifyAudit(ctx, nil); err != nil {
		t.Error(err)
	}
}

func testSale(t *testing.T, open func(t *testing.T) *ledger.Ledger) {
	l, ctx := open(t), t.Context()
	_, err := l.Claim(ctx, claim(1, "a"), noon)
	wants(t, "before it is stored", err, ledger.ErrNoLicence)
	store(t, l, licence(1, nil), noon)
	for i := range 5 {
		must[ledger.Lease](t)(l.Claim(ctx, claim(1, fmt.Sprint(i)), noon))
	}
	if u := must[ledger.Usage](t)(l.Usage(ctx, guid(1), model, noon)); u != (ledger.Usage{Held: 5, Claims: 5}) {
		t.Errorf("%+v", u)
	}
}

func testInstances(t *testing.T, open func(t *testing.T) *ledger.Ledger) {
	l, ctx := open(t), t.Context()
	store(t, l, licence(1, instances(2)), noon)
	first := must[ledger.Lease](t)(l.Claim(ctx, claim(1, "a"), noon))
	second := must[ledger.Lease](t)(l.Claim(ctx, claim(1, "b"), noon))
	_, err := l.Claim(ctx, claim(1, "c"), noon)
	wants(t, "a third", err, ledger.ErrExhausted)
	again := must[ledger.Lease](t)(l.Claim(ctx, claim(1, "a"), noon)) // its own slot
	if u := must[ledger.Usage](t)(l.Usage(ctx, guid(1), model, noon)); u != (ledger.Usage{Held: 2, Claims: 3}) {
		t.Errorf("%+v", u)
	}
	wants(t, "the lease that was replaced", l.End(ctx, first.ID, "a", noon), ledger.ErrNoLease)
	wants(t, "another guest's lease", l.End(ctx, second.ID, "a", noon), ledger.ErrNoLease)
	if err := l.End(ctx, again.ID, "a", noon); err != nil {
		t.Fatal(err)
	}
	must[ledger.Lease](t)(l.Claim(ctx, claim(1, "c"), noon))
	// Both have ended by themselves an hour later.
	late := claim(1, "d")
	late.Expires = noon.Add(3 * time.Hour)
	must[ledger.Lease](t)(l.Claim(ctx, late, noon.Add(time.Hour)))
	if u := must[ledger.Usage](t)(l.Usage(ctx, guid(1), model, noon.Add(time.Hour))); u.Held != 1 {
		t.Errorf("%+v", u)
	}
}

// testDoubleSpend: of 100 claims at once, on two servers, exactly as many succeed
// as there are instances.
func testDoubleSpend(t *testing.T, open func(t *testing.T) *ledger.Ledger) {
	servers := []*ledger.Ledger{open(t), open(t)}
	store(t, servers[0], licence(1, instances(7)), noon)
	var given, refused atomic.Int32
	var all sync.WaitGroup
	for i := range 100 {
		all.Go(func() {
			switch _, err := servers[i%2].Claim(t.Context(), claim(1, fmt.Sprint(i)), noon); {
			case err == nil:
				given.Add(1)
			case errors.Is(err, ledger.ErrExhausted):
				refused.Add(1)
			default:
				t.Error(err)
			}
		})
	}
	all.Wait()
	if given.Load() != 7 || refused.Load() != 93 {
		t.Errorf("%d given, %d refused", given.Load(), refused.Load())
	}
	if u := must[ledger.Usage](t)(servers[1].Usage(t.Context(), guid(1), model, noon)); u != (ledger.Usage{Held: 7, Claims: 7}) {
		t.Errorf("%+v", u)
	}
	if n, _, err := servers[0].VerifyAudit(t.Context(), nil); err != nil || n != 101 {
		t.Errorf("%d entries, %v", n, err)
	}
}

func testTimeLimit(t *testing.T, open func(t *testing.T) *ledger.Ledger) {
	l, ctx := open(t), t.Context()
	end := noon.Add(30 * time.Minute)
	store(t, l, licence(1, until(end)), noon)
	berlin := time.FixedZone("CEST", 2*60*60) // what the clock on the wall says is no matter
	lease := must[ledger.Lease](t)(l.Claim(ctx, claim(1, "a"), noon.In(berlin)))
	if !lease.Expires.Equal(end) {
		t.Errorf("the lease outlives its licence: %v", lease.Expires)
	}
	must[ledger.Lease](t)(l.Claim(ctx, claim(1, "b"), end.Add(-time.Nanosecond)))
	_, err := l.Claim(ctx, claim(1, "c"), end.In(berlin))
	wants(t, "at its end", err, ledger.ErrExpired)
	_, err = l.Renew(ctx, lease.ID, "a", time.Hour, month, end)
	wants(t, "renewed at its end", err, ledger.ErrNoLease)
}

func testClock(t *testing.T, open func(t *testing.T) *ledger.Ledger) {
	l, ctx := open(t), t.Context()
	end := noon.Add(time.Minute)
	store(t, l, licence(1, until(end)), noon)
	_, err := l.Claim(ctx, claim(1, "a"), noon.Add(time.Hour))
	wants(t, "after its end", err, ledger.ErrExpired)
	_, err = l.Claim(ctx, claim(1, "a"), noon)
	wants(t, "after the clock was put back", err, ledger.ErrClock)
	_, err = open(t).Claim(ctx, claim(1, "a"), noon)
	wants(t, "on another server", err, ledger.ErrClock)

	// A renewal is a decision even where it is not logged, as most are not.
	store(t, l, licence(2, nil), noon.Add(time.Hour))
	c := claim(2, "a")
	c.Expires = noon.Add(3 * time.Hour)
	lease := must[ledger.Lease](t)(l.Claim(ctx, c, noon.Add(time.Hour)))
	for _, back := range []time.Duration{0, 900 * time.Millisecond, time.Hour} {
		at := noon.Add(time.Hour + back)
		must[ledger.Lease](t)(l.Renew(ctx, lease.ID, "a", 2*time.Hour, month, at))
		_, err = open(t).Claim(ctx, claim(2, "b"), at.Add(-time.Minute-time.Millisecond))
		wants(t, fmt.Sprintf("a minute before a renewal %s later", back), err, ledger.ErrClock)
	}
}

func testRenew(t *testing.T, open func(t *testing.T) *ledger.Ledger) {
	l, ctx := open(t), t.Context()
	store(t, l, licence(1, instances(1)), noon)
	lease := must[ledger.Lease](t)(l.Claim(ctx, claim(1, "a"), noon))
	for i := range 3 {
		now := noon.Add(time.Duration(i) * 50 * time.Minute)
		lease = must[ledger.Lease](t)(l.Renew(ctx, lease.ID, "a", time.Hour, month, now))
	}
	if u := must[ledger.Usage](t)(l.Usage(ctx, guid(1), model, noon)); u != (ledger.Usage{Held: 1, Claims: 1}) {
		t.Errorf("renewals took something: %+v", u)
	}
	_, err := l.Renew(ctx, lease.ID, "b", time.Hour, month, noon.Add(2*time.Hour))
	wants(t, "another guest's lease", err, ledger.ErrNoLease)
	if err := l.End(ctx, lease.ID, "a", noon.Add(2*time.Hour)); err != nil {
		t.Error(err)
	}
	_, err = l.Renew(ctx, lease.ID, "a", time.Hour, month, noon.Add(2*time.Hour))
	wants(t, "a lease that was given back", err, ledger.ErrNoLease)
}

func testRevoke(t *testing.T, open func(t *testing.T) *ledger.Ledger) {
	l, ctx := open(t), t.Context()
	store(t, l, licence(1, nil), noon)
	c := claim(1, "a")
	c.Subjects = []ledger.Subject{{Kind: ledger.KindCustomer, ID: "c1"}, {Kind: ledger.KindHost, ID: "h1"}, {Kind: ledger.KindAK, ID: "k1"}, {Kind: ledger.KindTCB, ID: "t1"}}
	for _, s := range append([]ledger.Subject{{Kind: ledger.KindLicence, ID: guid(1)}}, c.Subjects...) {
		lease := must[ledger.Lease](t)(l.Claim(ctx, c, noon))
		if err := l.Revoke(ctx, s, "stolen", noon); err != nil {
			t.Fatal(err)
		}
		_, err := open(t).Renew(ctx, lease.ID, "a", time.Hour, month, noon)
		wants(t, string(s.Kind)+" revoked, renewal", err, ledger.ErrRevoked)
		_, err = l.Claim(ctx, c, noon)
		wants(t, string(s.Kind)+" revoked, claim", err, ledger.ErrRevoked)
		if list := must[[]ledger.Revocation](t)(l.Revocations(ctx)); len(list) != 1 || list[0].Subject != s || list[0].Reason != "stolen" {
			t.Errorf("revocations %+v", list)
		}
		if err := l.Unrevoke(ctx, s, noon); err != nil {
			t.Fatal(err)
		}
	}
	must[ledger.Lease](t)(l.Claim(ctx, c, noon))
}

// testRolledBack: a copy of a TPM's state that was made before its last claim.
func testRolledBack(t *testing.T, open func(t *testing.T) *ledger.Ledger) {
	l, ctx := open(t), t.Context()
	store(t, l, licence(1, nil), noon)
	c := claim(1, "a")
	at := func(resets, restarts uint32, millis uint64) ledger.Claim {
		c.Clock = ledger.Clock{Resets: resets, Restarts: restarts, Millis: millis}
		return c
	}
	must[ledger.Lease](t)(l.Claim(ctx, at(5, 1, 1000), noon))
	for _, back := range []ledger.Claim{at(4, 1, 2000), at(5, 0, 2000), at(5, 1, 999), at(0, 0, 0)} {
		_, err := open(t).Claim(ctx, back, noon)
		wants(t, fmt.Sprint(back.Clock), err, ledger.ErrRolledBack)
	}
	must[ledger.Lease](t)(l.Claim(ctx, at(5, 1, 1000), noon))
	must[ledger.Lease](t)(l.Claim(ctx, at(6, 0, 1), noon)) // another boot
	on := func(guest, ak string, resets uint32) ledger.Claim {
		c := claim(1, guest)
		c.Host = ledger.HostBoot{AK: ak, Resets: resets}
		return c
	}
	must[ledger.Lease](t)(l.Claim(ctx, on("b", "x", 7), noon))
	must[ledger.Lease](t)(l.Claim(ctx, on("c", "x", 8), noon))
	_, err := open(t).Claim(ctx, on("b", "x", 7), noon) // the host has booted since
	wants(t, "an earlier boot of the host", err, ledger.ErrRolledBack)
	must[ledger.Lease](t)(l.Claim(ctx, on("b", "x", 8), noon))
	must[ledger.Lease](t)(l.Claim(ctx, on("b", "y", 1), noon)) // another host
}

// testLongest: a lease cannot be renewed forever without another proof.
func testLongest(t *testing.T, open func(t *testing.T) *ledger.Ledger) {
	l, ctx := open(t), t.Context()
	store(t, l, licence(1, nil), noon)
	lease := must[ledger.Lease](t)(l.Claim(ctx, claim(1, "a"), noon))
	lease = must[ledger.Lease](t)(l.Renew(ctx, lease.ID, "a", time.Hour, 80*time.Minute, noon.Add(30*time.Minute)))
	if want := noon.Add(80 * time.Minute); !lease.Expires.Equal(want) {
		t.Errorf("until %s, want %s", lease.Expires, want)
	}
	_, err := l.Renew(ctx, lease.ID, "a", time.Hour, 80*time.Minute, noon.Add(80*time.Minute))
	wants(t, "after it", err, ledger.ErrNoLease)
}

func testEnrol(t *testing.T, open func(t *testing.T) *ledger.Ledger) {
	l, ctx := open(t), t.Context()
	if err := l.Enrol(ctx, "h1", "k1", noon); err != nil {
		t.Fatal(err)
	}
	for _, s := range []ledger.Subject{{Kind: ledger.KindHost, ID: "h1"}, {Kind: ledger.KindAK, ID: "k1"}} {
		if err := l.Revoke(ctx, s, "stolen", noon); err != nil {
			t.Fatal(err)
		}
		wants(t, string(s.Kind)+" revoked", open(t).Enrol(ctx, "h1", "k1", noon), ledger.ErrRevoked)
		if err := l.Enrol(ctx, "h2", "k2", noon); err != nil {
			t.Errorf("another host: %v", err)
		}
		if err := l.Unrevoke(ctx, s, noon); err != nil {
			t.Fatal(err)
		}
	}
	wants(t, "a clock that went back", l.Enrol(ctx, "h1", "k1", noon.Add(-time.Hour)), ledger.ErrClock)
	var granted, refused int
	err := l.Audit(ctx, 0, func(_ int64, e ledger.Entry) error {
		switch {
		case e.What != "enrol":
		case e.Refused != "":
			refused++
		case e.Subject != nil && e.Subject.Kind == ledger.KindHost:
			granted++
		}
		return nil
	})
	if err != nil || granted != 3 || refused != 2 {
		t.Errorf("the log has %d that were granted and %d refused, %v", granted, refused, err)
	}
}

func testChallenges(t *testing.T, open func(t *testing.T) *ledger.Ledger) {
	servers := []*ledger.Ledger{open(t), open(t)}
	ctx := t.Context()
	if err := servers[0].Offer(ctx, "c1", []byte("nonce"), noon.Add(time.Minute), noon); err != nil {
		t.Fatal(err)
	}
	var got atomic.Int32
	var all sync.WaitGroup
	for i := range 20 {
		all.Go(func() {
			data, err := servers[i%2].Take(ctx, "c1", noon)
			if err == nil && string(data) == "nonce" {
				got.Add(1)
			} else if !errors.Is(err, ledger.ErrChallenge) {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if got.Load() != 1 {
		t.Errorf("%d took the one challenge", got.Load())
	}
	if err := servers[0].Offer(ctx, "c2", []byte("nonce"), noon.Add(time.Minute), noon); err != nil {
		t.Fatal(err)
	}
	for _, now := range []time.Time{noon.Add(time.Minute), noon} { // a late answer spends it, too
		_, err := servers[0].Take(ctx, "c2", now)
		wants(t, "an answer that came too late", err, ledger.ErrChallenge)
	}
}

func testAudit(t *testing.T, open func(t *testing.T) *ledger.Ledger) {
	l, ctx := open(t), t.Context()
	store(t, l, licence(1, instances(1)), noon)
	must[ledger.Lease](t)(l.Claim(ctx, claim(1, "a"), noon))
	if _, err := l.Claim(ctx, claim(1, "b"), noon); err == nil {
		t.Fatal("no refusal to log")
	}
	var log []string
	if err := l.Audit(ctx, 0, func(seq int64, e ledger.Entry) error {
		log = append(log, fmt.Sprintf("%d %s %s %q", seq, e.What, e.Guest, e.Refused))
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	want := fmt.Sprint([]string{`1 store  ""`, `2 claim a ""`, `3 claim b "all instances of the licence are in use (1)"`})
	if fmt.Sprint(log) != want {
		t.Errorf("log %v, want %v", log, want)
	}
	n, first, err := l.VerifyAudit(ctx, nil)
	if n != 3 || err != nil {
		t.Errorf("%d entries, %v", n, err)
	}
	if _, again, err := open(t).VerifyAudit(ctx, nil); again != first || err != nil {
		t.Errorf("%x and %x, %v", first, again, err)
	}
}

// testFailures: what fails takes nothing with it of what is decided together.
func testFailures(t *testing.T, open func(t *testing.T) *ledger.Ledger) {
	l, ctx := open(t), t.Context()
	offer := func() error { return l.Offer(ctx, "one", []byte("data"), noon.Add(time.Hour), noon) }
	if err := offer(); err != nil {
		t.Fatal(err)
	}
	const all = 60
	var failed atomic.Int64
	var done sync.WaitGroup
	for n := range all {
		done.Go(func() {
			if n%3 == 0 { // there is one of that name
				if err := offer(); err != nil {
					failed.Add(1)
				}
				return
			}
			if _, err := l.Store(ctx, licence(n, nil), noon, nil); err != nil {
				t.Error(err)
			}
		})
	}
	done.Wait()
	stored := must[[]ledger.Licence](t)(l.Licences(ctx, "", "", all))
	entries, _, err := l.VerifyAudit(ctx, nil)
	if failed.Load() != all/3 || len(stored) != 2*all/3 || entries != 2*all/3 || err != nil {
		t.Errorf("%d failed, %d stored, %d entries: %v", failed.Load(), len(stored), entries, err)
	}
}

func testClosed(t *testing.T, open func(t *testing.T) *ledger.Ledger) {
	l := open(t)
	if err := errors.Join(l.Check(t.Context()), l.Close()); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Store(t.Context(), licence(1, nil), noon, nil); err == nil {
		t.Error("a closed ledger stores")
	}
}
