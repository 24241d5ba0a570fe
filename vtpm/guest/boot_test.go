package guest_test

import (
	"bytes"
	"testing"

	"github.com/ovsactl/ovsactl/vtpm/guest"
	"github.com/ovsactl/ovsactl/vtpm/vtpmtest"
)

// A release key is made once: neither another one of the same boot, in the same state,
// nor one of a later boot opens what was sealed to it.
func TestReleaseKeysAreNotMadeAgain(t *testing.T) {
	h := vtpmtest.New(t)
	tpm, err := guest.Open(t.Context(), h.TPM)
	if err != nil {
		t.Fatal(err)
	}
	first := newReleaseKey(t, tpm)
	sealed := sealTo(t, tpm, first)
	if _, err := first.Open(t.Context(), info, sealed); err != nil {
		t.Fatal(err)
	}
	second := newReleaseKey(t, tpm)
	if bytes.Equal(second.Public(), first.Public()) {
		t.Error("the same key again")
	}
	if got, err := second.Open(t.Context(), info, sealed); err == nil {
		t.Errorf("another key opened %q", got)
	}
	tpm.Close()
	h.Boot(t)
	if tpm, err = guest.Open(t.Context(), h.TPM); err != nil {
		t.Fatal(err)
	}
	defer tpm.Close()
	later := newReleaseKey(t, tpm)
	defer later.Close()
	if got, err := later.Open(t.Context(), info, sealed); err == nil || bytes.Equal(later.Public(), first.Public()) {
		t.Errorf("a key of a later boot opened %q", got)
	}
}
