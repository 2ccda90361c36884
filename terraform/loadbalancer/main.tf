resource "exoscale_nlb" "this" {
  zone        = var.zone
  name        = var.name
  description = "entrance of the pool"
}

resource "exoscale_nlb_service" "http" {
  zone             = var.zone
  nlb_id           = exoscale_nlb.this.id
  instance_pool_id = var.pool_id
  name             = "http"
  protocol         = "tcp"
  port             = 80
  target_port      = 8080
  strategy         = "round-robin"

  healthcheck {
    mode     = "http"
    port     = 8080
    uri      = "/health"
    interval = 5
    timeout  = 3
    retries  = 2
  }
}
