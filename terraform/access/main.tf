# Least privilege: an agent's key can do what the agent does, and nothing else. Listing instances
# cannot be limited to one pool; it shows no user-data.

locals {
  of_this_pool = "parameters.id == '${var.pool_id}'"
}

resource "exoscale_iam_role" "servicediscovery" {
  name        = "${var.name}-servicediscovery"
  description = "may see one pool and the instances"
  editable    = true

  policy = {
    default_service_strategy = "deny"
    services = {
      compute = {
        type = "rules"
        rules = [
          { action = "allow", expression = "operation in ['get-instance-pool'] && ${local.of_this_pool}" },
          { action = "allow", expression = "operation in ['list-instances', 'get-instance']" },
        ]
      }
    }
  }
}

resource "exoscale_iam_role" "autoscaler" {
  name        = "${var.name}-autoscaler"
  description = "may see and scale one pool"
  editable    = true

  policy = {
    default_service_strategy = "deny"
    services = {
      compute = {
        type = "rules"
        rules = [
          { action = "allow", expression = "operation in ['get-instance-pool', 'scale-instance-pool', 'evict-instance-pool-members'] && ${local.of_this_pool}" },
          { action = "allow", expression = "operation in ['list-instances']" },
        ]
      }
    }
  }
}

resource "exoscale_iam_api_key" "servicediscovery" {
  name    = "${var.name}-servicediscovery"
  role_id = exoscale_iam_role.servicediscovery.id
}

resource "exoscale_iam_api_key" "autoscaler" {
  name    = "${var.name}-autoscaler"
  role_id = exoscale_iam_role.autoscaler.id
}
