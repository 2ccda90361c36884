output "member" {
  description = "User-data of the pool's members: base64 of gzip of cloud-config."
  value = base64gzip(join("\n", [
    "#cloud-config",
    "#exotide-bundle:${substr(local.bundle, local.first_chars, -1)}",
    yamlencode(local.member_config),
  ]))
}

output "monitoring" {
  description = "User-data of the monitoring server: base64 of gzip of cloud-config."
  value       = base64gzip("#cloud-config\n${yamlencode(local.monitoring_config)}")
  sensitive   = true
}
