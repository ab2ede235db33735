"""Prometheus metrics: the one table of all that are shared, named chat4all_<noun>_<unit>."""

from prometheus_client import Counter, Gauge, Histogram

BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)

http_requests = Histogram(
    "chat4all_http_request_seconds",
    "Time to answer an HTTP request, by route, method and status.",
    ["method", "route", "status"],
    buckets=BUCKETS_S,
)
records_consumed = Counter(
    "chat4all_records_consumed_total",
    "Kafka records whose work is durable, by topic.",
    ["topic"],
)
records_dead = Counter(
    "chat4all_records_dead_total",
    "Kafka records put aside as dead letters, by topic and reason.",
    ["topic", "reason"],
)
batch_retries = Counter(
    "chat4all_batch_retries_total",
    "Batches of Kafka records taken again because a dependency was away, by dependency.",
    ["dependency"],
)
messages_accepted = Counter(
    "chat4all_messages_accepted_total",
    "Messages stored for delivery, each once however often it was posted, by channel.",
    ["channel"],
)
deliveries_routed = Counter(
    "chat4all_deliveries_routed_total",
    "Deliveries that the router settled, by channel and outcome: addressed or no_identity.",
    ["channel", "outcome"],
)
delivery_stage = Histogram(
    "chat4all_delivery_stage_seconds",
    "Time from a message's acceptance to the end of a stage of its delivery, by stage and channel; "
    "replays are left out.",
    ["stage", "channel"],
    buckets=BUCKETS_S,
)
ledger_depth = Gauge(
    "chat4all_ledger_depth_deliveries",
    "Deliveries in the partitions owned here that are not settled, by channel and state.",
    ["channel", "state"],
)
requests_limited = Counter(
    "chat4all_requests_limited_total",
    "Requests refused for their API key's rate, by the limit that refused them: shared or local.",
    ["limit"],
)
consumer_lag = Gauge(
    "chat4all_consumer_lag_records",
    "Kafka records not consumed yet, by topic and partition.",
    ["topic", "partition"],
)
lifeline_peers = Gauge(
    "chat4all_lifeline_peers",
    "Processes of the same service whose end would be seen at once.",
)
evictions = Counter(
    "chat4all_evictions_total",
    "Members removed from a consumer group because they died, by group and outcome.",
    ["group", "outcome"],
)
