package seal

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"

	"github.com/ovsactl/ovsactl/internal/hint"
	"github.com/ovsactl/ovsactl/vtpm/guest"
	"github.com/ovsactl/ovsactl/vtpm/vtpmtest"
)

var (
	secret = []byte("0123456789abcdef0123456789abcdef")
	pcrs   = []int{0, 4, 7}
)

// withTPM runs do on a connection to the TPM of h, and then insists that nothing
// was left in it.
func withTPM(t *testing.T, h *vtpmtest.Host, do func(transport.TPM)) {
	t.Helper()
	tpm, err := guest.Open(t.Context(), h.TPM)
	if err != nil {
		t.Fatal(err)
	}
	defer tpm.Close()
	do(tpm)
	for _, first := range []uint32{0x80000000, 0x02000000, 0x03000000} { // objects, HMAC and policy sessions
		rsp, err := tpm2.GetCapability{Capability: tpm2.TPMCapHandles, Property: first, PropertyCount: 8}.Execute(tpm)
		if err != nil {
			t.Fatal(err)
		}
		handles, err := rsp.CapabilityData.Data.Handles()
		if err != nil {
			t.Fatal(err)
		}
		if len(handles.Handle) > 0 {
			t.Errorf("left in the TPM: %#x", handles.Handle)
		}
	}
}

func extend(t *testing.T, tpm transport.TPM, pcr tpm2.TPMHandle) {
	t.Helper()
	_, err := tpm2.PCRExtend{
		PCRHandle: tpm2.AuthHandle{Handle: pcr, Auth: tpm2.PasswordAuth(nil)},
		Digests:   tpm2.TPMLDigestValues{Digests: []tpm2.TPMTHA{{HashAlg: tpm2.TPMAlgSHA256, Digest: bytes.Repeat([]byte{9}, 32)}}},
	}.Execute(tpm)
	if err != nil {
		t.Fatal(err)
	}
}

// again is b as it is after having been a file.
func again(t *testing.T, b *Blob) *Blob {
	t.Helper()
	data, err := b.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := ParseBlob(data)
	if err != nil {
		t.Fatal(err)
	}
	return parsed
}

func mustSeal(t *testing.T, tpm transport.TPM, pcrs []int) *Blob {
	t.Helper()
	b, err := Seal(t.Context(), tpm, secret, pcrs)
	if err != nil {
		t.Fatal(err)
	}
	return again(t, b)
}

func wantSecret(t *testing.T, tpm transport.TPM, b *Blob) {
	t.Helper()
	got, err := b.Unseal(t.Context(), tpm)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, secret) {
		t.Errorf("got %q", got)
	}
}

func wantError(t *testing.T, tpm transport.TPM, b *Blob, want error, text string) {
	t.Helper()
	got, err := b.Unseal(t.Context(), tpm)
	if !errors.Is(err, want) || !strings.Contains(err.Error(), text) || got != nil {
		t.Fatalf("got %q, %v", got, err)
	}
	if hint.Of(err) == "" {
		t.Errorf("no hint with: %v", err)
	}
}

func TestUnsealsAlsoAfterReboot(t *testing.T) {
	h := vtpmtest.New(t)
	var b *Blob
	withTPM(t, h, func(tpm transport.TPM) {
		b = mustSeal(t, tpm, pcrs)
		wantSecret(t, tpm, b)
	})
	h.Boot(t)
	withTPM(t, h, func(tpm transport.TPM) { wantSecret(t, tpm, b) })
}

func TestEveryLengthUpToTheLimit(t *testing.T) {
	withTPM(t, vtpmtest.New(t), func(tpm transport.TPM) {
		for _, n := range []int{1, MaxSecret} {
			in := bytes.Repeat([]byte{7}, n)
			b, err := Seal(t.Context(), tpm, in, pcrs)
			if err != nil {
				t.Fatal(err)
			}
			if out, err := again(t, b).Unseal(t.Context(), tpm); err != nil || !bytes.Equal(in, out) {
				t.Errorf("%d bytes: %q, %v", n, out, err)
			}
		}
		for _, n := range []int{0, MaxSecret + 1} {
			if _, err := Seal(t.Context(), tpm, make([]byte, n), pcrs); err == nil {
				t.Errorf("%d bytes were sealed", n)
			}
		}
	})
}

func TestOnlyUnderTheSamePCRs(t *testing.T) {
	h := vtpmtest.New(t)
	withTPM(t, h, func(tpm transport.TPM) {
		b := mustSeal(t, tpm, pcrs)
		extend(t, tpm, 5)
		wantSecret(t, tpm, b)
		extend(t, tpm, 4)
		wantError(t, tpm, b, ErrPolicy, "PCRs 4 of the sha256 bank are not what they were (the policy selects 0, 4, 7)")
	})
}

// The comparison that the TPM makes counts, not ours: a patched program that
// skips ours gets nothing.
func TestTheTPMEnforcesThePolicy(t *testing.T) {
	withTPM(t, vtpmtest.New(t), func(tpm transport.TPM) {
		b := mustSeal(t, tpm, pcrs)
		extend(t, tpm, 4)
		before := b.pcrs[1].Digest
		rsp, err := tpm2.PCRRead{PCRSelectionIn: tpm2.TPMLPCRSelection{PCRSelections: []tpm2.TPMSPCRSelection{{
			Hash: tpm2.TPMAlgSHA256, PCRSelect: tpm2.PCClientCompatible.PCRs(4),
		}}}}.Execute(tpm)
		if err != nil {
			t.Fatal(err)
		}
		b.pcrs[1].Digest = rsp.PCRValues.Digests[0].Buffer
		if bytes.Equal(before, b.pcrs[1].Digest) {
			t.Fatal("not extended")
		}
		wantError(t, tpm, b, ErrPolicy, "changed just now")

		// Nor does a blob without registers open the object that has a policy.
		b.pcrs = nil
		if got, err := b.Unseal(t.Context(), tpm); err == nil {
			t.Errorf("unsealed %q with a password", got)
		}
	})
}

func TestAnotherTPMRefuses(t *testing.T) {
	var b *Blob
	withTPM(t, vtpmtest.New(t), func(tpm transport.TPM) { b = mustSeal(t, tpm, pcrs) })
	withTPM(t, vtpmtest.New(t), func(tpm transport.TPM) {
		wantError(t, tpm, b, ErrOtherTPM, "another TPM")
		// Not even when the name is made to fit.
		b.parent = mustSeal(t, tpm, pcrs).parent
		wantError(t, tpm, b, ErrDamaged, "integrity")
	})
}

func TestRegistersAreChosenKnowingly(t *testing.T) {
	withTPM(t, vtpmtest.New(t), func(tpm transport.TPM) {
		for _, bad := range [][]int{nil, {}, {7, 4}, {7, 7}, {16}, {23}, {24}, {-1}} {
			if _, err := Seal(t.Context(), tpm, secret, bad); err == nil {
				t.Errorf("sealed under %v", bad)
			}
		}
		if _, err := Seal(t.Context(), tpm, secret, nil); !errors.Is(err, ErrNoPCRs) {
			t.Errorf("got %v", err)
		}
		b, err := SealUnbound(t.Context(), tpm, secret)
		if err != nil {
			t.Fatal(err)
		}
		b = again(t, b)
		extend(t, tpm, 0)
		wantSecret(t, tpm, b)
		if len(b.PCRs()) != 0 || len(b.Policy()) != 0 {
			t.Errorf("PCRs %v, policy %x", b.PCRs(), b.Policy())
		}
	})
}

// Each field of a blob, changed in a way that still parses as JSON.
func TestTamperedFields(t *testing.T) {
	withTPM(t, vtpmtest.New(t), func(tpm transport.TPM) {
		good, err := mustSeal(t, tpm, pcrs).Marshal()
		if err != nil {
			t.Fatal(err)
		}
		other, err := Seal(t.Context(), tpm, []byte("another secret"), []int{1})
		if err != nil {
			t.Fatal(err)
		}
		cases := map[string]func(*document){
			"version":        func(d *document) { d.Version = 2 },
			"template":       func(d *document) { d.Template = "rsa" },
			"bank":           func(d *document) { d.Bank = "sha1" },
			"parent":         func(d *document) { d.Parent[9] ^= 1 },
			"parent size":    func(d *document) { d.Parent = d.Parent[:4] },
			"PCR value":      func(d *document) { d.PCRs[0].Digest[0] ^= 1 },
			"PCR index":      func(d *document) { d.PCRs[0].Index = 1 },
			"no PCRs":        func(d *document) { d.PCRs = d.PCRs[:0] },
			"policy":         func(d *document) { d.Policy[0] ^= 1 },
			"attributes":     func(d *document) { d.Public[7] |= 1 << 6 }, // userWithAuth
			"public digest":  func(d *document) { d.Public[len(d.Public)-1] ^= 1 },
			"public of more": func(d *document) { d.Public = append(d.Public, 0) },
			"other public":   func(d *document) { d.Public = other.public },
			"private":        func(d *document) { d.Private[20] ^= 1 },
			"private cut":    func(d *document) { d.Private = d.Private[:20] },
			"no private":     func(d *document) { d.Private = nil },
			"other private":  func(d *document) { d.Private = other.private },
		}
		for name, change := range cases {
			var d document
			if err := json.Unmarshal(good, &d); err != nil {
				t.Fatal(err)
			}
			change(&d)
			bad, err := json.Marshal(d)
			if err != nil {
				t.Fatal(err)
			}
			b, err := ParseBlob(bad)
			if err == nil {
				var got []byte
				got, err = b.Unseal(t.Context(), tpm)
				if got != nil {
					t.Errorf("%s: got %q", name, got)
				}
			}
			if err == nil {
				t.Errorf("%s: no error", name)
			}
		}
	})
}

// locked is a TPM in lockout.
type locked struct{}

func (locked) Send([]byte) ([]byte, error) {
	return []byte{0x80, 1, 0, 0, 0, 10, 0, 0, 9, 0x21}, nil
}

func TestLockoutIsTold(t *testing.T) {
	withTPM(t, vtpmtest.New(t), func(tpm transport.TPM) {
		b := mustSeal(t, tpm, pcrs)
		wantError(t, locked{}, b, ErrLockout, "lockout")
	})
}

// Wrong passwords elsewhere lock a TPM out of much, and not out of this.
func TestUnsealsInLockout(t *testing.T) {
	withTPM(t, vtpmtest.New(t), func(tpm transport.TPM) {
		b := mustSeal(t, tpm, pcrs)
		lockOut(t, tpm)
		wantSecret(t, tpm, b)
	})
}

// lockOut gives wrong passwords until the TPM takes none.
func lockOut(t *testing.T, tpm transport.TPM) {
	t.Helper()
	protected, err := tpm2.CreatePrimary{
		PrimaryHandle: tpm2.TPMRHOwner,
		InSensitive: tpm2.TPM2BSensitiveCreate{Sensitive: &tpm2.TPMSSensitiveCreate{
			UserAuth: tpm2.TPM2BAuth{Buffer: []byte("right")},
			Data:     tpm2.NewTPMUSensitiveCreate(&tpm2.TPM2BSensitiveData{Buffer: []byte("sealed")}),
		}},
		InPublic: tpm2.New2B(tpm2.TPMTPublic{
			Type: tpm2.TPMAlgKeyedHash, NameAlg: tpm2.TPMAlgSHA256,
			ObjectAttributes: tpm2.TPMAObject{FixedTPM: true, FixedParent: true, UserWithAuth: true},
		}),
	}.Execute(tpm)
	if err != nil {
		t.Fatal(err)
	}
	defer tpm2.FlushContext{FlushHandle: protected.ObjectHandle}.Execute(tpm)
	for range 100 {
		_, err := tpm2.Unseal{ItemHandle: tpm2.AuthHandle{
			Handle: protected.ObjectHandle, Name: protected.Name, Auth: tpm2.PasswordAuth([]byte("wrong")),
		}}.Execute(tpm)
		if errors.Is(err, tpm2.TPMRCLockout) {
			return
		}
	}
	t.Fatal("the TPM never locked anybody out")
}

func TestEndedContextLeavesNothing(t *testing.T) {
	withTPM(t, vtpmtest.New(t), func(tpm transport.TPM) {
		b := mustSeal(t, tpm, pcrs)
		for n := range 12 {
			ctx, cancel := context.WithCancelCause(t.Context())
			stop := errors.New("stop")
			c := &counter{TPM: tpm, left: n, then: func() { cancel(stop) }}
			_, err := b.Unseal(ctx, c)
			if err != nil && !errors.Is(err, stop) {
				t.Errorf("after %d commands: %v", n, err)
			}
			cancel(nil)
		}
	})
}

// counter calls then once some commands went through it.
type counter struct {
	transport.TPM
	left int
	then func()
}

func (c *counter) Send(command []byte) ([]byte, error) {
	if c.left--; c.left < 0 {
		c.then()
	}
	return c.TPM.Send(command)
}

func TestAClearedTPMIsAnother(t *testing.T) {
	withTPM(t, vtpmtest.New(t), func(tpm transport.TPM) {
		b := mustSeal(t, tpm, pcrs)
		if _, err := (tpm2.Clear{AuthHandle: tpm2.TPMRHPlatform}).Execute(tpm); err != nil {
			t.Fatal(err)
		}
		wantError(t, tpm, b, ErrOtherTPM, "before it was cleared")
	})
}

func TestOwnersPasswordIsNamed(t *testing.T) {
	withTPM(t, vtpmtest.New(t), func(tpm transport.TPM) {
		change := tpm2.HierarchyChangeAuth{AuthHandle: tpm2.TPMRHOwner, NewAuth: tpm2.TPM2BAuth{Buffer: []byte("owner")}}
		if _, err := change.Execute(tpm); err != nil {
			t.Fatal(err)
		}
		_, err := Seal(t.Context(), tpm, secret, pcrs)
		if err == nil || !strings.Contains(hint.Of(err), "tpm2_changeauth -c owner") {
			t.Errorf("got %v, hint %q", err, hint.Of(err))
		}
	})
}
