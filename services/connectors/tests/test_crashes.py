"""A connector process that dies or is stopped at any point of a send, and its successor.

Both are processes of the operating system; each channel's connector sends to its own simulator over
HTTP, on a real PostgreSQL. What counts is what the provider kept, by its receipts, and what users
were told: one effect, or an UNKNOWN that they see.
"""

import signal
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from functools import partial
from pathlib import Path

import pytest

from services.connectors.ledger import CLAIM_BOUND_S
from services.connectors.rows import Row
from services.connectors.tests import processes
from services.connectors.tests.bench import Bench, delivery
from services.connectors.tests.processes import (
    POINTS,
    SIDES,
    TELLING,
    UNKNOWN_DEADLINE_S,
    Stage,
    received,
)
from services.contracts.ids import new_id
from services.contracts.status import OUTCOME_UNKNOWN, Status

pytestmark = pytest.mark.connected

NOT_KEPT = ("claimed", "connected", "lease checked", "half written")
"""Points at which nothing can be known but that a claim stood, and nothing was kept."""
KEPT = ("written", "answer read")
"""Points at which the provider has it and only the lost process could know."""
EVIDENCE_FIRST = "answer read"
"""There the webhooks come before the claim's bound has passed, elsewhere after it."""
WINDOW = ("lease checked", "half written")
"""Points between the look at the lease and the end of the write."""
AFTER_SENT = (Status.SENT, Status.DELIVERED, Status.READ)
LEASE_S = 0.4
"""Of processes that are to outlive it."""
RETRY_AFTER_S = 1
RETRY_BOUND_S = 1.0
"""So long evidence is waited for before a second send; webhooks need a fraction of it here."""

Staged = Callable[..., AbstractAsyncContextManager[Stage]]


@pytest.fixture
def staged(bench: Bench, tmp_path: Path, postgres_address: str, postgres_password: str) -> Staged:
    """Return what runs a channel's provider and two processes."""
    postgres = {"postgres_address": postgres_address, "postgres_password": postgres_password}
    return partial(processes.stage, bench, tmp_path, postgres)


async def crash(on: Stage, at: str, *, at_least_once: bool = False) -> tuple[Row, Row]:
    """Let the first process meet its end, and its successor take over; return two deliveries."""
    names = [new_id(), new_id()]
    batch = [
        received(on.channel, name, text, at_least_once=at_least_once)
        for name, text in zip(names, ("one", "two"), strict=True)
    ]
    on.first.take_over()
    # Where the lane has gone on, the second message would be anywhere: only the successor gets it.
    on.first.handle(batch[:1] if at in TELLING else batch)
    await on.first.met_end()
    on.second.take_over()
    # The offset was not committed: all records come again.
    on.second.handle(batch)
    one, two = (delivery(message_id=name) for name in names)
    return one, two


async def settled(on: Stage, row: Row, *statuses: Status) -> None:
    """Wait until users see a delivery in one of these."""

    async def seen() -> bool:
        found = on.bench.users.sees(row)
        return found is not None and found[1] in statuses

    await on.until(seen)


def is_unknown(channel: str, at: str) -> bool:
    """Tell whether nobody but the process that is gone can say what came of its send."""
    return at in NOT_KEPT or (at in KEPT and not SIDES[channel].gives_evidence)


@pytest.mark.parametrize("takes_over", [True, False])
@pytest.mark.parametrize("channel", SIDES)
@pytest.mark.parametrize("at", POINTS)
async def test_killed(staged: Staged, channel: str, at: str, takes_over: bool) -> None:  # noqa: FBT001
    """The successor sends what was not claimed, resends nothing, and evidence settles the rest.

    Whether it was claimed by itself, as after a takeover, or as it was stored.
    """
    async with staged(channel, at=at, takes_over=takes_over) as on:
        one, two = await crash(on, at)
        if at == EVIDENCE_FIRST and SIDES[channel].gives_evidence:
            await on.hear_something()
        await on.bench.age(CLAIM_BOUND_S)
        await settled(on, two, *AFTER_SENT)
        if is_unknown(channel, at):
            await settled(on, one, Status.UNKNOWN)
            await on.bench.age(UNKNOWN_DEADLINE_S)
            await settled(on, one, Status.FAILED)
            assert on.bench.users.sees(one) == (0, Status.FAILED, OUTCOME_UNKNOWN)
        else:
            await settled(on, one, *AFTER_SENT)
        await on.second.finish()
        assert await on.kept() == (["two"] if at in NOT_KEPT else ["one", "two"])


@pytest.mark.parametrize("takes_over", [True, False])
@pytest.mark.parametrize("channel", SIDES)
@pytest.mark.parametrize("at", [at for at in POINTS if at not in WINDOW])
async def test_stopped(staged: Staged, channel: str, at: str, takes_over: bool) -> None:  # noqa: FBT001
    """A process that goes on after its successor has writes nothing; its answer is evidence."""
    end = {"at": at, "end": signal.SIGSTOP, "lease_s": LEASE_S, "takes_over": takes_over}
    async with staged(channel, **end) as on:
        one, two = await crash(on, at)
        await on.bench.age(CLAIM_BOUND_S)
        await settled(on, two, *AFTER_SENT)
        await settled(on, one, *((Status.UNKNOWN,) if is_unknown(channel, at) else AFTER_SENT))
        await on.first.go_on()
        await on.first.finish()
        await on.second.finish()
        if at in NOT_KEPT:
            assert on.bench.users.sees(one) == (0, Status.FAILED, "provider_unreachable")
            assert await on.kept() == ["two"]
        else:
            await settled(on, one, *AFTER_SENT)
            assert await on.kept() == ["one", "two"]


@pytest.mark.parametrize("channel", SIDES)
@pytest.mark.parametrize("at", WINDOW)
async def test_stopped_in_the_window(staged: Staged, channel: str, at: str) -> None:
    """What remains: a request that is written after all comes once, but late and out of order.

    Nothing can call a process back that stops between the look at the lease and the end of the
    write. Users see UNKNOWN meanwhile, the next message goes before it, and its answer settles it.
    """
    async with staged(channel, at=at, end=signal.SIGSTOP, lease_s=LEASE_S) as on:
        one, two = await crash(on, at)
        await on.bench.age(CLAIM_BOUND_S)
        await settled(on, two, *AFTER_SENT)
        await settled(on, one, Status.UNKNOWN)
        assert await on.kept() == ["two"]
        await on.first.go_on()
        await on.first.finish()
        await on.second.finish()
        await settled(on, one, *AFTER_SENT)
        assert await on.kept() == ["two", "one"]


@pytest.mark.parametrize("channel", SIDES)
@pytest.mark.parametrize("at", ["half written", "written"])
async def test_killed_at_least_once(staged: Staged, channel: str, at: str) -> None:
    """The caller's choice: nothing is left unknown, and what was lost is sent again, in order."""
    async with staged(channel, at=at, retry_bound_s=RETRY_BOUND_S) as on:
        one, two = await crash(on, at, at_least_once=True)
        await on.bench.age(CLAIM_BOUND_S)
        await settled(on, one, *AFTER_SENT)
        await settled(on, two, *AFTER_SENT)
        await on.second.finish()
        twice = at in KEPT and not SIDES[channel].gives_evidence
        assert await on.kept() == (["one", "one", "two"] if twice else ["one", "two"])


async def test_the_bound_is_waited_out(staged: Staged) -> None:
    """Where nothing ages a claim its whole bound passes before a successor says anything."""
    async with staged(next(iter(SIDES)), at="claimed") as on:
        one, two = await crash(on, "claimed")
        claimed_at = await on.bench.pool.fetchval(
            "select claimed_at from ledger.delivery where message_id = $1", one.message_id
        )
        await settled(on, two, *AFTER_SENT)
        bound_at = claimed_at.timestamp() + CLAIM_BOUND_S
        assert bound_at <= min(receipt["received_at"] for receipt in await on.world.receipts())
        # A provider's own time may be given in whole seconds.
        assert bound_at <= min(one.observed_at.timestamp() for one in on.bench.users.records)


async def test_stopped_before_a_claim_that_is_free(staged: Staged) -> None:
    """A row that waits for its new owner's next attempt is not claimed by the one before."""
    end = {"at": "before claim", "end": signal.SIGSTOP, "lease_s": LEASE_S}
    async with staged(next(iter(SIDES)), **end) as on:
        throttle = {"kind": "throttle", "count": 1, "retry_after_s": RETRY_AFTER_S}
        await on.world.control("POST", "faults", throttle)
        one, two = await crash(on, "before claim")

        async def throttled() -> bool:
            return bool(await on.world.receipts()) and await on.bench.state(one) == "pending"

        await on.until(throttled)
        await on.first.go_on()
        await on.first.finish()
        await settled(on, one, *AFTER_SENT)
        await settled(on, two, *AFTER_SENT)
        assert await on.kept() == ["one", "two"]
        refused, kept, _ = await on.world.receipts()
        assert kept["received_at"] >= refused["received_at"] + RETRY_AFTER_S
