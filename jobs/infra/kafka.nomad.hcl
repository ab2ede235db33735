# One Kafka broker that is its own controller, for local clusters. A real cluster has three elsewhere:
# give their addresses to the services as KAFKA_ADDRESS.

variable "java" {
  type    = string
  default = "java"
}

variable "kafka_libs" {
  type        = string
  description = "The folder of Kafka's jars."
}

variable "kafka_data" {
  type = string
}

variable "kafka_port" {
  type    = number
  default = 7092
}

variable "kafka_controller_port" {
  type    = number
  default = 7093
}

variable "kafka_links" {
  type        = list(object({ service = string, port = number, entry = number }))
  description = <<-EOT
    The services that come through a proxy, each with its port and a listener of its own behind it: a
    broker tells clients where to go on, which would lead them past a proxy before a shared listener.
  EOT
  default     = []
}

variable "chaos" {
  type    = string
  default = "forbidden"
}

locals {
  controller = "127.0.0.1:${var.kafka_controller_port}"
  direct     = { name = "CLIENT", entry = var.kafka_port, port = var.kafka_port }
  listeners = concat([local.direct], [
    for link in var.kafka_links : {
      name = upper(replace(link.service, "-", "_")), entry = link.entry, port = link.port
    }
  ])
  # Whoever sends a message waits for it: where tasks are in no cgroups, the first line takes what
  # `cpu` below gives of full cores (services/runtime/cores.py). The settings of the logger count
  # where the jars bring slf4j-simple; a distribution has its own.
  start = <<-EOT
    [ -z "$NOMAD_CPU_LIMIT" ] || { echo -8 > /proc/self/autogroup; } 2>/dev/null || true
    export CLASSPATH="${var.kafka_libs}/*"
    if [ ! -f "${var.kafka_data}/meta.properties" ]; then
      "${var.java}" kafka.tools.StorageTool format -t Y2hhdDRhbGwtbG9jYWwtMQ -c local/server.properties
    fi
    exec "${var.java}" -Xms128m -Xmx512m -XX:+UseSerialGC \
      -Dorg.slf4j.simpleLogger.defaultLogLevel=warn -Dorg.slf4j.simpleLogger.showDateTime=true \
      "-Dorg.slf4j.simpleLogger.dateTimeFormat=yyyy-MM-dd HH:mm:ss.SSS" \
      -Dorg.slf4j.simpleLogger.log.kafka.server.KafkaRaftServer=info \
      -Dorg.slf4j.simpleLogger.log.org.apache.kafka.coordinator.group=info \
      kafka.Kafka local/server.properties
  EOT
}

job "kafka" {
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
      port "broker" {
        static = var.kafka_port
      }
      port "controller" {
        static = var.kafka_controller_port
      }

      dynamic "port" {
        for_each = var.kafka_links
        labels   = [port.value.service]
        content {
          static = port.value.entry
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

    task "kafka" {
      driver       = "raw_exec"
      kill_signal  = "SIGTERM"
      kill_timeout = "20s"

      config {
        command = "/bin/sh"
        args    = ["-euc", local.start]
      }

      # It has as few threads as a small machine can use: each that wakes finds its caches cold. The
      # index files of a partition are mapped into memory as long as they may become, and a system
      # that reads far ahead fills them with zeros at its first record. A broker that died is let in
      # again when its session before is over.
      template {
        destination = "local/server.properties"
        change_mode = "noop"
        data        = <<-EOT
        process.roles=broker,controller
        node.id=1
        controller.quorum.voters=1@${local.controller}
        listeners=CONTROLLER://${local.controller},${join(",", [for l in local.listeners : "${l.name}://127.0.0.1:${l.entry}"])}
        advertised.listeners=${join(",", [for l in local.listeners : "${l.name}://127.0.0.1:${l.port}"])}
        listener.security.protocol.map=CONTROLLER:PLAINTEXT,${join(",", [for l in local.listeners : "${l.name}:PLAINTEXT"])}
        inter.broker.listener.name=CLIENT
        controller.listener.names=CONTROLLER
        log.dirs=${var.kafka_data}
        auto.create.topics.enable=false
        num.network.threads=1
        num.io.threads=2
        group.initial.rebalance.delay.ms=0
        broker.heartbeat.interval.ms=500
        broker.session.timeout.ms=3000
        log.index.size.max.bytes=262144
        offsets.topic.replication.factor=1
        offsets.topic.num.partitions=4
        transaction.state.log.replication.factor=1
        transaction.state.log.min.isr=1
        EOT
      }

      service {
        provider = "consul"
        name     = "kafka"
        port     = "broker"

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
