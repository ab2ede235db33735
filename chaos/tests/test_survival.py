"""What was answered 202 reaches the provider once and in order, whatever dies meanwhile."""

import asyncio
from collections import Counter
from uuid import UUID

import pytest

from chaos.adapters.platform import Platform
from chaos.adapters.provider import Provider
from chaos.checkers.deliveries import Judgement, judge
from chaos.history import FinalState, Outcome, Receipt, Send
from chaos.workload import Workload, prepare

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(400)]

DRAIN_DEADLINE_S = 60.0
ACCEPTED_DEADLINE_S = 120.0
POLL_S = 0.1
OUTAGE_S = 20.0
QUIET_RATE_PER_S = 50.0
OUTAGE_LOAD_MAX = 5000


class Run:
    """A load on the platform and what became of it."""

    def __init__(self, platform: Platform, provider: Provider, workload: Workload) -> None:
        self._platform = platform
        self._provider = provider
        self.workload = workload

    async def finish(self, load: "asyncio.Task[list[Send]]") -> tuple[list[Send], Judgement]:
        """Wait for the load, then until nothing is on its way any more; judge the receipts."""
        sends = await load
        clock = asyncio.get_running_loop().time
        ends = clock() + DRAIN_DEADLINE_S
        while True:
            receipts = await self._receipts()
            judgement = judge(sends, receipts, {})
            if not judgement.lost or clock() > ends:
                break
            states = await self._states(judgement.lost)
            judgement = judge(sends, receipts, states)
            if not judgement.lost:
                break
            await asyncio.sleep(POLL_S)
        print(Counter(send.answer for send in sends), judgement)  # noqa: T201 - the figures
        return sends, judgement

    async def accepted(self, more: int) -> None:
        """Return when this many more messages have been accepted."""
        wanted = self._accepted() + more
        async with asyncio.timeout(ACCEPTED_DEADLINE_S):
            while self._accepted() < wanted:
                await asyncio.sleep(POLL_S)

    def _accepted(self) -> int:
        return sum(send.outcome is Outcome.OK for send in self.workload.sends)

    async def _receipts(self) -> list[Receipt]:
        run = self.workload.run_id
        return [r for r in await self._provider.receipts() if r.text.startswith(run)]

    async def _states(self, message_ids: list[UUID]) -> dict[UUID, FinalState]:
        final = self._platform.api.final_state
        states = await asyncio.gather(*map(final, message_ids[:1000]))
        return dict(zip(message_ids, states, strict=False))


async def start(
    platform: Platform, channel: str, *, conversations: int, rate_per_s: float, messages: int
) -> tuple[Run, "asyncio.Task[list[Send]]"]:
    """Start a load; it sends on while the test breaks things."""
    lanes = await prepare(platform.api, channel, conversations)
    workload = Workload(platform.api, lanes, rate_per_s=rate_per_s)
    run = Run(platform, await platform.provider(channel), workload)
    return run, asyncio.create_task(workload.run(messages))


async def test_nothing_is_lost_when_instances_are_killed(platform: Platform, channel: str) -> None:
    """5,000 messages at 200/s while a message instance, a router and a connector are killed."""
    run, load = await start(platform, channel, conversations=100, rate_per_s=200, messages=5000)
    for job in ("message", "router", f"connector-{channel.lower()}"):
        await run.accepted(1200)
        victim = (await platform.nomad.victims(job))[0]
        await platform.nomad.signal(victim, "SIGKILL")
    sends, judgement = await run.finish(load)
    assert judgement.kept
    assert judgement.acknowledged > len(sends) / 2, "a load that was refused proves nothing"
    assert judgement.delivered + len(judgement.open) == judgement.acknowledged


@pytest.mark.parametrize("job", ["kafka", "mongodb", "postgres", "user"])
async def test_an_outage_loses_nothing(platform: Platform, channel: str, job: str) -> None:
    """A dependency that is stopped for 20 s is waited for, and nothing needs a restart."""
    run, load = await start(
        platform, channel, conversations=50, rate_per_s=QUIET_RATE_PER_S, messages=OUTAGE_LOAD_MAX
    )
    await run.accepted(150)
    before = await platform.nomad.victims("message")
    definition = await platform.nomad.stop(job)
    try:
        await asyncio.sleep(OUTAGE_S)
    finally:
        await platform.nomad.start(definition)
    await run.accepted(200)
    run.workload.stop()
    _, judgement = await run.finish(load)
    assert judgement.kept
    assert not judgement.open
    assert {victim.allocation for victim in await platform.nomad.victims("message")} == {
        victim.allocation for victim in before
    }


async def test_a_rolling_deploy_loses_nothing(platform: Platform, channel: str) -> None:
    """Every service is restarted in turn under load, and no message notices."""
    run, load = await start(platform, channel, conversations=50, rate_per_s=100, messages=3000)
    await run.accepted(200)
    for job in ("router", f"connector-{channel.lower()}", "message"):
        definition = await platform.nomad.definition(job)
        meta = {**(definition.get("Meta") or {}), "rolled": f"{asyncio.get_running_loop().time()}"}
        await platform.nomad.start({**definition, "Meta": meta})
    sends, judgement = await run.finish(load)
    assert judgement.kept
    assert not judgement.open
    assert {send.answer for send in sends} <= {"202", "503"}
    assert judgement.acknowledged > len(sends) / 2, "a load that was refused proves nothing"
