# A server that speaks MongoDB's wire, for local clusters. A real cluster has a replica set elsewhere:
# give its address to the services as MONGODB_ADDRESS.

variable "mongodb_binary" {
  type = string
}

variable "mongodb_flavour" {
  type        = string
  description = "mongod, or one of the stand-ins secantus and secantus-wheel."
  default     = "mongod"
}

variable "mongodb_data" {
  type = string
}

variable "mongodb_port" {
  type    = number
  default = 7017
}

variable "chaos" {
  type    = string
  default = "forbidden"
}

locals {
  mongod = [
    "--bind_ip", "127.0.0.1", "--port", var.mongodb_port, "--dbpath", var.mongodb_data,
    "--wiredTigerCacheSizeGB", "0.5",
  ]
  # Without --sync-on-commit they lose acknowledged writes when they are killed.
  standin = [
    "--host", "127.0.0.1", "--port", var.mongodb_port, "--storage-path", var.mongodb_data,
    "--cache-size", "512M", "--sync-on-commit",
  ]
  # Clients wait for it: where tasks are in no cgroups, this is what `cpu` below gives of full cores
  # (services/runtime/cores.py).
  start = "[ -z \"$NOMAD_CPU_LIMIT\" ] || { echo -8 > /proc/self/autogroup; } 2>/dev/null; exec \"$0\" \"$@\""
}

job "mongodb" {
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
      port "wire" {
        static = var.mongodb_port
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

    task "mongodb" {
      driver       = "raw_exec"
      kill_signal  = "SIGTERM"
      kill_timeout = "20s"

      config {
        command = "/bin/sh"
        args = concat(
          ["-c", local.start, var.mongodb_binary],
          var.mongodb_flavour == "mongod" ? local.mongod : local.standin,
        )
      }

      env {
        # A stand-in writes everything a second time for change streams, which nobody here follows,
        # and would force every single document to the disk where mongod does it once for all who
        # wait. Handed to the system it survives its process, as what Kafka acknowledges does.
        SECANTUS_DISABLE_OPLOG   = "1"
        SECANTUS_WT_CONFIG_EXTRA = "transaction_sync=(enabled=true,method=none)"
      }

      service {
        provider = "consul"
        name     = "mongodb"
        port     = "wire"

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
        memory = 768
      }
    }
  }
}
