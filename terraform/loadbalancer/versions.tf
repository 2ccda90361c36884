terraform {
  required_version = ">= 1.5"

  required_providers {
    exoscale = {
      source  = "exoscale/exoscale"
      version = ">= 0.60.0, < 1.0.0"
    }
  }
}
