resource "exoscale_security_group" "members" {
  name        = "${var.name}-members"
  description = "members of the pool"
}

# The load balancer keeps the client's address: to reach the application through it is to reach
# this port from anywhere. Its own checks come from addresses that Exoscale keeps in a group.
# The descriptions matter: providers before 0.69 tell rules that are made together apart by them.
resource "exoscale_security_group_rule" "application" {
  security_group_id = exoscale_security_group.members.id
  description       = "clients of the load balancer"
  type              = "INGRESS"
  protocol          = "TCP"
  cidr              = "0.0.0.0/0"
  start_port        = 8080
  end_port          = 8080
}

resource "exoscale_security_group_rule" "health_checks" {
  security_group_id     = exoscale_security_group.members.id
  description           = "health checks"
  type                  = "INGRESS"
  protocol              = "TCP"
  public_security_group = "public-nlb-healthcheck-sources"
  start_port            = 8080
  end_port              = 8080
}

resource "exoscale_security_group_rule" "node_exporter" {
  security_group_id      = exoscale_security_group.members.id
  description            = "Prometheus"
  type                   = "INGRESS"
  protocol               = "TCP"
  user_security_group_id = var.monitoring_security_group_id
  start_port             = 9100
  end_port               = 9100
}

resource "exoscale_security_group_rule" "ssh" {
  count = var.ssh ? 1 : 0

  security_group_id = exoscale_security_group.members.id
  description       = "SSH for the operator"
  type              = "INGRESS"
  protocol          = "TCP"
  cidr              = var.operator_cidr
  start_port        = 22
  end_port          = 22
}

resource "exoscale_instance_pool" "members" {
  zone               = var.zone
  name               = var.name
  description        = "the autoscaler owns the size"
  template_id        = var.template_id
  instance_type      = var.instance_type
  disk_size          = var.disk_gib
  size               = var.initial_size
  instance_prefix    = var.name
  security_group_ids = [exoscale_security_group.members.id]
  user_data          = var.user_data
  labels             = { role = "member", stack = var.name }

  lifecycle {
    ignore_changes = [size]
  }
}
