package model

import (
	"bytes"
	"encoding/gob"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"
)

func TestKeyIsNeverPrinted(t *testing.T) {
	k := testKey() // 32 times 0x42: B, 66
	holder := struct{ k Key }{*k}
	var b bytes.Buffer
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%b", "%o", "%c", "%U", "%p", "%t"} {
		for _, v := range []any{k, *k, []Key{*k}, map[string]*Key{"k": k}, holder, &holder} {
			fmt.Fprintf(&b, verb+"\n", v)
		}
	}
	slog.New(slog.NewJSONHandler(&b, nil)).Info("k", "key", k, "key", *k, "in", []Key{*k})
	slog.New(slog.NewTextHandler(&b, nil)).Info("k", "key", k, "in", holder)
	fmt.Fprintln(&b, k, *k, fmt.Errorf("key %v", k))
	for _, leak := range []string{"BBBB", "42424242", "66 66", "66,66", "0x42, 0x42", "1000010 1000010", "102 102", "QkJC"} {
		if strings.Contains(b.String(), leak) {
			t.Errorf("%q is in:\n%s", leak, b.String())
		}
	}
}

func TestKeyIsNeverMarshalled(t *testing.T) {
	for _, v := range []any{testKey(), *testKey(), struct{ K *Key }{testKey()}, map[string]Key{"k": *testKey()}} {
		if b, err := json.Marshal(v); err == nil {
			t.Errorf("JSON: %s", b)
		}
	}
	if err := gob.NewEncoder(new(bytes.Buffer)).Encode(testKey()); err == nil {
		t.Error("gob encodes a key")
	}
}

func TestKeys(t *testing.T) {
	if bytes.Equal(NewKey().Bytes(), NewKey().Bytes()) {
		t.Error("two new keys are the same")
	}
	for _, n := range []int{0, 16, 31, 33} {
		if _, err := KeyFromBytes(make([]byte, n)); err == nil {
			t.Errorf("a key of %d bytes", n)
		}
	}
	in := bytes.Repeat([]byte{7}, KeySize)
	k, err := KeyFromBytes(in)
	if err != nil || !bytes.Equal(k.Bytes(), in) {
		t.Fatal(err)
	}
	in[0] = 0
	k.Bytes()[1] = 0
	if !bytes.Equal(k.Bytes(), bytes.Repeat([]byte{7}, KeySize)) {
		t.Error("the key shares memory with a caller")
	}
	alias, secret := *k, k.secret.b
	k.Zero()
	k.Zero()
	if *secret != [KeySize]byte{} || alias.Bytes() != nil || k.Bytes() != nil {
		t.Error("the key was not wiped")
	}
	if _, err := newRoot(k, [saltSize]byte{}); err == nil {
		t.Error("a wiped key is used")
	}
}
