"""Workers that break a rule of delivery are found out, each for its own reason.

A small model of the way of a message: partitions with committed offsets, workers that can die
between any two steps, a provider that keeps what it is sent. A good worker passes; one that
commits before the work loses, one without a claim doubles, unkeyed production reorders.
"""

import random
from dataclasses import dataclass, field
from itertools import count
from uuid import uuid4

import pytest

from chaos.checkers.deliveries import Judgement, judge
from chaos.history import Outcome, Receipt, Send

PARTITIONS = 2
LANES = 4
MESSAGES = 200


@dataclass
class World:
    """The parts that outlive a worker: the log, the offsets, the claims, the provider."""

    log: list[list[Send]] = field(default_factory=lambda: [[] for _ in range(PARTITIONS)])
    committed: list[int] = field(default_factory=lambda: [0] * PARTITIONS)
    claimed: set[str] = field(default_factory=set)
    receipts: list[Receipt] = field(default_factory=list)

    def keep(self, send: Send) -> None:
        """Let the provider keep a message."""
        at = float(len(self.receipts))
        self.receipts.append(
            Receipt(
                seq=len(self.receipts) + 1,
                received_at=at,
                answered_at=at,
                to=send.lane,
                text=send.content,
                kept=True,
            )
        )


class Killed(Exception):  # noqa: N818 - what happens to a worker
    """The worker is dead."""


@dataclass
class Worker:
    """Works on a partition from its committed offset; `mortal` decides whether it dies here."""

    world: World
    dice: random.Random
    mortal: float
    commit_first: bool = False
    claims: bool = True

    def work(self, partition: int) -> None:
        """Deliver one message, with a chance to die between any two steps."""
        world = self.world
        offset = world.committed[partition]
        if offset >= len(world.log[partition]):
            return
        send = world.log[partition][offset]
        if self.commit_first:
            world.committed[partition] = offset + 1
            self._perhaps_die()
        if not self.claims or send.content not in world.claimed:
            world.claimed.add(send.content)
            world.keep(send)
            self._perhaps_die()
        if not self.commit_first:
            world.committed[partition] = offset + 1

    def _perhaps_die(self) -> None:
        if self.dice.random() < self.mortal:
            raise Killed


def run(*, keyed: bool = True, commit_first: bool = False, claims: bool = True) -> Judgement:
    """Send messages through workers of one kind that are killed again and again."""
    dice = random.Random(7)  # noqa: S311 - repeatable
    world, numbers, sends = World(), count(), []
    for number in range(MESSAGES):
        lane, at = number % LANES, float(number)
        send = Send(
            message_id=uuid4(),
            lane=str(lane),
            sequence=number // LANES,
            content=f"{lane} {number}",
            invoked_at=at,
            returned_at=at + 0.5,
            outcome=Outcome.OK,
            answer="202",
        )
        sends.append(send)
        world.log[lane % PARTITIONS if keyed else dice.randrange(PARTITIONS)].append(send)
    while any(c < len(log) for c, log in zip(world.committed, world.log, strict=True)):
        assert next(numbers) < 100 * MESSAGES
        try:
            Worker(world, dice, 0.1, commit_first, claims).work(dice.randrange(PARTITIONS))
        except Killed:
            continue
    return judge(sends, world.receipts, {})


def test_a_good_worker_passes() -> None:
    """Claim, work, commit: nothing is lost, doubled or reordered by any number of kills."""
    judgement = run()
    assert judgement.kept
    assert judgement.delivered == MESSAGES


@pytest.mark.parametrize(
    ("worker", "broken"),
    [
        ({"commit_first": True}, "lost"),
        ({"claims": False}, "doubled"),
        ({"keyed": False}, "reordered"),
    ],
)
def test_a_bad_worker_fails_for_its_own_reason(worker: dict[str, bool], broken: str) -> None:
    """Each broken rule shows as its own kind of damage and no other."""
    judgement = run(**worker)
    assert [n for n in ("lost", "doubled", "reordered") if getattr(judgement, n)] == [broken]
