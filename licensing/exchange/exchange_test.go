package exchange

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/ovsactl/ovsactl/vtpm/quote"
)

// The vectors of docs/protocol.md: parts of 32 bytes 01, 02 and so on.
func TestVectors(t *testing.T) {
	part := func(b byte) []byte { return bytes.Repeat([]byte{b}, 32) }
	name := append([]byte{0, 0x0b}, part(3)...)
	for what, v := range map[string]struct {
		got  []byte
		want string
	}{
		"nonce":   {Nonce(part(1), part(2), name), "3b9a04e7465269b5d1cbbd753dac1866142bd1e9f6e9f4f29f9724db9aca3f9c"},
		"info":    {ReleaseInfo(part(4)), hex.EncodeToString([]byte("ovsa-exchange-grant/v1\x00")) + strings.Repeat("04", 32)},
		"renew":   {RenewalMAC(part(5), PathRenew, strings.Repeat("0a", 16), part(2)), "f1dd57a0f1106005ac8e5946165017a8c14b6194c7edc38a606daa02233a59c7"},
		"renewed": {RenewedMAC(part(5), strings.Repeat("0a", 16), part(2), time.Unix(1795000000, 0)), "46e69dc73dbe4ddebf7d47a58563b801a9be76a155be2f5c8f7f5df953fa2ece"},
		"end":     {RenewalMAC(part(5), PathEnd, strings.Repeat("0a", 16), part(2)), "d65779c0a623b675cb2721830c63144ef62acb0bbbc06ab231b8c9bedd227ce7"},
		"length":  {Nonce(part(1)[:31], append([]byte{1}, part(2)...), name), "126eacfac343dd0bef810459e46d59bcda6281050eedd0ae61d3e32a7d7abc4e"},
	} {
		if got := hex.EncodeToString(v.got); got != v.want {
			t.Errorf("%s: %s, want %s", what, got, v.want)
		}
	}
}

func good() map[string]Message {
	b := []byte{1}
	return map[string]Message{
		"begin": &Begin{
			Licence: "0f2d6a63-5a3b-4c0e-9d51-1f0c8f6f8a01", Model: "7c1b2a90-1111-4222-8333-444455556666",
			Customer: b, AK: b, EKs: [][]byte{b}, ReleaseKey: b,
		},
		"challenge": &Challenge{ID: strings.Repeat("0a", 16), Nonce: make([]byte, NonceSize), Credential: b, EncryptedSecret: b},
		"finish": &Finish{
			ID: strings.Repeat("0a", 16), Secret: make([]byte, SecretSize), Evidence: b,
			Certification: quote.Certification{Public: b, Attest: b, Signature: b}, Possession: b,
		},
		"grant":   &Grant{Sealed: b, Lease: b},
		"renew":   &Renew{Lease: strings.Repeat("0a", 16), Guest: "000b", MAC: make([]byte, 32)},
		"renewed": &Renewed{Expires: time.Unix(1795000000, 0).UTC(), MAC: make([]byte, 32)},
		"problem": &Problem{Code: NotAllowed, Message: "no", Request: "1"},
	}
}

func empty(kind string) Message {
	return map[string]Message{
		"begin": new(Begin), "challenge": new(Challenge), "finish": new(Finish), "grant": new(Grant),
		"renew": new(Renew), "renewed": new(Renewed), "problem": new(Problem),
	}[kind]
}

// Each message is read as it was written, and no field of it may be missing,
// unknown or too large.
func TestParse(t *testing.T) {
	for kind, m := range good() {
		data, err := json.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		got := empty(kind)
		if err := Parse(data, got); err != nil {
			t.Errorf("%s: %v", kind, err)
		}
		if again, _ := json.Marshal(got); !bytes.Equal(again, data) {
			t.Errorf("%s: read as %s", kind, again)
		}
		var fields map[string]any
		if err := json.Unmarshal(data, &fields); err != nil {
			t.Fatal(err)
		}
		for name, value := range fields {
			if name == "expires" {
				continue // for the client's information
			}
			delete(fields, name)
			refuses(t, kind, "without "+name, fields)
			fields[name] = strings.Repeat("QUJD", MaxFinish)
			refuses(t, kind, "with a large "+name, fields)
			fields[name] = value
		}
		fields["surprise"] = 1
		refuses(t, kind, "with an unknown field", fields)
		for _, tail := range []string{"{}", "x", "]"} {
			if err := Parse(append(bytes.Clone(data), tail...), empty(kind)); !errors.Is(err, ErrFormat) {
				t.Errorf("%s, then %q: %v", kind, tail, err)
			}
		}
	}
}

func refuses(t *testing.T, kind, what string, fields map[string]any) {
	t.Helper()
	data, err := json.Marshal(fields)
	if err != nil {
		t.Fatal(err)
	}
	if err := Parse(data, empty(kind)); !errors.Is(err, ErrFormat) {
		t.Errorf("%s %s: %v", kind, what, err)
	}
}

// Every code has a status and a sentence of its own.
func TestCodes(t *testing.T) {
	seen := map[string]Code{}
	for _, c := range []Code{BadRequest, NotAllowed, ChallengeOver, LeaseOver, Revoked, Expired, Exhausted, SlowDown, Unavailable} {
		if c.Status() < 400 || seen[c.Sentence()] != "" {
			t.Errorf("%s: %d %q as %s", c, c.Status(), c.Sentence(), seen[c.Sentence()])
		}
		seen[c.Sentence()] = c
	}
}

// FuzzParse: nothing that parses is over a limit, and it is written as one that
// parses, too.
func FuzzParse(f *testing.F) {
	for kind, m := range good() {
		data, err := json.Marshal(m)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(kind, data)
	}
	f.Add("begin", []byte(`{"licence":"`))
	f.Fuzz(func(t *testing.T, kind string, data []byte) {
		m := empty(kind)
		if m == nil || Parse(data, m) != nil {
			return
		}
		again, err := json.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		if err := Parse(again, empty(kind)); err != nil {
			t.Errorf("%s: %v", again, err)
		}
	})
}
