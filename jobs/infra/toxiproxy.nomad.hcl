# Toxiproxy between services and what they depend on, only where links are proxied: one proxy for each
# link. It starts with all of them, so a restart takes every toxic away and no proxy.

variable "toxiproxy_binary" {
  type = string
}

variable "toxiproxy_port" {
  type    = number
  default = 8474
}

variable "links" {
  type        = list(object({ name = string, port = number, upstream = string }))
  description = "The proxies: where the service connects, and what is behind."
  default     = []
}

variable "chaos" {
  type    = string
  default = "forbidden"
}

job "toxiproxy" {
  datacenters = ["*"]
  type        = "service"

  meta {
    chaos = var.chaos
  }

  update {
    min_healthy_time = "0s"
    healthy_deadline = "3m"
  }

  group "app" {
    network {
      port "api" {
        static = var.toxiproxy_port
      }

      dynamic "port" {
        for_each = var.links
        labels   = [port.value.name]
        content {
          static = port.value.port
        }
      }
    }

    ephemeral_disk {
      size = 64
    }

    restart {
      attempts = 10
      interval = "1m"
      delay    = "1s"
      mode     = "delay"
    }

    task "toxiproxy" {
      driver       = "raw_exec"
      kill_signal  = "SIGTERM"
      kill_timeout = "20s"

      config {
        command = var.toxiproxy_binary
        args = [
          "-host", "127.0.0.1", "-port", var.toxiproxy_port, "-config", "local/links.json",
          "-proxy-metrics",
        ]
      }

      # It would write several lines for each connection.
      env {
        LOG_LEVEL = "warn"
      }

      template {
        destination = "local/links.json"
        change_mode = "noop"
        data = jsonencode([
          for link in var.links : {
            name     = link.name
            listen   = "127.0.0.1:${link.port}"
            upstream = link.upstream
            enabled  = true
          }
        ])
      }

      service {
        provider = "consul"
        name     = "toxiproxy"
        port     = "api"

        check {
          type     = "tcp"
          interval = "1s"
          timeout  = "1s"
        }
      }

      logs {
        max_files     = 2
        max_file_size = 10
      }

      resources {
        cpu    = 100
        memory = 128
      }
    }
  }
}
