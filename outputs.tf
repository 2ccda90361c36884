output "service_url" {
  description = "The web application behind the load balancer."
  value       = "http://${module.loadbalancer.ip}"
}

output "prometheus_url" {
  description = "Prometheus."
  value       = "http://${module.monitoring.ip}:9090"
}

output "grafana_url" {
  description = "Grafana; the user is admin. Null with alerting = alertmanager."
  value       = var.alerting == "grafana" ? "http://${module.monitoring.ip}:3000" : null
}

output "grafana_password" {
  description = "Password of Grafana's admin: terraform output -raw grafana_password."
  value       = local.grafana_password
  sensitive   = true
}

output "status_url" {
  description = "What the autoscaler sees, decides and why; before it runs, how far the set-up is."
  value       = "http://${module.monitoring.ip}:8091"
}

# No output of the pool's members: each scaling would then be a change of the plan.
output "pool_id" {
  description = "The instance pool."
  value       = module.pool.id
}

output "zone" {
  description = "Zone of the stack."
  value       = var.zone
}

output "max_size" {
  description = "The largest size after the budget was taken into account."
  value       = local.max_size
}

output "cost_eur_per_hour" {
  description = "At the smallest and at the largest size, without VAT and traffic; null if a price is not known."
  value = local.priced ? {
    min = local.base_per_hour + var.min_size * local.member_per_hour
    max = local.base_per_hour + local.max_size * local.member_per_hour
  } : null
}

output "destroy_after" {
  description = "When `exotide up` destroys the stack; empty: never."
  value       = local.destroy_after
}
