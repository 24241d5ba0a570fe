# A guest from a distribution's cloud image, set up by cloud-init.
#
# The checksum is not optional: take it from where the publisher lists it, and
# write it here as the default or give it with
#
#   ovsactl apply --var sha256=DIGEST cloud-image.hcl

variable "url" {
  type    = string
  default = "https://cloud-images.ubuntu.com/releases/noble/release/ubuntu-24.04-server-cloudimg-amd64.img"
}

variable "sha256" {
  description = "of the file at that address, from the SHA256SUMS beside it"
  type        = string
}

image "noble" {
  source = var.url
  sha256 = var.sha256
}

role "runtime" {
  image  = image.noble
  cpus   = 2
  memory = "2GiB"

  component "model_hosting" {}

  # Somebody else's tarball with an install.sh:
  # component "my_model" {
  #   path    = "my-model.tar.gz"
  #   timeout = "20m"
  # }
}
