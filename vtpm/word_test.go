package vtpm_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/ovsactl/ovsactl/vtpm"
	"github.com/ovsactl/ovsactl/vtpm/guest"
	"github.com/ovsactl/ovsactl/vtpm/quote"
	"github.com/ovsactl/ovsactl/vtpm/vtpmtest"
)

// A host vouches for a proof of the VM that it is told, by the record that it wrote
// for that last, and makes nothing.
func TestWordForAVM(t *testing.T) {
	host := vtpmtest.New(t)
	h := host.Open(t)
	request := quote.HostRequest{Version: 1, Nonce: bytes.Repeat([]byte{7}, 32), AK: append([]byte{0, 0x0b}, make([]byte, 32)...)}
	if _, err := h.Attest(t.Context(), id.UUID, request); !errors.Is(err, vtpm.ErrMissing) {
		t.Errorf("a VM that was never bound: %v", err)
	}
	if _, err := h.Attest(t.Context(), "../"+id.UUID, request); err == nil {
		t.Error("no UUID")
	}
	if err := h.Manufacture(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	if err := h.Bind(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	tpm, stop := host.StartGuest(t, id.UUID)
	defer stop()
	nonce := bytes.Repeat([]byte{9}, 32)
	evidence, err := guest.Quote(t.Context(), tpm, nonce, host.Attest(t, id.UUID))
	if err != nil {
		t.Fatal(err)
	}
	document, err := evidence.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	r, err := h.VerifyEvidence(t.Context(), id.UUID, document, nonce, true)
	if err != nil || !r.OK() || r.Step(quote.StepHostNowExtra).Status != quote.Passed {
		t.Errorf("%v, %v, %+v", err, r.Err(), r.Step(quote.StepHostNowExtra))
	}

	// The record of another start is not the one that the guest has.
	record, err := os.ReadFile(filepath.Join(host.DataDir, "vtpm", id.UUID, "record.json"))
	if err != nil {
		t.Fatal(err)
	}
	stop()
	if err := h.Bind(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	word, err := h.Attest(t.Context(), id.UUID, quote.HostRequest{Version: 1, Nonce: nonce, AK: request.AK})
	if err != nil {
		t.Fatal(err)
	}
	evidence.Record, evidence.Host = record, &word
	if document, err = evidence.Marshal(); err != nil {
		t.Fatal(err)
	}
	r, err = h.VerifyEvidence(t.Context(), id.UUID, document, nonce, true)
	if err != nil || r.Step(quote.StepHostNowExtra).Status != quote.Failed {
		t.Errorf("%v, %+v", err, r.Step(quote.StepHostNowExtra))
	}
}
