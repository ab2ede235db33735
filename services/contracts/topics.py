"""The Kafka topics: names, partitions, what keys them."""

from typing import Final

PARTITIONS: Final = 10
RETENTION_MS: Final = 7 * 24 * 3600 * 1000

CHAT_EVENTS: Final = "chat-events"
"""Accepted messages, keyed by conversation."""
STATUS_UPDATES: Final = "status-updates"
"""Evidence about deliveries, keyed by conversation."""
INBOUND_MESSAGES: Final = "inbound-messages"
"""Messages written by customers, keyed by channel, account and sender."""
CONVERSATION_EVENTS: Final = "conversation-events"
"""The current state of messages for those who watch a conversation, keyed by conversation."""
DEAD_LETTERS: Final = "chat-events-dlq"
"""Records that could not be parsed or routed, keyed by the topic they came from."""

SHARED: Final = (CHAT_EVENTS, STATUS_UPDATES, INBOUND_MESSAGES, CONVERSATION_EVENTS, DEAD_LETTERS)


def outbound(channel: str) -> str:
    """Return the topic of deliveries to one channel, keyed by conversation."""
    return f"outbound.{channel.lower()}"
