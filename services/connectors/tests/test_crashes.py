"""A connector that is killed or stopped at any point of a send: one effect, or a visible UNKNOWN.

Each channel's connector sends to its own simulator over HTTP, on a real PostgreSQL; what the
provider kept is read from its receipts.
"""

import asyncio
from pathlib import Path

import pytest

from services.connectors import http, worker
from services.connectors.ledger import CLAIM_BOUND_S
from services.connectors.rows import Row
from services.connectors.tests.bench import LANE, Bench, delivery
from services.connectors.tests.processes import POINTS, SIDES, Stage, received, stage
from services.contracts.ids import new_id
from services.contracts.status import OUTCOME_UNKNOWN, Status

pytestmark = pytest.mark.connected

NOT_KEPT = ("claimed", "connected", "half written")
"""Points at which nothing can be known but that a claim stood, and nothing was kept."""
KEPT = ("written", "answer read")
"""Points at which the provider has it and only the lost process knew."""


async def crash(on: Stage, *, at_least_once: bool = False) -> tuple[Row, Row]:
    """Let the first process stop, and its successor take over; return both deliveries."""
    names = [new_id(), new_id()]
    batch = [
        received(on.channel, name, text, at_least_once=at_least_once)
        for name, text in zip(names, ("one", "two"), strict=True)
    ]
    await on.first.intake.handle(batch)
    async with asyncio.timeout(5):
        await on.point.reached.wait()
    await on.second.take_over()
    # The offset was not committed: all records come again.
    await on.second.intake.handle(batch)
    one, two = (delivery(message_id=name) for name in names)
    return one, two


async def pass_bound(on: Stage) -> None:
    """Let the claim that the first process left behind be so old that nothing can be written."""
    await on.bench.age(CLAIM_BOUND_S)


async def settled(on: Stage, row: Row, *statuses: Status) -> None:
    """Wait until users see a delivery in one of these."""

    async def seen() -> bool:
        found = on.bench.users.sees(row)
        return found is not None and found[1] in statuses

    await on.until(seen)


async def waits_again(on: Stage, row: Row) -> bool:
    """Tell whether a row is to be tried again."""
    return await on.bench.state(row) == "pending"


AFTER_SENT = (Status.SENT, Status.DELIVERED, Status.READ)


@pytest.mark.parametrize("channel", SIDES)
@pytest.mark.parametrize("at", POINTS)
async def test_killed(
    bench: Bench, tmp_path: Path, channel: str, at: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The successor sends what was not claimed, resends nothing, and evidence settles the rest."""
    async with stage(bench, tmp_path, channel, at, monkeypatch) as on:
        one, two = await crash(on)
        await on.first.kill()
        await pass_bound(on)
        await settled(on, two, *AFTER_SENT)
        assert await on.kept() == (["two"] if at in NOT_KEPT else ["one", "two"])
        if at in NOT_KEPT or (at in KEPT and not SIDES[channel].gives_evidence):
            await settled(on, one, Status.UNKNOWN)
            await bench.tell(*await bench.outcomes.give_up([LANE.partition], 0))
            assert bench.users.sees(one) == (0, Status.FAILED, OUTCOME_UNKNOWN)
        else:
            await settled(on, one, *AFTER_SENT)


@pytest.mark.parametrize("channel", SIDES)
@pytest.mark.parametrize("at", POINTS)
async def test_stopped(
    bench: Bench, tmp_path: Path, channel: str, at: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that goes on after its successor has: its lease is over, its answer is evidence."""
    monkeypatch.setattr(http, "LEASE_S", 0.2)
    clock = asyncio.get_running_loop().time
    async with stage(bench, tmp_path, channel, at, monkeypatch) as on:
        one, two = await crash(on)
        lease_over = clock() + http.LEASE_S
        await pass_bound(on)
        await settled(on, two, *AFTER_SENT)
        async with asyncio.timeout(5):
            while clock() < lease_over:
                await asyncio.sleep(0.01)
        on.point.release.set()
        if at in ("claimed", "connected"):
            await settled(on, one, Status.FAILED)
            assert bench.users.sees(one) == (0, Status.FAILED, "provider_unreachable")
            assert await on.kept() == ["two"]
            return
        await settled(on, one, *AFTER_SENT)
        kept = await on.kept()
        assert sorted(kept) == ["one", "two"]
        if at != "half written":
            assert kept == ["one", "two"]


@pytest.mark.parametrize("channel", SIDES)
@pytest.mark.parametrize("at", POINTS)
async def test_killed_at_least_once(
    bench: Bench, tmp_path: Path, channel: str, at: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The caller's choice: nothing is left unknown, and what was lost is sent again, in order."""
    monkeypatch.setattr(worker, "CLAIM_BOUND_S", 1.0)
    async with stage(bench, tmp_path, channel, at, monkeypatch) as on:
        one, two = await crash(on, at_least_once=True)
        await on.first.kill()
        await pass_bound(on)
        if at in NOT_KEPT or (at in KEPT and not SIDES[channel].gives_evidence):
            await on.until(lambda: waits_again(on, one))
            await pass_bound(on)
        await settled(on, one, *AFTER_SENT)
        await settled(on, two, *AFTER_SENT)
        twice = at in KEPT and not SIDES[channel].gives_evidence
        assert await on.kept() == (["one", "one", "two"] if twice else ["one", "two"])
