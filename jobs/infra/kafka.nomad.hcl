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

variable "chaos" {
  type    = string
  default = "forbidden"
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
        args    = ["local/start.sh"]
      }

      template {
        destination = "local/start.sh"
        data        = <<-EOT
        set -eu
        kafka() { "${var.java}" -cp "${var.kafka_libs}/*" "$@"; }
        kafka kafka.tools.StorageTool format --ignore-formatted \
          -t Y2hhdDRhbGwtbG9jYWwtMQ -c local/server.properties
        exec "${var.java}" -Xmx512m -Xms128m -XX:+UseSerialGC \
          -cp "${var.kafka_libs}/*" kafka.Kafka local/server.properties
        EOT
      }

      template {
        destination = "local/server.properties"
        data        = <<-EOT
        process.roles=broker,controller
        node.id=1
        controller.quorum.voters=1@127.0.0.1:${var.kafka_controller_port}
        listeners=CLIENT://127.0.0.1:${var.kafka_port},CONTROLLER://127.0.0.1:${var.kafka_controller_port}
        advertised.listeners=CLIENT://127.0.0.1:${var.kafka_port}
        listener.security.protocol.map=CLIENT:PLAINTEXT,CONTROLLER:PLAINTEXT
        inter.broker.listener.name=CLIENT
        controller.listener.names=CONTROLLER
        log.dirs=${var.kafka_data}
        auto.create.topics.enable=false
        group.initial.rebalance.delay.ms=0
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

      resources {
        cpu    = 500
        memory = 768
      }
    }
  }
}
