"""Answers, statuses and echoes in any order, repeated and split, end in the same state."""

import random
from collections.abc import Awaitable, Callable
from itertools import groupby
from typing import NamedTuple
from uuid import UUID

import pytest

from services.connectors.base import Echo, StatusUpdate
from services.connectors.rows import Row
from services.connectors.tests.bench import LOST, NOW, Bench, delivery, parts, status
from services.contracts.ids import new_id
from services.contracts.records import Reason
from services.contracts.status import Status, rank

pytestmark = pytest.mark.connected

LEVELS = {rank(kind): kind for kind in Status if kind is not Status.PENDING}
FAILED = rank(Status.FAILED)


class Sent(NamedTuple):
    """An attempt: how it ended here, and what the provider says of it."""

    row: Row
    attempt: UUID
    answered: bool
    statuses: tuple[Status, ...]
    shown: bool

    @property
    def name(self) -> str:
        """The provider's name of it."""
        return f"p-{self.attempt}"

    def level(self) -> int:
        """Return the highest that is ever proven of it."""
        proven = [rank(kind) for kind in self.statuses]
        if self.answered or self.shown:
            proven.append(rank(Status.SENT))
        return max(proven, default=rank(Status.UNKNOWN))


Event = tuple[str, Callable[[], Awaitable[object]] | StatusUpdate | Echo]


def expected(attempts: list[Sent]) -> Status:
    """Return where a delivery stands when everything is known."""
    levels = [one.level() for one in attempts]
    if FAILED in levels:
        return Status.FAILED
    return LEVELS[min(levels)]


async def attempts_of(bench: Bench, rows: list[Row], luck: random.Random, kind: str) -> list[Sent]:
    """Claim the parts of a delivery, with a fate for each."""
    await bench.first.take_in(rows)
    epoch = (await bench.first.own([3], {}))[3]
    made = []
    for row in rows:
        attempt = new_id()
        assert await bench.first.claim(row, epoch, attempt)
        reached = luck.random() < 0.85
        statuses = luck.choice(
            [
                (),
                (Status.SENT,),
                (Status.SENT, Status.DELIVERED, Status.READ),
                (Status.SENT, Status.READ),
                (Status.SENT, Status.FAILED),
                (Status.FAILED,),
            ]
        )
        shown = kind == "echo" and reached
        if kind == "echo":
            # Without a reference only an echo tells whose the other statuses are.
            statuses = tuple(one for one in statuses if one is Status.READ)
        made.append(
            Sent(
                row=row,
                attempt=attempt,
                answered=reached and luck.random() < 0.5,
                statuses=statuses if reached else (),
                shown=shown,
            )
        )
    return made


def events_of(bench: Bench, sent: Sent, kind: str) -> list[Event]:
    """Return all that is ever heard of an attempt."""

    async def answer() -> None:
        if sent.answered:
            await bench.tell(await bench.outcomes.accepted(sent.row, sent.attempt, sent.name))
        else:
            await bench.tell(await bench.outcomes.unanswered(sent.row, sent.attempt, LOST))

    events: list[Event] = [("answer", answer)]
    for one in sent.statuses:
        update = status(sent.row, sent.attempt, one)
        if kind == "echo":
            reason = Reason("code", "Detail.") if one is Status.FAILED else None
            update = StatusUpdate(provider_id=sent.name, status=one, at=NOW, reason=reason)
        events.append(("status", update))
    if sent.shown:
        echo = Echo(
            provider_id=sent.name, address=sent.row.address, content=sent.row.content, at=NOW
        )
        events.append(("echo", echo))
    return events


async def play(bench: Bench, events: list[Event]) -> None:
    """Let all happen; what stands side by side and is of one kind comes in one webhook."""
    for kind, group in groupby(events, key=lambda event: event[0]):
        things = [thing for _, thing in group]
        if kind == "answer":
            for thing in things:
                assert callable(thing)
                await thing()
        elif kind == "status":
            await bench.hear(*(one for one in things if isinstance(one, StatusUpdate)))
        else:
            echoes = [one for one in things if isinstance(one, Echo)]
            await bench.tell(*await bench.echoes.place("main", echoes))
    await bench.tell(*await bench.echoes.look())


@pytest.mark.parametrize("kind", ["reference", "echo"])
@pytest.mark.parametrize("seed", range(15))
async def test_any_order_ends_in_the_same_state(bench: Bench, kind: str, seed: int) -> None:
    """What users see depends on what was said, never on when or how often."""
    luck = random.Random(seed)  # noqa: S311 - a play that can be repeated
    deliveries: list[list[Sent]] = []
    for number in range(6):
        text = f"text {number}"
        rows = [delivery(content=text)] if number % 2 else parts(f"{text} a", f"{text} b")
        deliveries.append(await attempts_of(bench, rows, luck, kind))
    events = [
        event
        for attempts in deliveries
        for one in attempts
        for event in events_of(bench, one, kind)
    ]
    events += luck.choices([event for event in events if event[0] != "answer"] or events, k=10)
    luck.shuffle(events)
    await play(bench, events)
    for attempts in deliveries:
        seen = bench.users.sees(attempts[0].row)
        assert seen is not None, seed
        assert seen[1] is expected(attempts), (seed, attempts)
