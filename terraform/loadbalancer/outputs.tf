output "ip" {
  description = "Public address."
  value       = exoscale_nlb.this.ip_address
}
