# Least privilege: an agent's key can do what the agent does, and nothing else. Operations on a pool
# are allowed for the stack's own. Lists cannot be limited to one pool, but they show no user-data:
# no agent's key can read another server's secrets.
#
# By its documentation, the real cloud passes over a rule whose expression cannot be evaluated. It
# does not say under which name an expression finds the pool that a path names, so the rule for the
# pool tries both. One side of || may fail if the other is true; where it may not, the last rule
# still holds.
# The first rule of the autoscaler's key refuses sizes above the largest, whoever holds the key.
# The same policies, for stacks that the SDK makes, are in src/exotide/stack/policies.py.

locals {
  by_parameter = "parameters.id == '${var.pool_id}'"
  by_resource  = "resources.instance_pool.id == '${var.pool_id}'"

  denied = {
    servicediscovery = []
    autoscaler       = ["operation == 'scale-instance-pool' && parameters.size > ${var.max_size}"]
  }

  operations = {
    servicediscovery = {
      on_pool = "operation in ['get-instance-pool']"
      reads   = "operation in ['list-instances']"
    }
    autoscaler = {
      on_pool = "operation in ['get-instance-pool', 'scale-instance-pool', 'evict-instance-pool-members']"
      reads   = "operation in ['list-instances', 'list-load-balancers']"
    }
  }

  policies = {
    for agent, operation in local.operations : agent => {
      default_service_strategy = "deny"
      services = {
        compute = {
          type = "rules"
          rules = concat(
            [for expression in local.denied[agent] : { action = "deny", expression = expression }],
            [
              for expression in concat([operation.reads], var.one_pool ? [
                "${operation.on_pool} && (${local.by_parameter} || ${local.by_resource})",
                "${operation.on_pool} && ${local.by_resource}",
              ] : [operation.on_pool]) : { action = "allow", expression = expression }
            ],
          )
        }
      }
    }
  }
}
