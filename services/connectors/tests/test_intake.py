"""The intake: records become rows, each once, as and where its latest replay has it."""

from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any, cast
from uuid import UUID, uuid4

import pytest

from services.connectors.intake import Intake, UnexpectedRecord
from services.connectors.rows import Lane, Row
from services.contracts.ids import new_id
from services.contracts.records import DeadLetter, DeliveryRequested, Reason
from services.runtime.kafka.consumer import Received

NOW = datetime.now(UTC)


class Store:
    """A ledger that keeps what came, and lanes that keep what they were told."""

    def __init__(self) -> None:
        self.rows: list[Row] = []
        self.known: set[tuple[UUID, UUID, int]] = set()
        self.touched: list[tuple[Lane, str, Row | None]] = []
        self.intake = Intake(
            cast("Any", SimpleNamespace(accounts=("main",), fits=lambda text: len(text) <= 4)),
            cast("Any", self),
            cast("Any", self),
        )

    async def take_in(self, new: list[Row]) -> set[tuple[UUID, UUID, int]]:
        """Keep rows and return those that were not known."""
        self.rows += new
        return {(row.message_id, row.recipient_id, row.part) for row in new} - self.known

    def touch(self, lane: Lane, account: str, row: Row | None = None) -> None:
        """Keep what a lane was told."""
        self.touched.append((lane, account, row))


def received(**changes: Any) -> Received:
    """Return a delivery as it came."""
    fields: dict[str, Any] = {
        "message_id": new_id(),
        "conversation_id": uuid4(),
        "recipient_id": uuid4(),
        "channel": "TEST",
        "address": "55",
        "content": "oi",
        "accepted_at": NOW,
    }
    return Received(DeliveryRequested(**(fields | changes)), "outbound.test", 3, 0, None)


async def test_a_long_text_is_one_row_for_each_part() -> None:
    """The parts are in order, and only the first is a reply."""
    store, reply_to = Store(), uuid4()
    await store.intake.handle([received(content="abcdefghi", reply_to=reply_to)])
    assert [(row.part, row.parts, row.content) for row in store.rows] == [
        (0, 3, "abcd"),
        (1, 3, "efgh"),
        (2, 3, "i"),
    ]
    assert [row.reply_to for row in store.rows] == [reply_to, None, None]


async def test_a_replay_in_the_same_batch_stands_at_its_own_place() -> None:
    """The lane is given the latest replay and no older one, behind what came between."""
    store, first = Store(), received(content="a")
    again = received(
        **{name: getattr(first.record, name) for name in ("message_id", "recipient_id")},
        conversation_id=cast("Any", first.record).conversation_id,
        content="a",
        replay_no=1,
    )
    await store.intake.handle([first, received(content="b"), again, first])
    assert [(row.content, row.replay_no) for row in store.rows] == [("b", 0), ("a", 1)]
    assert [row and row.replay_no for _, _, row in store.touched] == [0, 1]


async def test_what_is_known_wakes_its_lane_only() -> None:
    """The lane finds its head by itself."""
    store, known = Store(), received()
    record = cast("Any", known.record)
    store.known = {(record.message_id, record.recipient_id, 0)}
    await store.intake.handle([known])
    ((_, account, row),) = store.touched
    assert (account, row) == ("main", None)


async def test_another_kind_of_record_is_refused() -> None:
    """It becomes a dead letter by itself, and the others of its batch are stored."""
    letter = DeadLetter(
        topic="t", partition=0, offset=0, key=b"", value=b"", reason=Reason("c", "d"), at=NOW
    )
    with pytest.raises(UnexpectedRecord):
        await Store().intake.handle([Received(letter, "outbound.test", 3, 0, None)])
