locals {
  # What the API takes, in characters of base64.
  limit_chars = 32768
  member_user_data = base64gzip(join("\n", [
    "#cloud-config",
    "#exotide-bundle:${substr(local.bundle, local.first_chars, -1)}",
    yamlencode(local.member_config),
  ]))
  monitoring_user_data = base64gzip("#cloud-config\n${yamlencode(local.monitoring_config)}")
}

output "member" {
  description = "User-data of the pool's members: base64 of gzip of cloud-config."
  value       = local.member_user_data

  precondition {
    condition     = length(local.member_user_data) <= local.limit_chars
    error_message = "slowapp_environment and ssh_public_key make the members' user-data ${length(local.member_user_data)} characters long, and the API takes ${local.limit_chars}: shorten them."
  }
}

output "monitoring" {
  description = "User-data of the monitoring server: base64 of gzip of cloud-config."
  value       = local.monitoring_user_data
  sensitive   = true

  precondition {
    condition     = length(local.monitoring_user_data) <= local.limit_chars
    error_message = "ssh_public_key makes the monitoring server's user-data longer than the ${local.limit_chars} characters that the API takes: shorten it."
  }
}
