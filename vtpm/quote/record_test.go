package quote

import (
	"bytes"
	"encoding/hex"
	"strings"
	"testing"
)

func TestOneEncodingOfARecord(t *testing.T) {
	good := string(must(newHost(t).sign().Marshal()))
	if _, err := ParseRecord([]byte(good)); err != nil {
		t.Fatal(err)
	}
	for name, bad := range map[string]string{
		"empty":            "",
		"space after":      good + "\n",
		"a second one":     good + good,
		"space inside":     strings.Replace(good, ",", ", ", 1),
		"unknown field":    strings.Replace(good, "{", `{"x":1,`, 1),
		"repeated field":   strings.Replace(good, "{", `{"simulated":true,`, 1),
		"field in capital": strings.Replace(good, `"claims"`, `"Claims"`, 1),
		"null":             "null",
		"over the limit":   `{"claims":"` + strings.Repeat("A", MaxRecord) + `"}`,
		"line in base64":   strings.Replace(good, `"attest":"`, `"attest":"\n`, 1),
	} {
		if _, err := ParseRecord([]byte(bad)); err == nil {
			t.Errorf("%s: parsed", name)
		}
	}
}

func TestOneEncodingOfClaims(t *testing.T) {
	h := newHost(t)
	good := must(h.claims.Marshal())
	if _, err := ParseClaims(good); err != nil {
		t.Fatal(err)
	}
	replace := func(old, new string) []byte { return bytes.Replace(good, []byte(old), []byte(new), 1) }
	for name, bad := range map[string][]byte{
		"version":          replace(`"version":1`, `"version":2`),
		"UUID in capitals": replace("6f1c", "6F1C"),
		"UUID too short":   replace("6f1c", "6f1"),
		"no name":          replace("ovsa_runtime", ""),
		"time with zone":   replace("11:59:00Z", "11:59:00+00:00"),
		"time with parts":  replace("11:59:00Z", "11:59:00.5Z"),
		"algorithm":        replace(RSA2048, "rsa1024"),
		"algorithm twice":  replace(ECCP384, RSA2048),
		"trailing byte":    append(bytes.Clone(good), 0),
		"not UTF-8":        replace("ovsa_runtime", "ovsa\xffruntime"),
	} {
		if _, err := ParseClaims(bad); err == nil {
			t.Errorf("%s: parsed", name)
		}
	}
}

// The values are by sha256sum: they fix what TPMs in the field have signed.
func TestExtraData(t *testing.T) {
	bind := BindExtraData([]byte("claims"))
	if got, want := hex.EncodeToString(bind[:]), "9195d28e356eb37b29e34a338489bfa7a366ac69082cc430d32c3546b9f997b0"; got != want {
		t.Errorf("bind: %s, want %s", got, want)
	}
	guest := GuestExtraData([]byte("nonce"), Digest([]byte("record")))
	if got, want := hex.EncodeToString(guest[:]), "bb7f38d6099f9631c036b40479100be634cad92de3c3b4724e2770d5f1dde4a9"; got != want {
		t.Errorf("guest: %s, want %s", got, want)
	}
}

func TestParseLogRefuses(t *testing.T) {
	good, _ := testLog()
	head := logHeader()
	edit := func(at int, b byte) []byte {
		c := bytes.Clone(good)
		c[at] = b
		return c
	}
	for name, bad := range map[string][]byte{
		"nothing":                  nil,
		"an old SHA-1 log":         edit(32, 'X'),
		"another first event":      edit(4, 1),
		"no SHA-256 bank":          edit(len(head)-5, algSHA384),
		"bank listed twice":        edit(len(head)-5, algSHA1),
		"bank with another size":   edit(len(head)-3, 20),
		"many banks":               edit(len(head)-13, 200),
		"one digest too few":       edit(len(head)+8, 1),
		"digest of an unlisted":    edit(len(head)+12, 0xd),
		"same digest twice":        edit(len(head)+12+22, algSHA1),
		"register that is not":     logEvent(bytes.Clone(good), 24, 8, nil),
		"data longer than the log": good[:len(good)-1],
	} {
		if _, err := ParseLog(bad); err == nil {
			t.Errorf("%s: parsed", name)
		}
	}
	for name, data := range map[string]string{"value": "StartupLocality\x00\x09", "length": "StartupLocality\x00", "late": "StartupLocality\x00\x03"} {
		b := head
		if name == "late" {
			b = logEvent(b, 0, 8, nil)
		}
		if _, err := Replay(must(ParseLog(logEvent(bytes.Clone(b), 0, eventNoAction, []byte(data))))); err == nil {
			t.Errorf("startup locality, %s: replayed", name)
		}
	}
}
