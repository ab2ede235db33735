"""A backlog on one throttled account: what it costs, and what it costs the others."""
