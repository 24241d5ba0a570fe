//go:build e2e

package e2e

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/ovsactl/ovsactl/vtpm/quote"
)

// tampered changes each field of the evidence that a guest gave, of the host's
// record in it and of the claims in that, one at a time: each is refused.
func (s *story) tampered(t *testing.T) {
	path, nonce := s.evidence(t)
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	refused := func(name string, evidence []byte) {
		t.Helper()
		changed := s.host.write(t, "tampered.json", string(evidence))
		r := s.run(t, s.program, "vtpm", "verify", "runtime", "-f", s.file, "--allow-unenrolled", "--quote", changed, "--nonce", nonce)
		if r.code != 1 || !strings.Contains(r.stdout, "NOT verified") {
			t.Errorf("%s was changed and not refused: %v", name, r)
		}
	}
	evidence, err := quote.ParseEvidence([]byte(strings.TrimSpace(string(data))))
	if err != nil {
		t.Fatal(err)
	}
	record, err := quote.ParseRecord(evidence.Record)
	if err != nil {
		t.Fatal(err)
	}
	claims, err := quote.ParseClaims(record.Claims)
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	eachChange(*evidence, func(name string, e quote.Evidence) {
		n++
		if name == ".EventLog" {
			e.EventLog = otherDigest(t, evidence.EventLog)
		}
		refused("evidence"+name, plain(t, e))
	})
	eachChange(*record, func(name string, r quote.Record) {
		if name == ".Simulated" {
			return // what the host says of itself, and signs nowhere: it only warns
		}
		n++
		e := *evidence
		e.Record = plain(t, r)
		refused("record"+name, plain(t, e))
	})
	eachChange(claims, func(name string, c quote.Claims) {
		n++
		r := *record
		r.Claims = plain(t, c)
		e := *evidence
		e.Record = plain(t, r)
		refused("claims"+name, plain(t, e))
	})
	t.Logf("%d changes were refused", n)
	s.tamperedCopy(t)
}

// otherDigest changes what an event says was measured. What it says beside that
// is the firmware's word alone.
func otherDigest(t *testing.T, log []byte) []byte {
	t.Helper()
	events, err := quote.ParseLog(log)
	if err != nil {
		t.Fatal(err)
	}
	changed := slices.Clone(log)
	changed[bytes.Index(log, events[len(events)/2].Digest)] ^= 1
	return changed
}

// plain is the JSON of v, without the checks of its Marshal method.
func plain(t *testing.T, v any) []byte {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// eachChange calls f with copies of v that differ from it in one leaf each.
func eachChange[T any](v T, f func(name string, changed T)) {
	var walk func(path []int, name string, t reflect.Value)
	emit := func(path []int, name string) {
		fresh := clone(v)
		leaf := reflect.ValueOf(&fresh).Elem()
		for _, i := range path {
			if leaf.Kind() == reflect.Slice {
				leaf = leaf.Index(i)
			} else {
				leaf = reflect.Indirect(leaf).Field(i)
			}
		}
		change(leaf)
		f(name, fresh)
	}
	walk = func(path []int, name string, t reflect.Value) {
		switch {
		case t.Kind() == reflect.Pointer && !t.IsNil():
			walk(path, name, t.Elem())
		case t.Kind() == reflect.Pointer: // absent
		case t.Kind() == reflect.Struct:
			for i := range t.NumField() {
				walk(append(slices.Clone(path), i), name+"."+t.Type().Field(i).Name, t.Field(i))
			}
		case t.Kind() == reflect.Slice && t.Type().Elem().Kind() != reflect.Uint8:
			for i := range t.Len() {
				walk(append(slices.Clone(path), i), fmt.Sprintf("%s[%d]", name, i), t.Index(i))
			}
		case t.Kind() == reflect.Slice && t.Len() == 0: // absent
		default:
			emit(path, name)
		}
	}
	walk(nil, "", reflect.ValueOf(v))
}

// clone copies v deeply.
func clone[T any](v T) T {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	var out T
	if err := json.Unmarshal(b, &out); err != nil {
		panic(err)
	}
	return out
}

// change changes one leaf a little.
func change(v reflect.Value) {
	switch v.Kind() {
	case reflect.Bool:
		v.SetBool(!v.Bool())
	case reflect.Int, reflect.Int64:
		v.SetInt(v.Int() + 1)
	case reflect.String:
		b := []byte(v.String())
		last := len(b) - 1
		if b[last] == '0' {
			b[last] = '1'
		} else {
			b[last] = '0'
		}
		v.SetString(string(b))
	case reflect.Slice:
		b := slices.Clone(v.Bytes())
		b[len(b)/2] ^= 1
		v.SetBytes(b)
	default:
		panic("no way to change a " + v.Kind().String())
	}
}

// tamperedCopy changes the copy of the record that the host keeps.
func (s *story) tamperedCopy(t *testing.T) {
	info := decode[struct{ UUID string }](t, s.must(t, "vtpm", "show", "runtime", "-f", s.file, "--json"))
	path := filepath.Join(s.dataDir, "vtpm", info.UUID, "record.json")
	r := s.run(t, "cat", path)
	if r.code != 0 {
		t.Fatalf("the host's copy: %v", r)
	}
	good := s.host.write(t, "record", r.stdout)
	bad := s.host.write(t, "record.bad", strings.Replace(r.stdout, `"attest":"`, `"attest":"A`, 1))
	for from, want := range map[string]int{bad: 1, good: 0} {
		s.run(t, "cp", from, path)
		if r := s.ovsactl(t, "vtpm", "verify", "runtime", "-f", s.file, "--allow-unenrolled"); r.code != want {
			t.Errorf("the host's copy is %s: %v", filepath.Base(from), r)
		}
		if from == good {
			continue
		}
		if r := s.must(t, "status", s.file); !strings.Contains(r.stdout, "unbound") {
			t.Errorf("status hides a bad record: %v", r)
		}
	}
	s.run(t, "cp", good, path)
}

// evidence asks the runtime's guest for evidence. It returns its file and the
// nonce that it was asked with.
func (s *story) evidence(t *testing.T) (path, nonce string) {
	t.Helper()
	nonce = hex.EncodeToString(random(32))
	out := s.guest(t, s.file, "runtime", "sudo", "/opt/ovsa/kvm/bin/ovsaruntime", "quote", "--nonce", nonce)
	return s.host.write(t, "quote.json", out), nonce
}
