output "servicediscovery" {
  description = "Key and secret of the service discovery."
  sensitive   = true
  value = {
    key    = exoscale_iam_api_key.servicediscovery.key
    secret = exoscale_iam_api_key.servicediscovery.secret
  }
}

output "autoscaler" {
  description = "Key and secret of the autoscaler."
  sensitive   = true
  value = {
    key    = exoscale_iam_api_key.autoscaler.key
    secret = exoscale_iam_api_key.autoscaler.secret
  }
}
