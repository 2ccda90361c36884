# What the stack may cost, and how long it may live.

locals {
  # EUR per hour without VAT, by Exoscale's public price list of October 2026.
  price_per_hour = {
    "standard.micro"       = 0.00729
    "standard.tiny"        = 0.01458
    "standard.small"       = 0.02333
    "standard.medium"      = 0.04666
    "standard.large"       = 0.09333
    "standard.extra-large" = 0.18667
    "standard.huge"        = 0.37334
    "standard.mega"        = 0.74667
    "standard.titan"       = 1.49333
    "standard.jumbo"       = 2.24
    "standard.colossus"    = 2.98666
    "cpu.extra-large"      = 0.23333
    "memory.extra-large"   = 0.14
  }
  disk_per_hour         = 0.00014 * var.disk_gib
  loadbalancer_per_hour = 0.03472
  hours_per_month       = 730

  limited         = var.budget_eur_per_month > 0
  priced          = alltrue([for type in [var.member_instance_type, var.monitoring_instance_type] : contains(keys(local.price_per_hour), type)])
  member_per_hour = lookup(local.price_per_hour, var.member_instance_type, 1) + local.disk_per_hour
  base_per_hour   = local.loadbalancer_per_hour + lookup(local.price_per_hour, var.monitoring_instance_type, 1) + local.disk_per_hour
  # The tolerance keeps a budget of exactly n members from counting as n - 1.
  affordable = floor((var.budget_eur_per_month / local.hours_per_month - local.base_per_hour) / local.member_per_hour + 0.000001)
  max_size   = local.limited ? min(var.max_size, local.affordable) : var.max_size

  destroy_after = var.time_to_live_h > 0 ? timeadd(terraform_data.created.output, "${var.time_to_live_h}h") : ""
}

# Made before the pool, so that nothing is created when the limits cannot hold.
resource "terraform_data" "sizes" {
  input = { min = var.min_size, max = local.max_size }

  lifecycle {
    precondition {
      condition     = can(regex("^[!-~]{8,}$", var.exoscale_secret))
      error_message = "exoscale_secret must be the secret of the API key: at least 8 printable characters without blanks. Copy it again."
    }
    precondition {
      condition     = (var.agents_key == "") == (var.agents_secret == "")
      error_message = "agents_key and agents_secret belong together: set both, or neither for keys that this stack makes."
    }
    precondition {
      condition     = can(regex("^(EXO[0-9A-Za-z]+)?$", var.agents_key))
      error_message = "agents_key must be an API key: EXO and letters or digits. Make one with compute in the portal under IAM, API keys."
    }
    precondition {
      condition     = can(regex("^([!-~]{8,})?$", var.agents_secret))
      error_message = "agents_secret must be the secret of agents_key: at least 8 printable characters without blanks. Copy it again."
    }
    precondition {
      condition     = var.max_size >= var.min_size
      error_message = "max_size (${var.max_size}) must be at least min_size (${var.min_size})."
    }
    precondition {
      condition     = !local.limited || local.priced
      error_message = "budget_eur_per_month needs a known price of ${var.member_instance_type} and ${var.monitoring_instance_type}; known: ${join(", ", keys(local.price_per_hour))}."
    }
    precondition {
      condition     = !local.limited || local.affordable >= var.min_size
      error_message = "budget_eur_per_month (${var.budget_eur_per_month}) does not pay for min_size (${var.min_size}): at least ${ceil((local.base_per_hour + var.min_size * local.member_per_hour) * local.hours_per_month)} is needed."
    }
  }
}

resource "terraform_data" "created" {
  input = plantimestamp()

  lifecycle {
    ignore_changes = [input]
  }
}
