# Least privilege: an agent's key can do what the agent does, and nothing else. Operations on a pool
# are allowed for the stack's own. Listing instances cannot be limited to one pool, but a list shows
# no user-data: no agent's key can read another server's secrets.
# The same policies, for stacks that the SDK makes, are in src/exotide/stack/policies.py.

locals {
  of_this_pool = "parameters.id == '${var.pool_id}'"

  operations = {
    servicediscovery = {
      on_pool = "'get-instance-pool'"
      reads   = "'list-instances'"
    }
    autoscaler = {
      on_pool = "'get-instance-pool', 'scale-instance-pool', 'evict-instance-pool-members'"
      reads   = "'list-instances'"
    }
  }

  policies = {
    for agent, allowed in local.operations : agent => {
      default_service_strategy = "deny"
      services = {
        compute = {
          type = "rules"
          rules = [
            { action = "allow", expression = "operation in [${allowed.on_pool}] && ${local.of_this_pool}" },
            { action = "allow", expression = "operation in [${allowed.reads}]" },
          ]
        }
      }
    }
  }
}
