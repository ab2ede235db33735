"""Prometheus metrics: those that every process has, and how they are shown."""

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
consumer_lag = Gauge(
    "chat4all_consumer_lag_records",
    "Kafka records not consumed yet, by topic and partition.",
    ["topic", "partition"],
)
