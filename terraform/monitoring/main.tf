resource "exoscale_security_group" "monitoring" {
  name        = "${var.name}-monitoring"
  description = "monitoring server"
}

locals {
  open_ports = merge(
    { prometheus = 9090, status = 8091 },
    var.grafana ? { grafana = 3000 } : {},
    var.ssh ? { ssh = 22 } : {},
  )
}

# The port of the webhooks is not among them: they come from this server itself.
resource "exoscale_security_group_rule" "operator" {
  for_each = local.open_ports

  security_group_id = exoscale_security_group.monitoring.id
  description       = each.key
  type              = "INGRESS"
  protocol          = "TCP"
  cidr              = var.operator_cidr
  start_port        = each.value
  end_port          = each.value
}

# cloud-init acts on user-data once in a server's life, so that other user-data needs another server.
resource "terraform_data" "user_data" {
  input = sha256(var.user_data)
}

resource "exoscale_compute_instance" "monitoring" {
  zone               = var.zone
  name               = "${var.name}-monitoring"
  template_id        = var.template_id
  type               = var.instance_type
  disk_size          = var.disk_gib
  security_group_ids = [exoscale_security_group.monitoring.id]
  user_data          = var.user_data
  labels = merge(
    { role = "monitoring", stack = var.name },
    var.destroy_after == "" ? {} : { destroy-after = replace(var.destroy_after, ":", "-") },
  )

  lifecycle {
    replace_triggered_by = [terraform_data.user_data]
  }
}
