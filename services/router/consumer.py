"""Takes accepted messages from Kafka and publishes their deliveries, batch by batch."""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

from services.contracts.records import (
    AnyRecord,
    DeliveryRequested,
    MessageAccepted,
    StatusChanged,
)
from services.contracts.topics import STATUS_UPDATES, outbound
from services.router.addresses import Addresses
from services.router.routing import NO_IDENTITY, route
from services.runtime.channels import Channels
from services.runtime.kafka.consumer import Received
from services.runtime.kafka.producer import Outgoing, Producer
from services.runtime.telemetry import metrics


class CannotRoute(Exception):  # noqa: N818 - the record is put aside with this sentence's name
    """A record that is no accepted message, or names a channel that was never deployed."""


class Router:
    """Handles batches of chat-events."""

    def __init__(self, producer: Producer, addresses: Addresses, channels: Channels) -> None:
        self._producer = producer
        self._addresses = addresses
        self._channels = channels

    async def handle(self, batch: Sequence[Received]) -> None:
        """Publish every delivery of a batch, in its order; nothing is left when this returns."""
        messages = [(_message(received), received.traceparent) for received in batch]
        people = await self._addresses.of(
            planned.recipient_id for message, _ in messages for planned in message.deliveries
        )
        now = datetime.now(UTC)
        outgoing = [
            Outgoing(self._topic(record), str(message.conversation_id), record, traceparent)
            for message, traceparent in messages
            for record in route(message, people, now)
        ]
        await self._producer.publish(outgoing)
        _count([sent.record for sent in outgoing])

    def _topic(self, record: DeliveryRequested | object) -> str:
        if not isinstance(record, DeliveryRequested):
            return STATUS_UPDATES
        if record.channel not in self._channels.states:
            raise CannotRoute(f"no channel {record.channel}")
        return outbound(record.channel)


def _count(records: Iterable[AnyRecord]) -> None:
    """Tell the metrics what was routed, and how long after its acceptance."""
    now = datetime.now(UTC)
    for record in records:
        if isinstance(record, StatusChanged):
            metrics.deliveries_routed.labels(record.channel, NO_IDENTITY).inc()
        elif isinstance(record, DeliveryRequested):
            metrics.deliveries_routed.labels(record.channel, "addressed").inc()
            if record.replay_no == 0:
                spent_s = (now - record.accepted_at).total_seconds()
                metrics.delivery_stage.labels("routed", record.channel).observe(spent_s)


def _message(received: Received) -> MessageAccepted:
    if not isinstance(received.record, MessageAccepted):
        raise CannotRoute(type(received.record).__name__)
    return received.record
