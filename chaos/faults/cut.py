"""Cuts a link: connections stay open, and nothing arrives."""

from chaos.faults.link import Link
from chaos.stage import Stage, Target


class Cut(Link, frozen=True, kw_only=True, tag="cut"):
    """Data is swallowed in each direction that is meant; the heal closes the connections."""

    async def inject(self, stage: Stage, targets: list[Target]) -> None:
        """Swallow everything from now on."""
        await self.poison(stage, targets, "timeout", timeout=0)
