package server_test

import (
	"bytes"
	"compress/gzip"
	"strings"
	"testing"

	"github.com/ovsactl/ovsactl/licensing/server"
)

// What a database brings back unpacks to no more than was ever packed.
func TestWhatUnpacksToTooMuch(t *testing.T) {
	const most = 2 << 20
	packed := func(text string) []byte {
		var b bytes.Buffer
		w := gzip.NewWriter(&b)
		if _, err := w.Write([]byte(text)); err != nil {
			t.Fatal(err)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		return b.Bytes()
	}
	pad := func(text string, size int) []byte { return packed(text + strings.Repeat(" ", size-len(text))) }
	if log, err := server.ParseLog(pad(`"bG9n"`, most)); err != nil || string(log) != "log" {
		t.Errorf("%q, %v", log, err)
	}
	if _, err := server.ParseRefusal(pad(`{}`, most)); err != nil {
		t.Error(err)
	}
	for name, data := range map[string][]byte{
		"one byte more": pad(`{}`, most+1), "much more": pad(`{}`, 64*most),
		"nothing": nil, "no gzip": []byte("{}"), "cut short": pad(`{}`, 100)[:20], "no JSON": packed("log"),
	} {
		if _, err := server.ParseRefusal(data); err == nil {
			t.Errorf("a refusal of %s: parsed", name)
		}
		if _, err := server.ParseLog(data); err == nil {
			t.Errorf("a log of %s: parsed", name)
		}
	}
}
