output "ip" {
  description = "Public address."
  value       = exoscale_compute_instance.monitoring.public_ip_address
}

output "security_group_id" {
  description = "The server's security group."
  value       = exoscale_security_group.monitoring.id
}
