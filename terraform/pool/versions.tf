terraform {
  required_version = ">= 1.5"

  required_providers {
    exoscale = {
      source = "exoscale/exoscale"
    }
  }
}
