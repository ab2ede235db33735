# The public API. On a real cluster a load balancer finds the instances through Consul, and
# public_port stays 0.

variable "python" {
  type        = string
  description = "The interpreter of the environment with the locked dependencies (raw_exec)."
  default     = "python3"
}

variable "release" {
  type        = string
  description = "The folder that holds the package `services` (raw_exec)."
  default     = "/srv/chat4all"
}

variable "driver" {
  type        = string
  description = "raw_exec on one machine; docker on a real cluster."
  default     = "raw_exec"
}

variable "image" {
  type        = string
  description = "The image of the Dockerfile (docker)."
  default     = ""
}

variable "consul_http_addr" {
  type    = string
  default = "http://127.0.0.1:8500"
}

variable "chaos" {
  type        = string
  description = "`allowed` lets the chaos suite break this job."
  default     = "forbidden"
}

variable "public_port" {
  type        = number
  description = "A port that all instances on one machine share; 0 for none."
  default     = 0
}

job "api-gateway" {
  datacenters = ["*"]
  type        = "service"

  meta {
    chaos = var.chaos
  }

  # All instances of a release start beside the old ones and take over together.
  update {
    max_parallel     = 2
    canary           = 2
    auto_promote     = true
    auto_revert      = true
    min_healthy_time = "2s"
    healthy_deadline = "3m"

    # A release that does not become healthy is taken back after this time.
    progress_deadline = "4m"
  }

  group "app" {
    count = 2

    network {
      port "http" {}
    }

    ephemeral_disk {
      size = 64
    }

    restart {
      attempts = 5
      interval = "1m"
      delay    = "1s"
      mode     = "fail"
    }

    reschedule {
      delay          = "5s"
      delay_function = "constant"
      unlimited      = true
    }

    task "api-gateway" {
      driver         = var.driver
      kill_signal    = "SIGTERM"
      kill_timeout   = "20s"
      shutdown_delay = "2s"

      dynamic "config" {
        for_each = var.driver == "docker" ? [] : [1]
        content {
          command = var.python
          args    = ["-m", "services.api_gateway"]
        }
      }

      dynamic "config" {
        for_each = var.driver == "docker" ? [1] : []
        content {
          image        = var.image
          command      = "python"
          args         = ["-m", "services.api_gateway"]
          network_mode = "host"
        }
      }

      env {
        SERVICE_NAME     = "api-gateway"
        INSTANCE_ID      = "${NOMAD_ALLOC_ID}"
        HTTP_HOST        = "${NOMAD_IP_http}"
        HTTP_PORT        = "${NOMAD_PORT_http}"
        CONSUL_HTTP_ADDR = var.consul_http_addr
        PYTHONPATH       = var.release
        PUBLIC_PORT      = var.public_port == 0 ? "" : "${var.public_port}"
      }

      # A changed secret is read by new allocations: `nomad job restart -reschedule` replaces them one
      # after the other, where a change mode would restart all at once.
      template {
        destination = "secrets/service.env"
        env         = true
        change_mode = "noop"
        perms       = "600"
        data        = <<-EOT
        {{- with nomadVar "nomad/jobs" }}{{ range $key, $item := . }}
        {{ $key | toUpper }}={{ $item.Value | toJSON }}{{ end }}{{ end }}
        {{- if nomadVarExists "nomad/jobs/api-gateway" }}{{ with nomadVar "nomad/jobs/api-gateway" }}{{ range $key, $item := . }}
        {{ $key | toUpper }}={{ $item.Value | toJSON }}{{ end }}{{ end }}{{ end }}
        EOT
      }

      service {
        provider = "consul"
        name     = "api-gateway"
        port     = "http"
        tags     = ["chat4all"]

        check {
          name     = "ready"
          type     = "http"
          path     = "/health/ready"
          interval = "1s"
          timeout  = "1s"

          # A machine that is busy for a second is no reason to move what an instance remembers.
          failures_before_critical = 2
        }

        check {
          name     = "live"
          type     = "http"
          path     = "/health/live"
          interval = "2s"
          timeout  = "2s"

          check_restart {
            limit = 3
            grace = "10s"
          }
        }
      }

      logs {
        max_files     = 2
        max_file_size = 10
      }

      resources {
        # Clients wait for its answers: six times the usual share of full cores.
        cpu    = 300
        memory = var.driver == "docker" ? 256 : 128
      }
    }
  }
}
