"""Kafka in and out: topics, the producer, the consumer loop with its lanes and commits."""
