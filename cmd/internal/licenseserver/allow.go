package licenseserver

import (
	"fmt"

	proto "github.com/ovsactl/ovsactl/licensing/server"
	"github.com/ovsactl/ovsactl/vtpm/quote"
)

// Who runs the commands that allow something.
const (
	here    = "here"
	isv     = "the ISV"
	onHost  = "on the host"
	inGuest = "in the guest"
)

// allow are the commands that would allow what was refused. Whether it should be
// allowed is for whoever runs them.
func allow(e explanation) []allowance {
	const (
		renew = "ovsatool sale -renew OLD.lic ..."
		store = "license_server store NEW.lic PRIMARY SECONDARY"
	)
	switch e.Check {
	case proto.CheckLicence:
		return []allowance{
			{here, "license_server customers restore CUSTOMER, if it was archived (license_server customers ls -all)"},
			{here, "license_server store LIC PRIMARY SECONDARY, if it never was stored"},
		}
	case proto.CheckISV:
		return []allowance{{here, "license_server trust add -for isv FILE"}, {isv, renew + ", with a certificate that is good"}, {here, store}}
	case proto.CheckCustomer:
		return []allowance{{here, "license_server trust add -for customer FILE"}, {isv, renew + " -p CERTIFICATE, with one that is good"}, {here, store}}
	case proto.CheckPossession:
		return []allowance{
			{inGuest, "use the key stores of the licence's customer: license_server show " + string(e.Licence) + " says whose it is"},
			{isv, renew + " -p CERTIFICATE, for another customer's certificate"}, {here, store},
		}
	case proto.CheckHost:
		return []allowance{
			{onHost, "ovsactl host enroll"},
			{here, "license_server trust add -for attestation FILE, or -for tpm-vendor FILE"},
			{onHost, "start the guest again, so that the host vouches for it with its new certificate"},
		}
	case proto.CheckAge:
		return []allowance{{onHost, "start the guest again, so that the host vouches for it anew"}, {here, "license_server serve -record-age DURATION"}}
	case proto.CheckState:
		return []allowance{
			{inGuest, "ovsaruntime gen-tcb-signature -n NAME -v VERSION -f NEW.tcb -k ISV_KEYSTORE, in one of the ISV's that is in this state"},
			{isv, renew + " -t OLD.tcb NEW.tcb"}, {here, store},
		}
	case proto.CheckRevoked:
		if e.Revoked != nil {
			return []allowance{{here, fmt.Sprintf("license_server unrevoke %s %s", e.Revoked.Kind, e.Revoked.ID)}}
		}
	case proto.CheckTerm:
		return []allowance{{isv, renew + ", with a configuration that ends later"}, {here, store}}
	case proto.CheckSeats:
		return []allowance{
			{here, "license_server guests ls, and end the leases of one that is gone: license_server guests reset GUEST"},
			{isv, renew + ", with a configuration for more instances"}, {here, store},
		}
	case proto.CheckRollback, proto.CheckCopy:
		return []allowance{{here, "license_server guests reset " + brief(e.Guest) + ", if it was moved or put back by its owner, and no copy of it goes on"}}
	case proto.CheckEvidence:
		return ofEvidence(e.Step)
	}
	return nil
}

// ofEvidence is for steps of evidence that an honest guest may fail.
func ofEvidence(step string) []allowance {
	switch step {
	case quote.StepHostNow:
		return []allowance{
			{onHost, "ovsactl host check, which says what its attestation service lacks; ovsactl host prepare sets it up"},
			{onHost, "a guest that was made before it: ovsactl destroy, ovsactl apply"},
		}
	case quote.PrefixOfRecord + quote.StepTime, quote.PrefixOfRecord + quote.StepVM, quote.StepGuestEKs, quote.StepGuestEKCerts:
		return []allowance{{onHost, "start the guest again, so that the host vouches for it anew"}}
	}
	return nil
}
