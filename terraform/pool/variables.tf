variable "name" {
  type        = string
  description = "Name of the pool and of its security group's first part."
}

variable "zone" {
  type        = string
  description = "Zone of the pool."
}

variable "template_id" {
  type        = string
  description = "Template of the members."
}

variable "instance_type" {
  type        = string
  description = "FAMILY.SIZE of the members."
}

variable "disk_gib" {
  type        = number
  description = "Disk of each member in GiB."
}

variable "initial_size" {
  type        = number
  description = "Members at creation; from then on the autoscaler owns the size."
}

variable "user_data" {
  type        = string
  description = "Cloud-config of the members, gzip and base64."
}

variable "monitoring_security_group_id" {
  type        = string
  description = "Who may read the node exporter."
}

variable "operator_cidr" {
  type        = string
  description = "Who may log in with SSH."
}

variable "ssh" {
  type        = bool
  description = "Whether SSH is open at all."
}
