resource "exoscale_iam_role" "servicediscovery" {
  name        = "${var.name}-servicediscovery"
  description = "may see one pool and the instances"
  editable    = true
  policy      = local.policies.servicediscovery
}

resource "exoscale_iam_role" "autoscaler" {
  name        = "${var.name}-autoscaler"
  description = "may see and scale one pool"
  editable    = true
  policy      = local.policies.autoscaler
}

resource "exoscale_iam_api_key" "servicediscovery" {
  name    = "${var.name}-servicediscovery"
  role_id = exoscale_iam_role.servicediscovery.id
}

resource "exoscale_iam_api_key" "autoscaler" {
  name    = "${var.name}-autoscaler"
  role_id = exoscale_iam_role.autoscaler.id
}
