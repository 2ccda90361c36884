terraform {
  required_version = ">= 1.5"

  required_providers {
    exoscale = {
      source = "exoscale/exoscale"
      # Only what 0.60 and 0.74 have in common is used, but this stack was applied with none above
      # 0.70: raise the bound when a plan after an apply with a newer one is empty. Never 0.73.0, which
      # sees a change of the security groups in each plan. Before 0.69.3 each plan wants to send the
      # servers' user-data again, since these providers forget that it came in base64; that is harmless.
      version = ">= 0.60.0, != 0.73.0, < 0.71.0"
    }
  }
}

provider "exoscale" {
  key    = var.exoscale_key
  secret = var.exoscale_secret
}
