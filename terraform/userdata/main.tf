# One server's user-data holds 24,576 bytes after gzip, and the monitoring server needs more than
# that. So its bundle is cut: the first part comes with its own user-data, the rest lies in a
# comment of the members' user-data, which it reads from the pool through the API. The hash of the
# whole is in its settings.
locals {
  bundle_file = coalesce(var.bundle_file, "${path.module}/generated/bundle-${var.alerting}.zpaq")
  bundle      = filebase64(local.bundle_file)
  # Four characters of base64 are three bytes: a part must hold whole ones.
  first_chars = min(20928, length(local.bundle))

  # Comments are for readers of this repository.
  plain = {
    for name in fileset(path.module, "{member,monitoring}/*.{service,sh}") :
    basename(name) => join("\n", [for line in split("\n", file("${path.module}/${name}")) : line if !startswith(line, "#")])
  }

  ssh_config = var.ssh_public_key == "" ? {} : { ssh_authorized_keys = [trimspace(var.ssh_public_key)] }

  member_config = merge(local.ssh_config, {
    write_files = concat(
      [
        { path = "/opt/exotide/slowapp.py", content = file("${path.module}/generated/slowapp.py") },
        { path = "/etc/systemd/system/slowapp.service", content = local.plain["slowapp.service"] },
        { path = "/opt/exotide/exporter.sh", content = local.plain["exporter.sh"] },
      ],
      length(var.slowapp_environment) == 0 ? [] : [{
        path = "/etc/exotide/slowapp.env"
        # Quoted as systemd reads it: in double quotes only these four need a backslash.
        content = join("", [for name, value in var.slowapp_environment : "${name}=\"${replace(value, "/[\"$`\\\\]/", "\\$0")}\"\n"])
      }],
    )
    # Both units wait until all files are written, and no longer: the application serves two stages of
    # cloud-init before its end. Later boots start it like any other unit, and this one again; nobody
    # waits for the exporter, whose unit goes on trying.
    bootcmd = [
      [
        "cloud-init-per", "instance", "slowapp-early",
        "systemd-run", "--quiet", "--no-block", "--collect", "--unit=slowapp-early",
        "--property=After=cloud-config.target", "systemctl", "start", "slowapp",
      ],
      [
        "systemd-run", "--quiet", "--no-block", "--collect", "--unit=exporter-setup",
        "--property=After=cloud-config.target", "--property=After=slowapp-early.service",
        "--property=Restart=on-failure", "sh", "/opt/exotide/exporter.sh",
      ],
    ]
    # It runs already, unless its early start did not work; a reload would cost a small member a
    # fifth of a second.
    runcmd = [
      ["systemctl", "enable", "--quiet", "--no-reload", "slowapp"],
      ["systemctl", "start", "slowapp"],
    ]
  })

  agent_environment = {
    EXOSCALE_ZONE            = var.zone
    EXOSCALE_API_ENDPOINT    = var.endpoint
    EXOSCALE_INSTANCEPOOL_ID = var.pool_id
    EXOTIDE_METRICS_PORT     = "8092"
    EXOTIDE_METRICS_ADDRESS  = "127.0.0.1"
    TARGET_PORT              = "9100"
  }
  stack = {
    alerting         = var.alerting
    endpoint         = var.endpoint
    pool_id          = var.pool_id
    bundle_sha256    = filesha256(local.bundle_file)
    prices           = var.prices
    grafana_password = var.grafana_password
    grafana_version  = var.grafana_version
    grafana_key      = "B53AE77BADB630A683046005963FA27710458545"
    servicediscovery = merge(var.servicediscovery_key, {
      env = merge(local.agent_environment, { EXOTIDE_REFRESH_S = tostring(var.refresh_s) })
    })
    autoscaler = merge(var.autoscaler_key, {
      env = merge(local.agent_environment, {
        LISTEN_PORT             = "8090"
        EXOTIDE_LISTEN_ADDRESS  = "127.0.0.1"
        EXOTIDE_METRICS_PORT    = "8091"
        EXOTIDE_METRICS_ADDRESS = "0.0.0.0"
        EXOTIDE_NOTICE          = "/run/exotide/notice"
        EXOTIDE_MIN_SIZE        = tostring(var.policy.min_size)
        EXOTIDE_MAX_SIZE        = tostring(var.policy.max_size)
        EXOTIDE_INTERVAL_S      = tostring(var.policy.interval_s)
        EXOTIDE_COOLDOWN_S      = tostring(var.policy.cooldown_s)
        EXOTIDE_INTENT_TTL_S    = tostring(var.policy.intent_ttl_s)
      })
    })
  }

  monitoring_config = merge(local.ssh_config, {
    write_files = [
      { path = "/etc/exotide/stack.json", permissions = "0600", content = jsonencode(local.stack) },
      { path = "/opt/exotide/bootstrap.py", content = file("${path.module}/generated/bootstrap.py") },
      { path = "/opt/exotide/bundle.part", content = substr(local.bundle, 0, local.first_chars) },
      {
        path    = "/etc/systemd/system/exotide-bootstrap.service"
        content = local.plain["exotide-bootstrap.service"]
      },
      {
        path    = "/etc/systemd/system/exotide-bootstrap-page.service"
        content = local.plain["exotide-bootstrap-page.service"]
      },
    ]
    # The last one ends when the bootstrap does; with its error, so does cloud-init.
    runcmd = [
      ["systemctl", "daemon-reload"],
      ["systemctl", "enable", "--quiet", "exotide-bootstrap"],
      ["systemctl", "start", "exotide-bootstrap"],
    ]
  })
}
