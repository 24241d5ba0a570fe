package installer

import (
	"bytes"
	"strings"
	"testing"
)

const sum = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

// whole is a manifest with these lines.
func whole(lines ...string) string {
	return "ovsa-manifest 1\ncomponent developer 1.0\n" + strings.Join(append(lines, "end", ""), "\n")
}

func TestParseManifest(t *testing.T) {
	for name, tt := range map[string]struct{ text, fails string }{
		"least": {whole(), ""},
		"all":   {whole("dir 0755 root /opt/ovsa", "dir 1770 root:ovsa /opt/ovsa/DB", "dir 0700 ovsa /opt/ovsa/certs", "file "+sum+" 0755 /opt/ovsa/bin/x"), ""},
		"unit":  {whole("dir 0755 root /usr/local/lib/systemd/system", "file "+sum+" 0644 /usr/local/lib/systemd/system/license_server.service"), ""},
		"more": {whole("user ovsa-engine", "need nginx-light /usr/sbin/nginx", "want libonnxruntime1.21 /usr/lib/libonnxruntime.so.1.21", "dir 0755 root /opt/ovsa",
			"file "+sum+" 0644 /usr/local/lib/systemd/system/ovsaruntime.service", "config "+sum+" 0644 /opt/ovsa/sample.json", "unit ovsaruntime.service"), ""},
		"another user":        {whole("user daemon"), `the user "daemon" is none for components`},
		"a need of no file":   {whole("need nginx-light"), "it says nothing"},
		"a need like options": {whole("need nginx;x /usr/sbin/nginx"), "no package"},
		"a relative need":     {whole("need nginx-light nginx"), "no package"},
		"a unit of others":    {whole("unit sshd.service"), `the unit "sshd.service" is not among the files`},
		"a config elsewhere":  {whole("config " + sum + " 0644 /etc/sample.json"), "none for components"},
		"a config and a file": {whole("file "+sum+" 0644 /opt/ovsa/x", "config "+sum+" 0644 /opt/ovsa/x"), "twice"},
		"empty":               {"", "another version"},
		"another version":     {strings.Replace(whole(), "manifest 1", "manifest 2", 1), "another version"},
		"cut":                 {strings.TrimSuffix(whole(), "end\n"), "not whole"},
		"cut in the end":      {strings.TrimSuffix(whole(), "\n"), "not whole"},
		"no component":        {"ovsa-manifest 1\ndir 0755 root /opt/ovsa\nend\n", "not written"},
		"nothing":             {"ovsa-manifest 1\nend\n", "not whole"},
		"odd component":       {strings.Replace(whole(), "developer", "../developer", 1), "line 2: no name"},
		"odd version":         {strings.Replace(whole(), "1.0", "1/0", 1), "line 2: no name"},
		"two components":      {whole("component other 1.0"), "not written"},
		"unknown line":        {whole("link /opt/ovsa/a /opt/ovsa/b"), "line 3: it says nothing"},
		"a word more":         {whole("dir 0755 root /opt/ovsa /etc"), "line 3: it says nothing"},
		"unknown owner":       {whole("dir 0755 daemon /opt/ovsa"), `the owner "daemon"`},
		"no mode":             {whole("dir rwx root /opt/ovsa"), `the mode "rwx"`},
		"mode too large":      {whole("dir 10755 root /opt/ovsa"), `the mode "10755"`},
		"mode written short":  {whole("dir 755 root /opt/ovsa"), "not written"},
		"no digest":           {whole("file " + sum[2:] + " 0644 /opt/ovsa/x"), "no SHA-256"},
		"files before dirs":   {whole("file "+sum+" 0644 /opt/ovsa/x", "dir 0755 root /opt/ovsa"), "not written"},
		"elsewhere":           {whole("file " + sum + " 0644 /etc/passwd"), "none for components"},
		"a name alike":        {whole("dir 0755 root /opt/ovsaother"), "none for components"},
		"another unit":        {whole("file " + sum + " 0644 /usr/local/lib/systemd/system/sshd.service"), "none for components"},
		"a drop-in":           {whole("dir 0755 root /usr/local/lib/systemd/system/license_server.service/x"), "none for components"},
		"climbs":              {whole("file " + sum + " 0644 /opt/ovsa/../../etc/passwd"), "the path"},
		"climbs in the end":   {whole("dir 0755 root /opt/ovsa/.."), "the path"},
		"two slashes":         {whole("dir 0755 root /opt/ovsa//x"), "the path"},
		"relative":            {whole("dir 0755 root opt/ovsa"), "none for components"},
		"a pattern":           {whole("dir 0755 root /opt/ovsa/*"), "the path"},
		"the same file twice": {whole("file "+sum+" 0644 /opt/ovsa/x", "file "+sum+" 0755 /opt/ovsa/x"), "twice"},
		"too large":           {whole(strings.Repeat("x", maxManifest)), "is over"},
	} {
		m, err := ParseManifest([]byte(tt.text))
		switch {
		case tt.fails == "" && err != nil:
			t.Errorf("%s: %v", name, err)
		case tt.fails != "" && (err == nil || !strings.Contains(err.Error(), tt.fails)):
			t.Errorf("%s: got %+v, %v, want %q", name, m, err, tt.fails)
		}
	}
}

// FuzzParseManifest: what is accepted is what would be written, below the
// directories of components.
func FuzzParseManifest(f *testing.F) {
	f.Add([]byte(whole("dir 1770 root:ovsa /opt/ovsa/DB", "file "+sum+" 0755 /opt/ovsa/bin/x")))
	f.Add([]byte(whole("user ovsa-engine", "need nginx-light /usr/sbin/nginx", "want x /y", "file "+sum+" 0644 /usr/local/lib/systemd/system/ovsaruntime.service", "config "+sum+" 0644 /opt/ovsa/c", "unit ovsaruntime.service")))
	f.Fuzz(func(t *testing.T, text []byte) {
		m, err := ParseManifest(text)
		if err != nil {
			return
		}
		if !bytes.Equal(m.Encode(), text) {
			t.Errorf("%q is written as %q", text, m.Encode())
		}
		for _, file := range m.Files {
			if !strings.HasPrefix(file.Path, "/opt/ovsa/") && !strings.HasPrefix(file.Path, "/usr/local/lib/systemd/system/") || strings.Contains(file.Path, "..") && checkPath(file.Path) != nil {
				t.Errorf("a file at %q", file.Path)
			}
		}
	})
}
