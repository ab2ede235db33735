"""Copies deliveries from Kafka into the ledger; from then on the ledger remembers them."""

from collections.abc import Iterator, Sequence

from services.connectors.base import Connector
from services.connectors.lanes import Lanes
from services.connectors.ledger import Ledger
from services.connectors.parts import split
from services.connectors.rows import Key, Row
from services.connectors.worker import Attempt
from services.contracts.records import DeliveryRequested
from services.runtime.kafka.consumer import Received
from services.runtime.postgres import NAME as POSTGRES
from services.runtime.unavailable import Unavailable


class UnexpectedRecord(Exception):  # noqa: N818 - what is wrong with it is its type
    """A record of another kind stands in this topic."""


class Intake:
    """Handles batches of the channel's outbound topic."""

    def __init__(self, connector: Connector, ledger: Ledger, lanes: Lanes) -> None:
        self._connector = connector
        self._ledger = ledger
        self._lanes = lanes

    async def handle(self, batch: Sequence[Received]) -> None:
        """Store the new deliveries of a batch durably, in order, and wake their lanes.

        What can be sent at once is claimed by the same write.
        """
        rows = _once([row for received in batch for row in self._rows(received)])
        if not rows:
            return
        attempts: dict[Key, Attempt] = {}
        try:
            for row in rows:
                if (admitted := await self._lanes.admit(row)) is not None:
                    attempts[row.key] = admitted
            claims = {key: attempt.claim for key, attempt in attempts.items()}
            fresh = await self._ledger.take_in(rows, claims)
        except BaseException:
            for begun in attempts.values():
                begun.claimed.set_exception(Unavailable(POSTGRES, "the intake did not end"))
            raise
        for row in rows:
            attempt = attempts.get(row.key)
            if attempt is None:
                self._lanes.touch(row.lane, row.account, row if row.key in fresh else None)
            else:
                attempt.claimed.set_result(fresh.get(row.key) == attempt.claim.attempt_id)

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
    latest: dict[Key, Row] = {}
    for row in rows:
        known = latest.get(row.key)
        if known is not None and known.replay_no >= row.replay_no:
            continue
        latest.pop(row.key, None)
        latest[row.key] = row
    return list(latest.values())
