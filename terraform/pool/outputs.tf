output "id" {
  description = "The pool's id."
  value       = exoscale_instance_pool.members.id
}
