"""Puts one load on the platform and measures what becomes of it."""

import asyncio
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar
from uuid import uuid4

from chaos.adapters.consul import address_of
from chaos.adapters.platform import Platform
from chaos.adapters.provider import Provider
from chaos.workload import Lane, prepare
from scripts.bench import k6
from scripts.bench.conditions import jobs_of_allocations
from scripts.bench.deliveries import Witness, delivery_of, settle, watch
from scripts.bench.figures import GENERATOR, Conditions, Machine, Trial
from scripts.bench.usage import Sampler
from scripts.tools.command import say

T = TypeVar("T")


@dataclass(frozen=True)
class Field:
    """A platform that is ready for loads: conversations with customers of several channels."""

    platform: Platform
    instance: str
    url: str
    kafka: str
    lanes: Sequence[Lane]
    channel_of: Mapping[str, str]
    """The channel of each conversation."""
    providers: Mapping[str, Provider]

    @classmethod
    async def prepare(cls, platform: Platform, found: Conditions, url: str) -> "Field":
        """Create conversations on every channel; lanes of the channels take turns."""
        channels = found.channels
        each = max(1, found.conversations // len(channels))
        lanes = [await prepare(platform.api, channel, each) for channel in channels]
        return cls(
            platform=platform,
            instance=found.instance,
            url=url,
            kafka=await address_of(platform.consul_url, "kafka", platform.session),
            lanes=[lane for turn in zip(*lanes, strict=True) for lane in turn],
            channel_of={
                lane.conversation_id: channel
                for channel, of_channel in zip(channels, lanes, strict=True)
                for lane in of_channel
            },
            providers={channel: await platform.provider(channel) for channel in channels},
        )

    async def warm_up(self, rate_per_s: int, seconds: int) -> Trial | None:
        """Put the load on for a time before any of it counts; None when it is not to.

        A broker that has just started interprets its code, and compiles it with the cores that
        the load needs: for 25 s at 400/s on two of them, and twice as long where they are slow.
        """
        if not seconds:
            return None
        say(f"warming up with {rate_per_s}/s for {seconds} s")
        return await self.load(rate_per_s, seconds)

    async def load(self, rate_per_s: int, seconds: int) -> Trial:
        """Send at a rate for a time, and wait until everything is worked off."""
        plan = k6.plan(self.url, uuid4().hex[:12], self.lanes, rate_per_s, seconds)
        witness = await Witness.begin(self.providers, plan.run)
        async with watch(self.kafka, self.providers) as backlog:
            idle_records = await backlog.records()
            with tempfile.TemporaryDirectory(prefix="bench-") as folder:
                found, machine = await self.put_on(plan, Path(folder))
            sends = k6.sends_of(found)
            ended_at = found.ended_at
            records, emptied = await settle(backlog, idle_records, witness, sends, ended_at)
        return Trial(
            load=k6.load_of(found),
            delivery=delivery_of(sends, witness.receipts, ended_at, records, emptied),
            machine=machine,
        )

    async def put_on(self, plan: k6.Plan, folder: Path) -> tuple[k6.Run, Machine]:
        """Carry out a plan; return what came of it, and what the machine did meanwhile."""
        sampler = Sampler(self.instance, await jobs_of_allocations(self.platform))

        def started(pid: int) -> None:
            sampler.named[pid] = GENERATOR

        loading = asyncio.create_task(k6.run(plan, folder, started), name="k6")
        try:
            return await observe(loading, lambda: k6.has_begun(folder), sampler)
        finally:
            loading.cancel()
            await asyncio.gather(loading, return_exceptions=True)


async def observe(
    loading: asyncio.Task[T], has_begun: Callable[[], bool], sampler: Sampler
) -> tuple[T, Machine]:
    """Return what came of a load, and what the machine did from its first answer on.

    What the generator does before it sends anything would make the machine look less busy.
    """
    await k6.begun(loading, has_begun)
    async with sampler.sampling() as used:
        found = await loading
        return found, used()
