"""Chat4All: one folder per process kind, what they share in contracts and runtime."""
