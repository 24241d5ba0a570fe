package licensing

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"testing"
)

// However something that has a secret is printed or logged, no part of the secret is
// in it, however that is spelt: see Key's and KeyStore's formatting.
func TestSecretsInAnySpelling(t *testing.T) {
	key := NewKey()
	ks, _, _ := newStore(t, newBox())
	scalar, err := ks.Key(Primary).Bytes()
	if err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		what   any
		secret []byte
	}{
		"a key":              {key, key.Bytes()},
		"a pointer to it":    {&key, key.Bytes()},
		"in a struct":        {struct{ K Key }{key}, key.Bytes()},
		"in a slice":         {[]Key{key}, key.Bytes()},
		"a key store's":      {ks, ks.key.Bytes()},
		"a key store itself": {*ks, ks.key.Bytes()},
		"one of its keys":    {ks, scalar},
	} {
		var log bytes.Buffer
		slog.New(slog.NewTextHandler(&log, nil)).Info("x", "x", tt.what)
		slog.New(slog.NewJSONHandler(&log, nil)).Info("x", "x", tt.what)
		encoded, _ := json.Marshal(tt.what)
		said := log.String() + string(encoded) + fmt.Sprint(tt.what)
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x", "%X", "%q", "%d", "%c", "%p"} {
			said += fmt.Sprintf(verb, tt.what)
		}
		part := tt.secret[:8]
		for spelling, text := range map[string]string{
			"bytes": string(part), "hex": fmt.Sprintf("%x", part), "upper-case hex": fmt.Sprintf("%X", part),
			"decimal": strings.Trim(fmt.Sprintf("%d", part), "[]"), "base64": base64.StdEncoding.EncodeToString(part[:6]), "quoted": strings.Trim(strconv.Quote(string(part)), `"`),
		} {
			if strings.Contains(said, text) {
				t.Errorf("%s is printed in %s", name, spelling)
			}
		}
	}
}
