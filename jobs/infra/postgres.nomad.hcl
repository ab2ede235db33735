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

locals {
  # The files are made in a folder aside, which is kept only if the database can be opened; so a
  # first start that is interrupted leaves nothing half made. The password is set at every start,
  # because the Nomad variable may be newer than the data. Tables are looked at often, as plans that
  # were made for empty ones do not last, and briefly: statements here go by keys, and a thorough look
  # takes half of a core for seconds.
  start = <<-EOT
    PATH="${var.postgres_bin}:$PATH"
    cd "${var.postgres_data}"
    if [ ! -d cluster ]; then
      rm -rf making
      printf %s "$POSTGRES_PASSWORD" | initdb -D making -U chat4all --pwfile=/dev/stdin \
        --auth=scram-sha-256 --encoding=UTF8 --locale=C.UTF-8
      echo "create database chat4all" | postgres --single -D making postgres
      postgres --single -D making chat4all < /dev/null
      mv making cluster
    fi
    quoted=$(printf %s "$POSTGRES_PASSWORD" | sed "s/'/''/g")
    printf '%s\n' "alter role chat4all password '$quoted'" | postgres --single -D cluster postgres
    exec postgres -D cluster -h 127.0.0.1 -p ${var.postgres_port} -k "${var.postgres_data}" \
      -c max_connections=200 -c synchronous_commit=on -c jit=off \
      -c autovacuum_naptime=3s -c default_statistics_target=10
  EOT
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

    ephemeral_disk {
      size = 64
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
        command = "setpriv"
        args = [
          "--reuid=${var.postgres_user}", "--regid=${var.postgres_user}", "--init-groups",
          "/bin/sh", "-euc", local.start,
        ]
      }

      template {
        destination = "secrets/postgres.env"
        env         = true
        change_mode = "noop"
        perms       = "600"
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

      logs {
        max_files     = 2
        max_file_size = 10
      }

      resources {
        cpu    = 300
        memory = 512
      }
    }
  }
}
