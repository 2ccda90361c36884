variable "name" {
  type        = string
  description = "Begins the names of roles and keys."
}

variable "pool_id" {
  type        = string
  description = "The one pool that the autoscaler may change."
}

variable "one_pool" {
  type        = bool
  description = "Whether the keys are good for that pool alone."
}

variable "max_size" {
  type        = number
  description = "The size above which no key scales the pool."
}
