package quote

import (
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
)

// checkHostEK judges the host's EK chain. A chain that is there must be good; a
// missing one is forgiven only where an AK that is not enrolled is.
func (v *recordVerifier) checkHostEK() error {
	if len(v.record.EKChain) == 0 {
		if v.policy.AllowUnenrolled {
			return warn("the record has none: nothing says who made the host's TPM")
		}
		return errors.New("the record has none: nothing says who made the host's TPM")
	}
	cert, err := v.policy.Chains.checkEK(v.record.EKChain, v.policy.Trust, v.policy.Now)
	if err != nil {
		return err
	}
	v.ekCert = cert
	return pass("by %s", cert.Issuer)
}

// checkHostID ties the host's name in the claims to the keys: to the AK itself
// or to the EK in the chain, and the AK's certificate must name the same host.
func (v *recordVerifier) checkHostID() error {
	if err := v.checkHostKey(); err != nil {
		return err
	}
	if v.akCert == nil {
		return warn("only the host itself says that its AK and EK are in one TPM")
	}
	if !namesHost(v.akCert, v.claims.HostID) {
		return errors.New("the AK's certificate does not name this host")
	}
	return nil
}

func (v *recordVerifier) checkHostKey() error {
	if ak, ok := strings.CutPrefix(v.claims.HostID, "ak:"); ok {
		if ak != hex.EncodeToString(v.ak.name) {
			return errors.New("the claims name another AK")
		}
		return nil
	}
	if len(v.record.EKChain) == 0 {
		return errors.New("the claims name an EK, and the record has no certificate of it")
	}
	if v.ekCert == nil {
		return errors.New("the claims name an EK whose certificate is not good")
	}
	name, err := EKName(v.ekCert.PublicKey)
	if err != nil {
		return fmt.Errorf("name the host's EK: %w", err)
	}
	if hex.EncodeToString(name) != v.claims.HostID {
		return errors.New("the claims name another EK than the certificate's")
	}
	return nil
}

func (v *recordVerifier) checkSimulated() error {
	if v.record.Simulated {
		return warn("simulated: the host's TPM is a program, which proves nothing about hardware")
	}
	return nil
}
