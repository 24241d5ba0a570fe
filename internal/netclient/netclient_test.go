package netclient

import "testing"

func TestOf(t *testing.T) {
	for _, tt := range []struct{ address, client, site string }{
		{"192.0.2.1:4452", "192.0.2.1/32", "192.0.2.1/32"},
		{"[::ffff:192.0.2.1]:4452", "192.0.2.1/32", "192.0.2.1/32"},
		{"[2001:db8:1:2:3:4:5:6]:1", "2001:db8:1:2::/64", "2001:db8:1::/48"},
		{"[2001:db8:1:2::9]:65535", "2001:db8:1:2::/64", "2001:db8:1::/48"},
		{"[2001:db8:1:3::9]:1", "2001:db8:1:3::/64", "2001:db8:1::/48"},
		{"[fe80::1%eth0]:1", "fe80::/64", "fe80::/48"},
		{"[::1]:1", "::/64", "::/48"},
		{"@", "invalid Prefix", "invalid Prefix"},
		{"", "invalid Prefix", "invalid Prefix"},
	} {
		if client, site := Of(tt.address), Site(tt.address); client.String() != tt.client || site.String() != tt.site {
			t.Errorf("%q: %s of %s, want %s of %s", tt.address, client, site, tt.client, tt.site)
		}
	}
}
