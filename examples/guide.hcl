# The two guests of the OpenVINO Security Add-on guide for KVM, with its sizes,
# hardware addresses and displays. The host needs 8 GiB of memory for them.
#
# A display is a VNC server on the host's loopback, at port 5900 + display. From
# another machine:  ssh -L 5901:127.0.0.1:5901 HOST

variable "cpus" {
  description = "processors of each guest"
  type        = number
  default     = 8
}

variable "memory" {
  description = "memory of each guest"
  type        = string
  default     = "4GiB"
}

# The licence server in isv_dev certifies this host: apply sees to it.
host "local" {
  enroll {
    server = role.isv_dev
  }
}

network "default" {
  nat {
    cidr   = "192.168.122.0/24"
    bridge = "virbr0"
  }
}

image "debian" {
  build {
    suite = "trixie"
  }
}

role "isv_dev" {
  image  = image.debian
  cpus   = var.cpus
  memory = var.memory
  disk   = "20GiB"

  network "default" {
    mac     = "52:54:00:d1:66:5f"
    address = "192.168.122.20"
  }

  vnc {
    display = 1
  }
  vtpm {
    model = "tis"
  }

  component "developer" {}
  component "license_server" {
    port = 4452
  }
}

role "runtime" {
  image  = image.debian
  cpus   = var.cpus
  memory = var.memory
  disk   = "20GiB"

  network "default" {
    mac     = "52:54:00:d1:67:5f"
    address = "192.168.122.30"
  }

  vnc {
    display = 2
  }
  vtpm {
    model = "tis"
  }

  component "model_hosting" {}
}
