"""Delays a link."""

from chaos.faults.link import Link
from chaos.stage import Stage, Target
from chaos.units import Seconds


class Latency(Link, frozen=True, kw_only=True, tag="latency"):
    """Every packet of a link takes so much longer, in each direction that is meant."""

    delay: Seconds
    jitter: Seconds = Seconds(0)

    async def inject(self, stage: Stage, targets: list[Target]) -> None:
        """Add the delay."""
        delay_ms, jitter_ms = round(self.delay * 1000), round(self.jitter * 1000)
        await self.poison(stage, targets, "latency", latency=delay_ms, jitter=jitter_ms)
