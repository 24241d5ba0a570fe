package remote

import (
	"bytes"
	"strings"
	"testing"
)

// FuzzKnownHosts: whatever is in the file, dropping hosts drops no other line,
// and is done at once.
func FuzzKnownHosts(f *testing.F) {
	f.Add([]byte("a,b ssh-ed25519 AAAA\n# c\nd ssh-rsa AAAA"))
	f.Fuzz(func(t *testing.T, text []byte) {
		once := withoutHosts(text, []string{"a"})
		if !bytes.Equal(withoutHosts(once, []string{"a"}), once) {
			t.Errorf("not idempotent: %q", text)
		}
	})
}

// FuzzHostKeys: outside bytes are keys or an error.
func FuzzHostKeys(f *testing.F) {
	f.Add("ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ8kPRyhMBU0PYi1YJEXhMNs9MAHRpBpXN7lVEdj3Jw2 x")
	f.Fuzz(func(t *testing.T, line string) {
		keys, err := parseHostKeys([]string{line})
		if err == nil && (len(keys) != 1 || strings.ContainsAny(authorizedLine(keys[0]), "\r\n") || len(keys.algorithms()) == 0) {
			t.Errorf("%q: %v", line, keys)
		}
	})
}
