# One PostgreSQL server under its own user, for local clusters. A real cluster has one elsewhere: give
# its address to the services as POSTGRES_ADDRESS.

variable "postgres_bin" {
  type        = string
  description = "The folder of PostgreSQL's programs."
}

variable "postgres_data" {
  type        = string
  description = "A folder that belongs to postgres_user."
}

variable "postgres_port" {
  type    = number
  default = 7432
}

variable "postgres_user" {
  type        = string
  description = "The user of the operating system that PostgreSQL runs as; it refuses root."
  default     = "postgres"
}

variable "chaos" {
  type    = string
  default = "forbidden"
}

job "postgres" {
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
      port "sql" {
        static = var.postgres_port
      }
    }

    restart {
      attempts = 10
      interval = "1m"
      delay    = "1s"
      mode     = "delay"
    }

    task "postgres" {
      driver       = "raw_exec"
      kill_signal  = "SIGINT"
      kill_timeout = "20s"

      config {
        command = "/bin/sh"
        args    = ["local/start.sh"]
      }

      # PostgreSQL makes its files with the password on first start, in a folder aside, so that an
      # interrupted start leaves nothing half made.
      template {
        destination = "local/start.sh"
        data        = <<-EOT
        set -eu
        cd "${var.postgres_data}"
        as() { setpriv --reuid="${var.postgres_user}" --regid="${var.postgres_user}" --init-groups "$@"; }
        if [ ! -d cluster ]; then
          rm -rf making password
          printf '%s' "$POSTGRES_PASSWORD" | as sh -c 'umask 077; cat > password'
          as "${var.postgres_bin}/initdb" -D making -U chat4all --auth=scram-sha-256 \
            --encoding=UTF8 --locale=C.UTF-8 --pwfile=password
          rm password
          echo "create database chat4all" | as "${var.postgres_bin}/postgres" --single -D making postgres
          mv making cluster
        fi
        exec setpriv --reuid="${var.postgres_user}" --regid="${var.postgres_user}" --init-groups \
          "${var.postgres_bin}/postgres" -D cluster -h 127.0.0.1 -p ${var.postgres_port} \
          -k "${var.postgres_data}" -c max_connections=200 -c synchronous_commit=on
        EOT
      }

      template {
        destination = "secrets/postgres.env"
        env         = true
        data        = <<-EOT
        {{- with nomadVar "nomad/jobs" }}
        POSTGRES_PASSWORD={{ .postgres_password.Value | toJSON }}
        {{- end }}
        EOT
      }

      service {
        provider = "consul"
        name     = "postgres"
        port     = "sql"

        check {
          type     = "tcp"
          interval = "1s"
          timeout  = "1s"
        }
      }

      resources {
        cpu    = 300
        memory = 512
      }
    }
  }
}
