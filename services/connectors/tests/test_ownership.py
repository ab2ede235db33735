"""Random walks of two owners over a real ledger: who may claim, and in which order."""

import asyncio
import random
from typing import NamedTuple
from uuid import UUID, uuid4

import pytest

from services.connectors.ledger import CLAIM_BOUND_S, Ledger
from services.connectors.rows import Claim, Lane, Row
from services.connectors.tests.bench import LOST, Bench, delivery, status
from services.contracts.ids import new_id
from services.contracts.records import Reason
from services.contracts.status import Status

pytestmark = pytest.mark.connected

STEPS = 400
LANES = [Lane(3, uuid4(), uuid4()) for _ in range(2)]
FATAL = Reason("fatal", "Never.")


class Held(NamedTuple):
    """A claim that was won and may be acted on, even by a zombie."""

    row: Row
    attempt: UUID
    claimant: Ledger


class Walk:
    """Does something at random again and again, and holds what happens against the promises.

    `order` has the unfinished rows of each lane as they were taken in or replayed, `claimed` the
    attempt that holds each row.
    """

    def __init__(self, bench: Bench, seed: int) -> None:
        self.bench = bench
        self.random = random.Random(seed)  # noqa: S311 - a walk that can be repeated
        self.epochs: dict[Ledger, dict[int, int]] = {bench.first: {}, bench.second: {}}
        self.owner: Ledger | None = None
        self.order: dict[Lane, list[UUID]] = {lane: [] for lane in LANES}
        self.rows: dict[UUID, Row] = {}
        self.claimed: dict[UUID, UUID] = {}
        self.held: list[Held] = []
        self.failed: list[UUID] = []
        self.claims = 0

    async def step(self) -> None:
        """Do one thing."""
        steps = [self.take_over, self.take_in, self.replay, self.age, self.respect]
        await self.random.choice(
            [*steps, *[self.take_in] * 2, *[self.claim] * 5, *[self.end] * 5]
        )()

    async def take_over(self) -> None:
        """Let either become the owner; the other does not hear of it."""
        ledger = self.random.choice(list(self.epochs))
        self.epochs[ledger] = await ledger.own([3], self.epochs[ledger])
        self.owner = ledger

    async def take_in(self) -> None:
        """Add a delivery; an idle lane may begin with it, if who takes it in owns the lane."""
        lane = self.random.choice(LANES)
        row = delivery(
            conversation_id=lane.conversation_id,
            recipient_id=lane.recipient_id,
            at_least_once=self.random.random() < 0.3,
        )
        ledger, attempt = self.random.choice(list(self.epochs)), new_id()
        is_idle = not self.order[lane] and await self.young(lane) == 0
        claims = {row.key: Claim(row, self.epochs[ledger].get(3, 0), attempt)} if is_idle else {}
        won = (await ledger.take_in([row], claims))[row.key]
        assert won == (attempt if is_idle and ledger is self.owner else None)
        self.rows[row.message_id] = row
        self.order[lane].append(row.message_id)
        if won is not None:
            self.claimed[row.message_id] = won
            self.held.append(Held(row, won, ledger))
            self.claims += 1

    async def replay(self) -> None:
        """Send a failed delivery again, at the tail."""
        if not self.failed:
            return
        name = self.failed.pop(self.random.randrange(len(self.failed)))
        row = self.rows[name]
        number = 1 + row.replay_no
        self.rows[name] = row = delivery(
            message_id=name,
            conversation_id=row.conversation_id,
            recipient_id=row.recipient_id,
            replay_no=number,
        )
        assert len(await self.bench.second.take_in([row])) == 1
        self.order[row.lane].append(name)

    async def age(self) -> None:
        """Let time pass, enough for a claim or not."""
        await self.bench.age(self.random.choice([1.0, CLAIM_BOUND_S]))

    async def respect(self) -> None:
        """Let the owner call a claim unknown whose bound has passed."""
        row = await self.bench.first.head(self.random.choice(LANES))
        if row is None or row.state != "sending" or row.wait_s > 0 or row.attempt_id is None:
            return
        _, report, _ = await self.bench.outcomes.unanswered(row, row.attempt_id, LOST)
        assert report is not None
        assert self.claimed.pop(row.message_id) == row.attempt_id
        self.order[row.lane].remove(row.message_id)

    async def claim(self) -> None:
        """Let both try to claim the head of a lane at the same moment, whoever owns it."""
        lane = self.random.choice(LANES)
        row = await self.bench.first.head(lane)
        if row is None or row.state != "pending" or row.wait_s > 0:
            return
        attempts = {ledger: new_id() for ledger in self.epochs}
        won = await asyncio.gather(
            *(
                ledger.claim(row, self.epochs[ledger].get(3, 0), attempt)
                for ledger, attempt in attempts.items()
            )
        )
        winners = [ledger for ledger, one in zip(attempts, won, strict=True) if one]
        assert winners == ([self.owner] if self.owner else [])
        for ledger in winners:
            assert row.message_id not in self.claimed, "two claims of one row at a time"
            assert self.order[lane][0] == row.message_id, "a lane is inverted"
            assert await self.young(lane) <= 1, "an older claim can still be written"
            self.claimed[row.message_id] = attempts[ledger]
            self.held.append(Held(row, attempts[ledger], ledger))
            self.claims += 1

    async def young(self, lane: Lane) -> int:
        """Return how many claims of a lane could still be written by those who hold them."""
        return int(
            await self.bench.pool.fetchval(
                "select count(*) from ledger.delivery where channel = $1 and conversation_id = $2"
                " and state in ('sending', 'unknown')"
                " and claimed_at > clock_timestamp() - $3 * interval '1 second'",
                self.bench.channel,
                lane.conversation_id,
                CLAIM_BOUND_S,
            )
        )

    async def end(self) -> None:
        """Let a claim come to its end, perhaps long after somebody else went on."""
        if not self.held:
            return
        held = self.held.pop(self.random.randrange(len(self.held)))
        row, attempt, ledger = held
        holds = self.claimed.get(row.message_id) == attempt
        kind = self.random.choice(["accepted", "refused", "back", "unknown", "webhook", "crash"])
        if kind == "accepted":
            await self.bench.outcomes.accepted(row, attempt, f"p-{attempt}")
        elif kind == "refused":
            await self.bench.outcomes.refused(row, attempt, FATAL)
        elif kind == "back":
            assert await ledger.put_back(row, attempt, wait_s=0, failure=LOST) == holds
        elif kind == "unknown":
            _, report, _ = await self.bench.outcomes.unanswered(row, attempt, LOST)
            assert (report is not None) == holds
        elif kind == "webhook":
            await self.bench.hear(status(row, attempt, self.random.choice(list(Status)[2:5])))
        await self.look(row)

    async def look(self, row: Row) -> None:
        """Let the model follow what became of a row."""
        state, name = await self.bench.state(row), row.message_id
        if state != "sending":
            self.claimed.pop(name, None)
        if state not in ("pending", "sending") and name in self.order[row.lane]:
            self.order[row.lane].remove(name)
        if state == "failed" and name not in self.failed:
            self.failed.append(name)
        elif state != "failed" and name in self.failed:
            self.failed.remove(name)


@pytest.mark.parametrize("seed", range(12))
async def test_no_walk_claims_twice_or_inverts_a_lane(bench: Bench, seed: int) -> None:
    """Whatever owners, zombies and webhooks do: one claim at a time, and the first row first."""
    walk = Walk(bench, seed)
    await walk.take_over()
    for _ in range(STEPS):
        await walk.step()
    assert walk.claims > STEPS // 25
