"""Copies deliveries from Kafka into the ledger; from then on the ledger remembers them."""

from collections.abc import Sequence

from services.connectors.base import Connector
from services.connectors.lanes import Lanes
from services.connectors.ledger import Ledger
from services.connectors.rows import Row
from services.contracts.records import DeliveryRequested
from services.runtime.kafka.consumer import Received


class UnexpectedRecord(Exception):  # noqa: N818 - what is wrong with it is its type
    """A record of another kind stands in this topic."""


class Intake:
    """Handles batches of the channel's outbound topic."""

    def __init__(self, connector: Connector, ledger: Ledger, lanes: Lanes) -> None:
        self._default_account = connector.accounts[0]
        self._ledger = ledger
        self._lanes = lanes

    async def handle(self, batch: Sequence[Received]) -> None:
        """Store the new deliveries of a batch durably, in order, and wake their lanes."""
        rows = [self._row(received) for received in batch]
        if not rows:
            return
        new = await self._ledger.take_in(rows)
        for row in rows:
            is_new = (row.message_id, row.recipient_id) in new
            self._lanes.touch(row.lane, row if is_new else None)

    def _row(self, received: Received) -> Row:
        record = received.record
        if not isinstance(record, DeliveryRequested):
            raise UnexpectedRecord(type(record).__name__)
        return Row(
            message_id=record.message_id,
            recipient_id=record.recipient_id,
            part=0,
            conversation_id=record.conversation_id,
            partition=received.partition,
            account=record.account or self._default_account,
            address=record.address,
            content=record.content,
            reply_to=record.reply_to,
            traceparent=received.traceparent,
            accepted_at=record.accepted_at,
            state="pending",
            replay_no=record.replay_no,
            attempts=0,
            attempt_id=None,
        )
