# The whole stack: a pool that something else scales, a load balancer in front of it, a server that
# watches it, and a key that may do no more than look at this pool and change its size.
# Credentials and addresses come from the environment: see docs/guides/terraform-and-exo.md.

terraform {
  required_providers {
    exoscale = {
      source  = "exoscale/exoscale"
      version = ">= 0.63.0" # the first that has ssh_keys
    }
  }
}

variable "zone" {
  type    = string
  default = "at-vie-1"
}

variable "template" {
  type    = string
  default = "Linux Debian 12 (Bookworm) 64-bit"
}

variable "size" {
  description = "Members at the start; the autoscaler decides later."
  type        = number
  default     = 1
}

variable "app_port" {
  type    = number
  default = 8080
}

variable "member_type" {
  type    = string
  default = "standard.micro"
}

variable "monitoring_type" {
  type    = string
  default = "standard.small"
}

variable "release" {
  description = "Part of the members' user-data: new members come up with it."
  type        = string
  default     = "first"
}

variable "check_interval_s" {
  type    = number
  default = 10
}

data "exoscale_zones" "known" {}

data "exoscale_template" "linux" {
  zone = var.zone
  name = var.template
}

resource "exoscale_ssh_key" "operator" {
  name       = "operator"
  public_key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIB0ZZGtPqzAFd4WvUwQZrVYq3m0PzQW0q9pYy5dWm8sK operator"
}

resource "exoscale_anti_affinity_group" "members" {
  name        = "members"
  description = "no two members on one hypervisor"
}

resource "exoscale_security_group" "members" {
  name        = "members"
  description = "the pool"
}

resource "exoscale_security_group" "watchers" {
  name = "watchers"
}

# Users come through the load balancer with their own addresses. Rules of one group that are alike
# need descriptions: providers before 0.69 would take one for another.
resource "exoscale_security_group_rule" "app" {
  security_group_id = exoscale_security_group.members.id
  description       = "users"
  type              = "INGRESS"
  protocol          = "TCP"
  cidr              = "0.0.0.0/0"
  start_port        = var.app_port
  end_port          = var.app_port
}

resource "exoscale_security_group_rule" "health_checks" {
  security_group_id     = exoscale_security_group.members.id
  description           = "checks of the load balancer"
  type                  = "INGRESS"
  protocol              = "TCP"
  public_security_group = "public-nlb-healthcheck-sources"
  start_port            = var.app_port
  end_port              = var.app_port
}

resource "exoscale_security_group_rule" "exporter" {
  security_group_id      = exoscale_security_group.members.id
  description            = "the watcher reads metrics"
  type                   = "INGRESS"
  protocol               = "TCP"
  user_security_group_id = exoscale_security_group.watchers.id
  start_port             = 9100
  end_port               = 9100
}

resource "exoscale_security_group_rule" "echo" {
  security_group_id = exoscale_security_group.members.id
  type              = "INGRESS"
  protocol          = "ICMP"
  cidr              = "0.0.0.0/0"
  icmp_type         = 8
  icmp_code         = 0
}

resource "exoscale_security_group_rule" "watcher" {
  for_each = {
    grafana    = 3000
    prometheus = 9090
    shell      = 22
  }

  security_group_id = exoscale_security_group.watchers.id
  description       = each.key
  type              = "INGRESS"
  protocol          = "TCP"
  cidr              = "0.0.0.0/0"
  start_port        = each.value
  end_port          = each.value
}

resource "exoscale_instance_pool" "members" {
  zone                    = var.zone
  name                    = "members"
  description             = "scaled by exotide"
  template_id             = data.exoscale_template.linux.id
  instance_type           = var.member_type
  instance_prefix         = "member"
  disk_size               = 10
  size                    = var.size
  key_pair                = exoscale_ssh_key.operator.name
  security_group_ids      = [exoscale_security_group.members.id]
  anti_affinity_group_ids = [exoscale_anti_affinity_group.members.id]
  labels                  = { role = "member" }

  user_data = <<-EOT
    #cloud-config
    write_files:
      - path: /srv/slowapp/release
        content: ${var.release}
  EOT

  # Without this, each apply would undo what the autoscaler did.
  lifecycle {
    ignore_changes = [size]
  }
}

resource "exoscale_nlb" "entry" {
  zone        = var.zone
  name        = "entry"
  description = "what users connect to"
  labels      = { tier = "edge" }
}

resource "exoscale_nlb_service" "app" {
  zone             = var.zone
  nlb_id           = exoscale_nlb.entry.id
  instance_pool_id = exoscale_instance_pool.members.id
  name             = "app"
  description      = "the application"
  protocol         = "tcp"
  port             = 80
  target_port      = var.app_port
  strategy         = "round-robin"

  healthcheck {
    mode     = "http"
    port     = var.app_port
    uri      = "/health"
    interval = var.check_interval_s
    timeout  = 3
    retries  = 2
  }
}

resource "exoscale_compute_instance" "monitoring" {
  zone               = var.zone
  name               = "monitoring"
  template_id        = data.exoscale_template.linux.id
  type               = var.monitoring_type
  disk_size          = 10
  ssh_keys           = [exoscale_ssh_key.operator.name]
  security_group_ids = [exoscale_security_group.watchers.id]
  labels             = { role = "monitoring" }

  user_data = <<-EOT
    #cloud-config
    write_files:
      - path: /srv/exotide/pool
        content: ${exoscale_instance_pool.members.id}
  EOT
}

output "address" {
  value = exoscale_nlb.entry.ip_address
}

output "monitoring_address" {
  value = exoscale_compute_instance.monitoring.public_ip_address
}

output "pool_id" {
  value = exoscale_instance_pool.members.id
}

output "zones" {
  value = data.exoscale_zones.known.zones
}
