variable "exoscale_key" {
  type        = string
  description = "API key that may create everything below; it never reaches a server."
  sensitive   = true
  nullable    = false

  validation {
    condition     = can(regex("^EXO[0-9A-Za-z]+$", var.exoscale_key))
    error_message = "exoscale_key must be an API key: EXO and letters or digits. Make one in the portal under IAM, API keys."
  }
}

# What it looks like is checked in limits.tf: a validation here would print it.
variable "exoscale_secret" {
  type        = string
  description = "Secret of that key."
  sensitive   = true
  nullable    = false
}

# Both look like exoscale_key and exoscale_secret; limits.tf checks them, which never prints a secret.
variable "agents_key" {
  type        = string
  description = "API key that the agents on the monitoring server use, with agents_secret. Empty: each gets a key of its own, for which exoscale_key needs iam."
  sensitive   = true
  default     = ""
  nullable    = false
}

variable "agents_secret" {
  type        = string
  description = "Secret of agents_key."
  sensitive   = true
  default     = ""
  nullable    = false
}

variable "agents_one_pool" {
  type        = bool
  description = "Whether the agents' own keys are good for this stack's pool alone. false: for any pool, should the cloud refuse them their own."
  default     = true
  nullable    = false
}

variable "name" {
  type        = string
  description = "Begins the name of each resource. Two stacks in one account need two names."
  default     = "exotide"
  nullable    = false

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{0,19}$", var.name))
    error_message = "name must have 1 to 20 small letters, digits or dashes and begin with a letter."
  }
}

variable "zone" {
  type        = string
  description = "Zone of the servers and of the load balancer."
  default     = "at-vie-1"
  nullable    = false

  validation {
    condition     = can(regex("^[a-z]{2}-[a-z]{2,4}-[0-9]{1,2}$", var.zone))
    error_message = "zone must look like at-vie-1, ch-dk-2 or de-fra-1."
  }
}

variable "template" {
  type        = string
  description = "Name of a public template of the zone: a Debian with cloud-init and Python 3.11 or newer."
  default     = "Linux Debian 12 (Bookworm) 64-bit"
  nullable    = false

  validation {
    condition     = length(trimspace(var.template)) > 0
    error_message = "template must be the name of a template, such as: Linux Debian 12 (Bookworm) 64-bit."
  }
}

variable "member_instance_type" {
  type        = string
  description = "Instance type of the pool's members."
  default     = "standard.micro"
  nullable    = false

  validation {
    condition     = can(regex("^[a-z0-9-]+\\.[a-z0-9-]+$", var.member_instance_type))
    error_message = "member_instance_type must be FAMILY.SIZE, such as standard.micro."
  }
}

variable "monitoring_instance_type" {
  type        = string
  description = "Instance type of the monitoring server; Grafana and Prometheus want 2 GiB."
  default     = "standard.small"
  nullable    = false

  validation {
    condition     = can(regex("^[a-z0-9-]+\\.[a-z0-9-]+$", var.monitoring_instance_type))
    error_message = "monitoring_instance_type must be FAMILY.SIZE, such as standard.small."
  }
}

variable "disk_gib" {
  type        = number
  description = "Disk of each server in GiB."
  default     = 10
  nullable    = false

  validation {
    condition     = var.disk_gib >= 10 && var.disk_gib <= 400 && floor(var.disk_gib) == var.disk_gib
    error_message = "disk_gib must be a whole number from 10 to 400."
  }
}

variable "min_size" {
  type        = number
  description = "The pool never gets smaller, and starts with this size."
  default     = 1
  nullable    = false

  validation {
    condition     = var.min_size >= 1 && floor(var.min_size) == var.min_size
    error_message = "min_size must be a whole number of at least 1."
  }
}

variable "max_size" {
  type        = number
  description = "The pool never gets larger. Members and the monitoring server count towards the account's quota of instances."
  default     = 10
  nullable    = false

  validation {
    condition     = var.max_size >= 1 && var.max_size <= 1000 && floor(var.max_size) == var.max_size
    error_message = "max_size must be a whole number from 1 to 1000."
  }
}

variable "alerting" {
  type        = string
  description = "Who watches the pool's CPU and calls the autoscaler: grafana or alertmanager."
  default     = "grafana"
  nullable    = false

  validation {
    condition     = contains(["grafana", "alertmanager"], var.alerting)
    error_message = "alerting must be grafana or alertmanager."
  }
}

variable "grafana_version" {
  type        = string
  description = "Version of Grafana; its package comes from Grafana's repository. If that has it no longer, a later patch is taken."
  default     = "12.4.12"
  nullable    = false

  validation {
    condition     = can(regex("^[0-9]+\\.[0-9]+\\.[0-9][0-9a-z.+~-]*$", var.grafana_version))
    error_message = "grafana_version must be a version such as 12.4.12."
  }
}

variable "operator_cidr" {
  type        = string
  description = "Who may open Grafana, Prometheus and the autoscaler's status. The default lets the whole world read Prometheus: set your own address, such as 192.0.2.7/32."
  default     = "0.0.0.0/0"
  nullable    = false

  validation {
    condition     = try(cidrsubnet(var.operator_cidr, 0, 0) == var.operator_cidr, false)
    error_message = "operator_cidr must be a network without host bits, such as 192.0.2.7/32 or 192.0.2.0/24."
  }
}

variable "ssh_public_key" {
  type        = string
  description = "An OpenSSH public key; with one, the user debian may log in from operator_cidr."
  default     = ""
  nullable    = false

  validation {
    condition     = var.ssh_public_key == "" || can(regex("^(ssh|ecdsa|sk)-[a-z0-9@.-]+ [A-Za-z0-9+/=]+( [^\\n]*)?\\n?$", var.ssh_public_key))
    error_message = "ssh_public_key must be a line such as: ssh-ed25519 AAAA... name."
  }
}

variable "interval_s" {
  type        = number
  description = "Seconds between two passes of the autoscaler: at most one change in this time."
  default     = 60
  nullable    = false

  validation {
    condition     = var.interval_s >= 1 && var.interval_s <= 86400
    error_message = "interval_s must be from 1 to 86400 seconds."
  }
}

variable "cooldown_s" {
  type        = number
  description = "Seconds of further rest after a change."
  default     = 0
  nullable    = false

  validation {
    condition     = var.cooldown_s >= 0 && var.cooldown_s <= 86400
    error_message = "cooldown_s must be from 0 to 86400 seconds."
  }
}

variable "intent_ttl_s" {
  type        = number
  description = "Seconds that a webhook's request may wait before it expires."
  default     = 900
  nullable    = false

  validation {
    condition     = var.intent_ttl_s >= 1 && var.intent_ttl_s <= 86400
    error_message = "intent_ttl_s must be from 1 to 86400 seconds."
  }
}

variable "budget_eur_per_month" {
  type        = number
  description = "What the stack may cost in 730 hours at its largest, without VAT and traffic; it lowers max_size. 0: no limit."
  default     = 0
  nullable    = false

  validation {
    condition     = var.budget_eur_per_month >= 0
    error_message = "budget_eur_per_month must be 0 (no limit) or more."
  }
}

variable "time_to_live_h" {
  type        = number
  description = "Hours after which `exotide up` destroys the stack; Terraform alone only shows when. 0: never."
  default     = 0
  nullable    = false

  validation {
    condition     = var.time_to_live_h >= 0 && var.time_to_live_h <= 8760
    error_message = "time_to_live_h must be from 0 (never) to 8760 hours."
  }
}

variable "slowapp_environment" {
  type        = map(string)
  description = "Environment of the web application, such as { LOAD_SECONDS = \"5\" }."
  default     = {}
  nullable    = false

  validation {
    condition     = alltrue([for name, value in var.slowapp_environment : can(regex("^[A-Za-z_][A-Za-z0-9_]*$", name)) && can(regex("^[^\\x00-\\x08\\x0a-\\x1f\\x7f]*$", value))])
    error_message = "slowapp_environment needs names of letters, digits and _, and values of one line without control characters."
  }
}

variable "agents_api_endpoint" {
  type        = string
  description = "Base URL of the API as the servers reach it. Empty: the zone's own. Only a local cloud needs it."
  default     = ""
  nullable    = false

  validation {
    condition     = var.agents_api_endpoint == "" || can(regex("^https?://[!-~]+$", var.agents_api_endpoint)) && !can(regex("[\"'`\\\\]", var.agents_api_endpoint))
    error_message = "agents_api_endpoint must be a URL such as http://198.18.0.1:8480/v2."
  }
}

variable "bundle_file" {
  type        = string
  description = "The monitoring server's files instead of those of this repository. Only tests need it."
  default     = null
}
