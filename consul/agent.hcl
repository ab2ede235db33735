# One server that is also the local agent. Ports and the data folder are given on the command line.
server           = true
bootstrap_expect = 1
bind_addr        = "127.0.0.1"
client_addr      = "127.0.0.1"
disable_update_check = true

ui_config {
  enabled = true
}

performance {
  raft_multiplier = 1
}

# Every process watches several services at once, all from one address.
limits {
  http_max_conns_per_client = 1000
}

ports {
  dns      = -1
  grpc     = -1
  grpc_tls = -1
}
