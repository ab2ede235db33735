"""A local cluster: agents, infrastructure and services as Nomad jobs, in named instances."""
