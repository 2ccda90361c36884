# What the servers need to know. No provider, no resource: tests evaluate this module alone and
# start servers with exactly what it renders.

variable "pool_id" {
  type        = string
  description = "The pool's id. The members' user-data does not depend on it."
  default     = ""
}

variable "zone" {
  type        = string
  description = "Zone of the pool."
}

variable "endpoint" {
  type        = string
  description = "Base URL of the API as the servers reach it, with its path and without a slash at the end."
}

variable "alerting" {
  type        = string
  description = "Who watches the pool's CPU and calls the autoscaler: grafana or alertmanager."
}

variable "servicediscovery_key" {
  type        = object({ key = string, secret = string })
  description = "API key that may read the pool."
  sensitive   = true
  default     = { key = "", secret = "" }
}

variable "autoscaler_key" {
  type        = object({ key = string, secret = string })
  description = "API key that may read, scale and evict."
  sensitive   = true
  default     = { key = "", secret = "" }
}

variable "grafana_password" {
  type        = string
  description = "Password of Grafana's user admin."
  sensitive   = true
  default     = ""
}

variable "grafana_version" {
  type        = string
  description = "Version of Grafana's package; if it is not to be had, a later one of the same minor version."
  default     = "12.4.12"
}

variable "policy" {
  type = object({
    min_size     = number
    max_size     = number
    interval_s   = number
    cooldown_s   = number
    intent_ttl_s = number
  })
  description = "The autoscaler's policy."
  default     = { min_size = 1, max_size = 10, interval_s = 60, cooldown_s = 0, intent_ttl_s = 900 }
}

variable "prices" {
  type        = object({ base = number, member = number })
  description = "EUR per hour of everything but the members, and of one member; null if not known."
  default     = null
}

variable "refresh_s" {
  type        = number
  description = "Seconds between two looks of the service discovery at the pool."
  default     = 10
}

variable "slowapp_environment" {
  type        = map(string)
  description = "Environment of the web application, such as LOAD_SECONDS."
  default     = {}
}

variable "ssh_public_key" {
  type        = string
  description = "An OpenSSH public key for the user debian; empty for none."
  default     = ""
}

variable "bundle_file" {
  type        = string
  description = "The monitoring server's files; null takes those of this module."
  default     = null
}
