# The whole service from a key and a secret: a pool of web servers that scales itself.
#
#   users ── NLB :80 ── members :8080        monitoring: Prometheus, alerts, the two agents
#
# The pool's size belongs to the autoscaler from its first minute on.

locals {
  endpoint = coalesce(trimsuffix(var.agents_api_endpoint, "/"), "https://api-${var.zone}.exoscale.com/v2")
}

# Terraform shows the first line of what failed: the comments there say what to do about it.
data "exoscale_template" "debian" { # no such name? `template` must be one of: exo compute instance-template list --zone ZONE; Debian 13 is `Linux Debian 13 (Trixie) 64-bit`
  zone = var.zone
  name = var.template
}

module "userdata" {
  source = "./terraform/userdata"

  zone                 = var.zone
  endpoint             = local.endpoint
  alerting             = var.alerting
  pool_id              = module.pool.id
  servicediscovery_key = local.agents.servicediscovery
  autoscaler_key       = local.agents.autoscaler
  grafana_password     = local.grafana_password
  grafana_version      = var.grafana_version
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

# Agents either use the key that they are given, or get keys of their own, which takes the right `iam`.
# Whether exoscale_key has it is found out by a read, before anything is made that costs money.
locals {
  makes_keys = nonsensitive(var.agents_key == "")
  given_key  = { key = var.agents_key, secret = var.agents_secret }
  agents = local.makes_keys ? module.access[0] : {
    servicediscovery = local.given_key
    autoscaler       = local.given_key
  }
}

data "exoscale_iam_org_policy" "right" { # refused? exoscale_key lacks `iam`: use one that has it, or set agents_key and agents_secret to a key with `compute`
  count = local.makes_keys ? 1 : 0
}

module "access" {
  source = "./terraform/access"
  count  = local.makes_keys ? 1 : 0

  name     = var.name
  pool_id  = module.pool.id
  one_pool = var.agents_one_pool
  max_size = local.max_size
}

moved {
  from = module.access
  to   = module.access[0]
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
  grafana_password = substr(sha256("grafana ${module.pool.id} ${local.agents.autoscaler.secret}"), 0, 24)
}
