# What the autoscaler may do, and the key that it does it with.

resource "exoscale_iam_role" "autoscaler" {
  name        = "autoscaler"
  description = "looks at one pool and changes its size"
  editable    = true

  policy = {
    default_service_strategy = "deny"
    services = {
      compute = {
        type = "rules"
        rules = [
          {
            action     = "allow"
            expression = "operation in ['get-instance-pool', 'scale-instance-pool', 'evict-instance-pool-members'] && parameters.id == '${exoscale_instance_pool.members.id}'"
          },
          {
            action     = "allow"
            expression = "operation in ['list-instances', 'get-instance', 'get-operation']"
          },
        ]
      }
    }
  }
}

resource "exoscale_iam_api_key" "autoscaler" {
  name    = "autoscaler"
  role_id = exoscale_iam_role.autoscaler.id
}

output "autoscaler_key" {
  value = exoscale_iam_api_key.autoscaler.key
}

output "autoscaler_secret" {
  value     = exoscale_iam_api_key.autoscaler.secret
  sensitive = true
}
