"""The intake: records become rows, each once, as and where its latest replay has it."""

from collections.abc import Mapping
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any, cast
from uuid import UUID, uuid4

import pytest

from services.connectors.intake import Intake, UnexpectedRecord
from services.connectors.rows import Claim, Key, Lane, Row
from services.connectors.worker import Attempt
from services.contracts.ids import new_id
from services.contracts.records import DeadLetter, DeliveryRequested, Reason
from services.runtime.kafka.consumer import Received
from services.runtime.unavailable import Unavailable

NOW = datetime.now(UTC)


class Store:
    """A ledger that keeps what came, and lanes that keep what they were told."""

    def __init__(self) -> None:
        self.rows: list[Row] = []
        self.known: set[Key] = set()
        self.admits: tuple[str, ...] = ()
        self.admitted: dict[Lane, Attempt] = {}
        self.owns = True
        self.error: Exception | None = None
        self.touched: list[tuple[Lane, str, Row | None]] = []
        self.intake = Intake(
            cast("Any", SimpleNamespace(accounts=("main",), fits=lambda text: len(text) <= 4)),
            cast("Any", self),
            cast("Any", self),
        )

    async def admit(self, row: Row) -> Attempt | None:
        """Admit rows of some contents, if they are the first of their lane."""
        if row.content not in self.admits or row.lane in self.admitted:
            return None
        self.admitted[row.lane] = Attempt(
            Claim(row, 1, new_id()), cast("Any", None), cast("Any", None)
        )
        return self.admitted[row.lane]

    async def take_in(self, new: list[Row], claims: Mapping[Key, Claim]) -> dict[Key, UUID | None]:
        """Keep rows and return those that were not known, claimed unless it lost its epoch."""
        if self.error is not None:
            raise self.error
        self.rows += new
        won = {key: claim.attempt_id for key, claim in claims.items() if self.owns}
        return {row.key: won.get(row.key) for row in new if row.key not in self.known}

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


@pytest.mark.parametrize("case", ["owned", "epoch lost", "known"])
async def test_what_can_be_sent_at_once_is_claimed_as_it_is_stored(case: str) -> None:
    """Its lane hears whether the claim stands, and of no row a second time."""
    store, first = Store(), received(content="now")
    store.admits, store.owns = ("now",), case != "epoch lost"
    record = cast("Any", first.record)
    if case == "known":
        store.known = {(record.message_id, record.recipient_id, 0)}
    later = received(
        content="now", conversation_id=record.conversation_id, recipient_id=record.recipient_id
    )
    await store.intake.handle([first, later, received(content="busy")])
    (attempt,) = store.admitted.values()
    assert attempt.claim.row is store.rows[0]
    assert attempt.claimed.result() == (case == "owned")
    assert [row and row.content for _, _, row in store.touched] == ["now", "busy"]


async def test_an_intake_that_fails_leaves_no_lane_waiting() -> None:
    """Whether the claims stand nobody knows, so their lanes give them up."""
    store = Store()
    store.admits, store.error = ("now",), ValueError("not a text")
    with pytest.raises(ValueError, match="not a text"):
        await store.intake.handle([received(content="now")])
    (attempt,) = store.admitted.values()
    with pytest.raises(Unavailable):
        await attempt.claimed


async def test_another_kind_of_record_is_refused() -> None:
    """It becomes a dead letter by itself, and the others of its batch are stored."""
    letter = DeadLetter(
        topic="t", partition=0, offset=0, key=b"", value=b"", reason=Reason("c", "d"), at=NOW
    )
    with pytest.raises(UnexpectedRecord):
        await Store().intake.handle([Received(letter, "outbound.test", 3, 0, None)])
