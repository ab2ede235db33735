"""How a process lives: config, app, health, discovery, HTTP, Kafka, telemetry."""
