package vm

import (
	"slices"
	"strings"
	"testing"
)

const (
	ed25519Key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGYY87/8Gw40Xz41h2yfnpc1bVfz6E99ydqQDHmq2RZK"
	announced  = "ovsactl-announce 1\nhostkey " + ed25519Key + "\nend\n"
)

func TestAnnouncement(t *testing.T) {
	for name, tt := range map[string]struct {
		text string
		want []string
		err  string
	}{
		"one key":              {announced, []string{ed25519Key}, ""},
		"carriage returns":     {strings.ReplaceAll(announced, "\n", "\r\n"), []string{ed25519Key}, ""},
		"cut off beginning":    {"AIGYY87/8\nend\n" + announced, []string{ed25519Key}, ""},
		"begun again":          {"ovsactl-announce 1\nhostkey " + ed25519Key + "\n" + announced, []string{ed25519Key}, ""},
		"no keys at first":     {"ovsactl-announce 1\nend\n" + announced, []string{ed25519Key}, ""},
		"key twice":            {"ovsactl-announce 1\nhostkey " + ed25519Key + "\nhostkey " + ed25519Key + "\nend\n", []string{ed25519Key}, ""},
		"unknown type":         {"ovsactl-announce 1\nhostkey ssh-new AAAA\nhostkey " + ed25519Key + "\nend\n", []string{ed25519Key}, ""},
		"not at its end":       {strings.TrimSuffix(announced, "end\n"), nil, ""},
		"line that is no key":  {"ovsactl-announce 1\nhello\nend\n", nil, "not a host key"},
		"type that lies":       {"ovsactl-announce 1\nhostkey ssh-rsa " + strings.Fields(ed25519Key)[1] + "\nend\n", nil, "claims"},
		"not base64":           {"ovsactl-announce 1\nhostkey ssh-rsa ???\nend\n", nil, "base64"},
		"option in front":      {"ovsactl-announce 1\nhostkey command=\"x\" " + ed25519Key + "\nend\n", nil, "not a host key"},
		"line without an end":  {strings.Repeat("a", maxAnnounceLine+1), nil, "line over"},
		"lines without an end": {strings.Repeat("noise\n", maxAnnouncement/6+1), nil, "without an end"},
	} {
		for _, size := range []int{1, 7, 1 << 20} { // however it is cut
			var a announcement
			var keys []string
			var err error
			for rest := tt.text; rest != "" && keys == nil && err == nil; {
				n := min(size, len(rest))
				keys, err = a.add([]byte(rest[:n]))
				rest = rest[n:]
			}
			if !slices.Equal(keys, tt.want) || (err == nil) != (tt.err == "") || err != nil && !strings.Contains(err.Error(), tt.err) {
				t.Errorf("%s in pieces of %d: %q, %v", name, size, keys, err)
			}
		}
	}
}

func FuzzAnnouncement(f *testing.F) {
	f.Add([]byte(announced))
	f.Add([]byte("end\novsactl-announce 1\nhostkey ssh-rsa AAAAB3NzaC1yc2E=\nend"))
	f.Fuzz(func(t *testing.T, data []byte) {
		var a announcement
		keys, err := a.add(data)
		if err != nil && keys != nil {
			t.Fatalf("%q and %v", keys, err)
		}
		for _, key := range keys {
			if strings.ContainsAny(key, "\n\r\"") || len(strings.Fields(key)) != 2 {
				t.Fatalf("key %q", key)
			}
		}
	})
}

func TestLastLines(t *testing.T) {
	for text, want := range map[string][]string{
		"":                      nil,
		"a\r\nb\r\nc\r\n":       {"b", "c"},
		"a\nb\n\n\n":            {"a", "b"},
		"only":                  {"only"},
		"one\n\nthree":          {"", "three"},
		"bar 1\rbar 2\r\nend\n": {"bar 1\rbar 2", "end"},
	} {
		if got := lastLines([]byte(text), 2); !slices.Equal(got, want) {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
}
