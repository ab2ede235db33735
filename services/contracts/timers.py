"""How long a member of a consumer group may be silent: failover and its judge reckon with it."""

SESSION_TIMEOUT_MS = 6000
"""So long without a heartbeat, and the broker gives the member up."""
HEARTBEAT_MS = 1000
REBALANCE_TIMEOUT_MS = 2000
"""So long a rebalance waits for members that do not join it."""
