terraform {
  required_version = ">= 1.5"

  required_providers {
    exoscale = {
      source = "exoscale/exoscale"
      # Only what 0.60 and 0.74 have in common is used.
      version = ">= 0.60.0, < 1.0.0"
    }
  }
}

provider "exoscale" {
  key    = var.exoscale_key
  secret = var.exoscale_secret
}
