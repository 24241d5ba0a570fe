# Two guests on two networks each: behind the host, where they reach each other and
# the host reaches them, and on the host's own network, where other machines do. The
# bridge has to exist: ovsactl never changes the host's interfaces.

# Addresses on the bridge are set in the guests. Without "cidr" they come from that
# network's DHCP server: reserve them there for the guests' hardware addresses.
network "lan" {
  bridge {
    name    = "br0"
    cidr    = "203.0.113.0/24"
    gateway = "203.0.113.1"
    dns     = ["203.0.113.53"]
  }
}

image "debian" {
  build {
    suite = "trixie"
  }
}

role "isv_dev" {
  image  = image.debian
  cpus   = 2
  memory = "2GiB"

  network "default" {
    address = "192.168.122.20"
  }
  network "lan" {
    address = "203.0.113.20"
  }

  component "developer" {}
  component "license_server" {}
}

# What leaves the guest goes over the bridge; apply and ssh use the other network.
role "runtime" {
  image  = image.debian
  cpus   = 2
  memory = "2GiB"

  network "default" {
    address = "192.168.122.30"
  }
  network "lan" {
    address = "203.0.113.30"
  }

  component "model_hosting" {}
}
