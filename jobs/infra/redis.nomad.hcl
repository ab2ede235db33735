# One Redis, for local clusters. It keeps nothing on disk: losing it loses speed only. A real cluster has
# one elsewhere: give its address to the services as REDIS_ADDRESS.

variable "redis_binary" {
  type = string
}

variable "redis_port" {
  type    = number
  default = 7379
}

variable "chaos" {
  type    = string
  default = "forbidden"
}

job "redis" {
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
      port "resp" {
        static = var.redis_port
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

    task "redis" {
      driver       = "raw_exec"
      kill_signal  = "SIGTERM"
      kill_timeout = "20s"

      config {
        command = var.redis_binary
        args = [
          "--bind", "127.0.0.1", "--port", var.redis_port, "--save", "", "--appendonly", "no",
          "--maxmemory", "128mb", "--maxmemory-policy", "allkeys-lru",
        ]
      }

      service {
        provider = "consul"
        name     = "redis"
        port     = "resp"

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
        memory = 192
      }
    }
  }
}
