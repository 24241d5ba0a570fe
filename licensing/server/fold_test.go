package server

import (
	"fmt"
	"testing"
	"time"

	"github.com/ovsactl/ovsactl/licensing/ledger"
)

// A count that others push out is logged, and not lost.
func TestCountsThatArePushedOut(t *testing.T) {
	r, err := newRefusals()
	if err != nil {
		t.Fatal(err)
	}
	now := time.Date(2026, 3, 28, 12, 0, 0, 0, time.UTC)
	of := func(guest string) (foldKey, folded) {
		return foldKey{guest: guest, check: CheckState}, folded{since: now, claim: ledger.Claim{Guest: guest}}
	}
	key, f := of("victim")
	for i, want := range []int{1, 0, 0} {
		if n := r.count(key, f); n != want {
			t.Errorf("refusal %d: %d to be logged, want %d", i+1, n, want)
		}
	}
	for i := range maxRefusals {
		r.count(of(fmt.Sprint(i)))
	}
	due := r.due(now, false)
	if len(due) != 1 || due[0].claim.Guest != "victim" || due[0].more != 2 {
		t.Errorf("%+v", due)
	}
	if due := r.due(now, true); len(due) != 0 { // the others were logged, once each
		t.Errorf("%d more", len(due))
	}
}
