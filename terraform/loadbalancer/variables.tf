variable "name" {
  type        = string
  description = "Name of the load balancer."
}

variable "zone" {
  type        = string
  description = "Zone of the load balancer."
}

variable "pool_id" {
  type        = string
  description = "The pool that gets the traffic."
}
