"""HTTP in and out: typed routes, problem answers, the client for siblings."""
