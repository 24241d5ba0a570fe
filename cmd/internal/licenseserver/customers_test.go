package licenseserver_test

import (
	"bytes"
	"errors"
	"os/exec"
	"testing"

	"github.com/ovsactl/ovsactl/licensing"
	"github.com/ovsactl/ovsactl/licensing/client"
	"github.com/ovsactl/ovsactl/licensing/exchange"
	"github.com/ovsactl/ovsactl/licensing/licensetest"
	"github.com/ovsactl/ovsactl/licensing/postgres/postgrestest"
	"github.com/ovsactl/ovsactl/vtpm"
)

// TestTwoCustomers is the guide's licensing half with two customers of one model and
// two servers on one database. One server dies. Neither customer notices that, nor
// what becomes of the other's licence.
func TestTwoCustomers(t *testing.T) {
	pg := postgrestest.Start(t)
	pg.Create(t, "ovsa")
	db := pg.URL("ovsa")
	g := newGuide(t)
	second := licensetest.FreeAddress(t)
	g.stopServer()
	var servers []*exec.Cmd
	for _, address := range []string{g.address, second} {
		servers = append(servers, g.processAt(address, db))
	}

	vm := vtpm.Identity{UUID: "7a1d4c1e-52ab-4b07-9c55-0d6b1f3f0a12", Name: "ovsa_runtime"}
	bobs := g.startGuest(vm)
	g.customer("bob", bobs)
	g.tool(g.isv, "licgen -t InstanceLimit -l 1 -n One -v 1.0 -u "+g.address+" @certs/server.crt -u "+second+" @certs/server.crt -k @isv_keystore -o @one.config")
	users := map[string]*user{"cust": {t: t, path: g.runtime, host: g.port(g.guestVM)}, "bob": {t: t, path: bobs, host: g.port(vm)}}
	for name, u := range users {
		g.tool(g.isv, "sale -m @face.masterlic -k @isv_keystore -l @one.config -t @runtime.tcb -p @primary_"+name+".csr.crt -c @"+name+".lic")
		g.stored(name, name, db)
		u.licence, u.customer = g.boughtBy(name, u.path, name+".lic")
		u.open()
	}
	acquire := func(u *user, l licensing.Licence) (*client.Lease, error) {
		return client.Acquire(t.Context(), l, u.customer, client.Options{TPM: u.tpm, Host: u.host, Rounds: 1})
	}
	leases := map[string]*client.Lease{}
	models := func() {
		t.Helper()
		for name, u := range users {
			lease, err := acquire(u, u.licence)
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			t.Cleanup(lease.Close)
			leases[name] = lease
			for file, want := range g.decrypt(t, lease.Key()) {
				if !bytes.Equal(want, g.files[file]) {
					t.Errorf("%s: %s has %d other bytes", name, file, len(want))
				}
			}
		}
	}
	models()
	if err := servers[0].Process.Kill(); err != nil {
		t.Fatal(err)
	}
	servers[0].Wait()
	for name, lease := range leases {
		if err := lease.Renew(t.Context()); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if err := lease.End(t.Context()); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	models()

	refused := func(err error, want exchange.Code) {
		t.Helper()
		var problem *exchange.Problem
		if !errors.As(err, &problem) || problem.Code != want {
			t.Errorf("%v, want %s", err, want)
		}
	}
	bob := users["bob"]
	if _, err := acquire(bob, users["cust"].licence); err == nil {
		t.Error("another customer's licence gives a key")
	}
	g.server("revoke customer @primary_cust.csr.crt -reason contract -db " + db)
	refused(leases["cust"].Renew(t.Context()), exchange.Revoked)
	if err := leases["bob"].Renew(t.Context()); err != nil {
		t.Error(err)
	}
}
