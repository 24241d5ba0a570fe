package quote

import (
	"bytes"
	"encoding/hex"
	"testing"
)

// The digest is what a TPM's trial session gives for TPM2_PolicyPCR of register
// 0 alone, all zero.
func TestPolicyPCRDigest(t *testing.T) {
	zero := make([]byte, 32)
	got, err := PolicyPCRDigest([]PCR{{0, zero}})
	if err != nil || len(got) != 32 {
		t.Fatalf("%x, %v", got, err)
	}
	if h := hex.EncodeToString(got); h != "093ceb41181d47808862d7946268ee6a17a10e3d1b79b32351bc56e4beaceff0" {
		t.Errorf("got %s", h)
	}
	two := must(PolicyPCRDigest([]PCR{{0, zero}, {7, bytes.Repeat([]byte{7}, 32)}}))
	seen := map[string]bool{string(got): true, string(two): true}
	for _, other := range [][]PCR{
		{{1, zero}}, {{0, bytes.Repeat([]byte{1}, 32)}}, {{0, zero}, {1, zero}}, {{0, bytes.Repeat([]byte{7}, 32)}, {7, zero}},
	} {
		d := string(must(PolicyPCRDigest(other)))
		if seen[d] {
			t.Errorf("%v has a digest that another policy has", other)
		}
		seen[d] = true
	}
	for _, bad := range [][]PCR{
		nil, {{7, zero}, {0, zero}}, {{0, zero}, {0, zero}}, {{16, zero}}, {{24, zero}}, {{-1, zero}}, {{0, nil}}, {{0, make([]byte, 20)}},
	} {
		if d, err := PolicyPCRDigest(bad); err == nil {
			t.Errorf("%v: %x", bad, d)
		}
	}
}
