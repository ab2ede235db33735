# Prometheus, for local clusters. It scrapes what Consul knows, through a file that Nomad keeps as
# Consul says: Debian builds Prometheus without `consul_sd_configs`. A real cluster has its own.

variable "prometheus_binary" {
  type = string
}

variable "prometheus_data" {
  type = string
}

variable "prometheus_port" {
  type    = number
  default = 9090
}

variable "chaos" {
  type    = string
  default = "forbidden"
}

job "prometheus" {
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
      port "http" {
        static = var.prometheus_port
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

    task "prometheus" {
      driver       = "raw_exec"
      kill_signal  = "SIGTERM"
      kill_timeout = "20s"

      config {
        command = var.prometheus_binary
        args = [
          "--config.file=local/prometheus.yml",
          "--storage.tsdb.path=${var.prometheus_data}",
          "--storage.tsdb.retention.time=7d",
          "--storage.tsdb.retention.size=1GB",
          "--web.listen-address=127.0.0.1:${var.prometheus_port}",
          "--log.level=warn",
        ]
      }

      template {
        destination = "local/prometheus.yml"
        change_mode = "noop"
        data        = <<-EOT
        global:
          scrape_interval: 5s
        scrape_configs:
          - job_name: services
            file_sd_configs:
              - files: [instances.yml]
        EOT
      }

      # Every instance that Consul has, ready or not; the label `instance` is the allocation's id, as in
      # the logs. Prometheus sees each new version of this file at once.
      template {
        destination = "local/instances.yml"
        change_mode = "noop"
        data        = <<-EOT
        {{- range services }}{{ if .Tags | contains "chat4all" }}{{ range service (print .Name "|any") }}
        - targets: ["{{ .Address }}:{{ .Port }}"]
          labels:
            service: {{ .Name }}
            instance: {{ .ID | regexReplaceAll "_nomad-task-([0-9a-f-]{36})-.*" "$1" }}
        {{- end }}{{ end }}{{ end }}
        EOT
      }

      service {
        provider = "consul"
        name     = "prometheus"
        port     = "http"

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
        memory = 256
      }
    }
  }
}
