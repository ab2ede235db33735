"""Copies deliveries from Kafka into the ledger; from then on the ledger remembers them."""

from collections.abc import Iterator, Sequence
from uuid import UUID

from services.connectors.base import Connector
from services.connectors.lanes import Lanes
from services.connectors.ledger import Ledger
from services.connectors.parts import split
from services.connectors.rows import Row
from services.contracts.records import DeliveryRequested
from services.runtime.kafka.consumer import Received


class UnexpectedRecord(Exception):  # noqa: N818 - what is wrong with it is its type
    """A record of another kind stands in this topic."""


class Intake:
    """Handles batches of the channel's outbound topic."""

    def __init__(self, connector: Connector, ledger: Ledger, lanes: Lanes) -> None:
        self._connector = connector
        self._ledger = ledger
        self._lanes = lanes

    async def handle(self, batch: Sequence[Received]) -> None:
        """Store the new deliveries of a batch durably, in order, and wake their lanes."""
        rows = _once([row for received in batch for row in self._rows(received)])
        if not rows:
            return
        fresh = await self._ledger.take_in(rows)
        for row in rows:
            is_fresh = (row.message_id, row.recipient_id, row.part) in fresh
            self._lanes.touch(row.lane, row.account, row if is_fresh else None)

    def _rows(self, received: Received) -> Iterator[Row]:
        record = received.record
        if not isinstance(record, DeliveryRequested):
            raise UnexpectedRecord(type(record).__name__)
        texts = split(record.content, self._connector.fits)
        for part, text in enumerate(texts):
            yield Row(
                message_id=record.message_id,
                recipient_id=record.recipient_id,
                part=part,
                parts=len(texts),
                conversation_id=record.conversation_id,
                partition=received.partition,
                account=record.account or self._connector.accounts[0],
                address=record.address,
                content=text,
                reply_to=record.reply_to if part == 0 else None,
                at_least_once=record.at_least_once,
                traceparent=received.traceparent,
                accepted_at=record.accepted_at,
                state="pending",
                replay_no=record.replay_no,
                attempts=0,
                attempt_id=None,
            )


def _once(rows: Sequence[Row]) -> list[Row]:
    """Return each row once, as and where its latest replay has it: that may share a batch."""
    latest: dict[tuple[UUID, UUID, int], Row] = {}
    for row in rows:
        key = (row.message_id, row.recipient_id, row.part)
        if key in latest and latest[key].replay_no >= row.replay_no:
            continue
        latest.pop(key, None)
        latest[key] = row
    return list(latest.values())
