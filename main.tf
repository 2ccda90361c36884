# The whole service from a key and a secret: a pool of web servers that scales itself.
#
#   users ── NLB :80 ── members :8080        monitoring: Prometheus, alerts, the two agents
#
# The pool's size belongs to the autoscaler from its first minute on.

locals {
  endpoint = coalesce(trimsuffix(var.agents_api_endpoint, "/"), "https://api-${var.zone}.exoscale.com/v2")
}

data "exoscale_template" "debian" {
  zone = var.zone
  name = var.template
}

module "userdata" {
  source = "./terraform/userdata"

  zone                 = var.zone
  endpoint             = local.endpoint
  alerting             = var.alerting
  pool_id              = module.pool.id
  servicediscovery_key = module.access.servicediscovery
  autoscaler_key       = module.access.autoscaler
  grafana_password     = local.grafana_password
  slowapp_environment  = var.slowapp_environment
  ssh_public_key       = var.ssh_public_key
  bundle_file          = var.bundle_file
  prices               = local.priced ? { base = local.base_per_hour, member = local.member_per_hour } : null

  policy = {
    min_size     = var.min_size
    max_size     = local.max_size
    interval_s   = var.interval_s
    cooldown_s   = var.cooldown_s
    intent_ttl_s = var.intent_ttl_s
  }
}

module "pool" {
  source = "./terraform/pool"

  name                         = var.name
  zone                         = var.zone
  template_id                  = data.exoscale_template.debian.id
  instance_type                = var.member_instance_type
  disk_gib                     = var.disk_gib
  initial_size                 = var.min_size
  user_data                    = module.userdata.member
  monitoring_security_group_id = module.monitoring.security_group_id
  operator_cidr                = var.operator_cidr
  ssh                          = var.ssh_public_key != ""

  depends_on = [terraform_data.sizes]
}

module "loadbalancer" {
  source = "./terraform/loadbalancer"

  name    = var.name
  zone    = var.zone
  pool_id = module.pool.id
}

module "access" {
  source = "./terraform/access"

  name    = var.name
  pool_id = module.pool.id
}

module "monitoring" {
  source = "./terraform/monitoring"

  name          = var.name
  zone          = var.zone
  template_id   = data.exoscale_template.debian.id
  instance_type = var.monitoring_instance_type
  disk_gib      = var.disk_gib
  user_data     = module.userdata.monitoring
  operator_cidr = var.operator_cidr
  grafana       = var.alerting == "grafana"
  ssh           = var.ssh_public_key != ""
  destroy_after = local.destroy_after
}

# A password that nobody chose and only the state knows, without a provider for random numbers.
locals {
  grafana_password = substr(sha256("grafana ${module.access.autoscaler.secret}"), 0, 24)
}
