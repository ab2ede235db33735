# A server that is also the client, on one machine. Ports, folders and Consul's address are in a
# file made for the instance.
bind_addr            = "127.0.0.1"
disable_update_check = true

advertise {
  http = "127.0.0.1"
  rpc  = "127.0.0.1"
  serf = "127.0.0.1"
}

server {
  enabled          = true
  bootstrap_expect = 1

  # One machine is server and node: when it stalls, so does the heart that should beat.
  heartbeat_grace = "10m"
}

client {
  enabled           = true
  network_interface = "lo"
  cpu_total_compute = 8000
  max_kill_timeout  = "60s"

  template {
    wait {
      min = "250ms"
      max = "2s"
    }
  }

  # Without this the start waits for clouds that are not there.
  options = {
    "fingerprint.denylist" = "env_aws,env_gce,env_azure,env_digitalocean,cni,bridge"
  }
}

plugin "raw_exec" {
  config {
    enabled = true
  }
}

telemetry {
  prometheus_metrics         = true
  # Without cgroups each collection runs pgrep for every process of every task, a second of a core.
  collection_interval        = "1h"
  publish_allocation_metrics = true
  publish_node_metrics       = true
}
