variable "name" {
  type        = string
  description = "Begins the names of the server and of its security group."
}

variable "zone" {
  type        = string
  description = "Zone of the server."
}

variable "template_id" {
  type        = string
  description = "Template of the server."
}

variable "instance_type" {
  type        = string
  description = "FAMILY.SIZE of the server."
}

variable "disk_gib" {
  type        = number
  description = "Disk in GiB."
}

variable "user_data" {
  type        = string
  description = "Cloud-config, gzip and base64. A change makes a new server."
  sensitive   = true
}

variable "operator_cidr" {
  type        = string
  description = "Who may reach the open ports."
}

variable "grafana" {
  type        = bool
  description = "Whether Grafana's port is open."
}

variable "ssh" {
  type        = bool
  description = "Whether SSH is open."
}

variable "destroy_after" {
  type        = string
  description = "RFC 3339 time at which the stack may be destroyed; empty: never."
}
