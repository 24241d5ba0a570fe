package quote

import (
	"crypto/elliptic"
	"testing"
)

// What was challenged has to be what quotes: an AK that is swapped in between is
// noticed, and so is an EK that is not the vTPM's.
func TestActivatedKeysAreTheOnesThatQuote(t *testing.T) {
	v := newVM(t)
	evidence := v.sign()
	name := must(AKName(evidence.AK))
	other := must(AKName(eccAK(newECC(elliptic.P256())).public()))
	for what, c := range map[string]struct {
		activated *Activation
		want      Status
	}{
		"no challenge":        {nil, Warning},
		"these keys":          {&Activation{name, evidence.EKs[0]}, Passed},
		"its other EK":        {&Activation{name, evidence.EKs[1]}, Passed},
		"another AK":          {&Activation{other, evidence.EKs[0]}, Failed},
		"no AK":               {&Activation{nil, evidence.EKs[0]}, Failed},
		"another TPM's EK":    {&Activation{name, v.host.ekCert}, Failed},
		"no EK":               {&Activation{name, nil}, Failed},
		"nothing of anything": {&Activation{}, Failed},
	} {
		p := v.policy()
		p.Activated = c.activated
		r := VerifyEvidence(must(evidence.Marshal()), testNonce, p)
		if s := r.Step(StepActivation); s.Status != c.want || r.OK() != (c.want != Failed) {
			t.Errorf("%s: %s (%s), want %s", what, s.Status, s.Detail, c.want)
		}
	}
}
