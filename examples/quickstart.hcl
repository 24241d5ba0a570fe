# Two guests with virtual TPMs bound to this host's TPM:
#
#   ovsactl plan  roles.hcl     what would be done
#   ovsactl apply roles.hcl     do it; a second run changes nothing
#
# A guest needs little to start with. For real models, give it what the guide
# does: cpus = 8 and memory = "4GiB", here or with --var memory=4GiB.

variable "cpus" {
  description = "processors of each guest"
  type        = number
  default     = 2
}

variable "memory" {
  description = "memory of each guest"
  type        = string
  default     = "1GiB"
}

variable "disk" {
  description = "size of each guest's disk; it takes what is written to it"
  type        = string
  default     = "8GiB"
}

# Where the guests run. These are the defaults: the block can go.
host "local" {
  uri      = "qemu:///system"
  data_dir = "/var/OVSA"
  accel    = "auto" # kvm where it really works, tcg (slow) elsewhere
}

# What their disks start from: built once from Debian packages. Any cloud image
# works, too: see examples/cloud-image.hcl.
image "debian" {
  build {
    suite = "trixie"
  }
}

# The model developer and software vendor: protects models, sells licences.
role "isv_dev" {
  image  = image.debian
  cpus   = var.cpus
  memory = var.memory
  disk   = var.disk

  network "default" {
    address = "192.168.122.20"
  }

  component "developer" {}
  component "license_server" {
    port = 4452
  }
}

# The user: serves a licensed model, and stops when the licence does.
role "runtime" {
  image  = image.debian
  cpus   = var.cpus
  memory = var.memory
  disk   = var.disk

  network "default" {
    address = "192.168.122.30"
  }

  component "model_hosting" {}
}
