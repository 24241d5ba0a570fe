# A guest on the host's own network, reached by other machines. The bridge has
# to exist: ovsactl never changes the host's interfaces.

network "lan" {
  bridge {
    name = "br0"
  }
}

image "debian" {
  build {
    suite = "trixie"
  }
}

# On a bridge the address comes from the network's DHCP server. Reserve it there
# for this hardware address, and say here which it is.
role "isv_dev" {
  image  = image.debian
  cpus   = 2
  memory = "2GiB"

  network "lan" {
    mac     = "52:54:00:d1:66:5f"
    address = "10.0.0.20"
  }

  component "developer" {}
  component "license_server" {}
}
