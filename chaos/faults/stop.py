"""Stops instances gracefully: SIGTERM, as a deployment or an operator does."""

import signal

from chaos.faults.fault import Fault
from chaos.faults.kill import Select, end
from chaos.stage import Stage, Target
from chaos.units import Seconds


class Stop(Fault, frozen=True, kw_only=True, tag="stop"):
    """SIGTERM to some instances of a job; each must exit within `patience`."""

    job: str
    select: Select = "one"
    patience: Seconds = Seconds(20)

    async def plan(self, stage: Stage) -> list[Target]:
        """Choose the victims."""
        return await stage.select(self.job, self.select)

    async def inject(self, stage: Stage, targets: list[Target]) -> None:
        """Ask them to stop and wait until they have."""
        await end(stage, targets, signal.SIGTERM, self.patience)
