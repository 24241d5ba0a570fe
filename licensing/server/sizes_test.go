package server_test

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"github.com/ovsactl/ovsactl/licensing"
	"github.com/ovsactl/ovsactl/licensing/exchange"
	"github.com/ovsactl/ovsactl/licensing/server"
)

// No more of a request is read than one of its kind can have, whatever comes.
func TestRequestsThatAreTooLong(t *testing.T) {
	s := sell(t, licensing.Terms{Type: licensing.Sale}, server.Options{})
	captured := map[string]any{
		exchange.PathBegin: exchange.Begin{
			Licence: s.licence.LicenceGUID, Model: s.licence.ModelGUID, Customer: []byte{1}, AK: []byte{1}, EKs: [][]byte{{1}}, ReleaseKey: []byte{1},
		},
		exchange.PathFinish: s.capture(t),
		exchange.PathRenew:  exchange.Renew{Lease: strings.Repeat("0a", 16), Guest: "00", MAC: make([]byte, 32)},
		exchange.PathEnd:    exchange.Renew{Lease: strings.Repeat("0a", 16), Guest: "00", MAC: make([]byte, 32)},
	}
	for path, limit := range map[string]int{
		exchange.PathBegin: exchange.MaxBegin, exchange.PathFinish: exchange.MaxFinish,
		exchange.PathRenew: exchange.MaxRenew, exchange.PathEnd: exchange.MaxRenew,
	} {
		body, err := json.Marshal(captured[path])
		if err != nil {
			t.Fatal(err)
		}
		for size, want := range map[int]bool{limit: true, limit + 1: false} {
			rsp := post(t, s, "127.0.0.1", path, string(body)+strings.Repeat(" ", size-len(body)))
			if read := rsp.StatusCode != http.StatusBadRequest; read != want {
				t.Errorf("%s of %d bytes: %s", path, size, rsp.Status)
			}
		}
	}
}
