"""Kills instances: SIGKILL, confirmed by their pidfd."""

import asyncio
import signal
from typing import Literal

from chaos.adapters import processes
from chaos.faults.fault import Fault
from chaos.observations import Interval
from chaos.stage import NotConfirmed, Refused, Stage, Target
from chaos.units import Seconds
from services.contracts.timers import HEARTBEAT_MS

Select = Literal["one", "minority", "majority", "all", "owner"]
EXIT_DEADLINE_S = 5.0


class Kill(Fault, frozen=True, kw_only=True, tag="kill"):
    """SIGKILL to the processes of some instances of a job, at any point of a heartbeat.

    `during` a rebalance it waits until the job's consumer group has one, however short that is.
    """

    job: str
    select: Select = "one"
    during: Literal["rebalance"] | None = None
    heartbeat: Seconds = Seconds(HEARTBEAT_MS / 1000)

    async def plan(self, stage: Stage) -> list[Target]:
        """Choose the victims."""
        if self.during and self.job not in stage.groups:
            raise Refused(f"{self.job} has no consumer group that could rebalance")
        return await stage.select(self.job, self.select)

    async def inject(self, stage: Stage, targets: list[Target]) -> None:
        """Kill all at once; the moment lies between the first signal and the last exit."""
        if self.during:
            await stage.rebalancing(self.job)
        elif not self.after:
            await asyncio.sleep(stage.phase_s(self.heartbeat))
        await end(stage, targets, signal.SIGKILL, EXIT_DEADLINE_S)


async def end(
    stage: Stage, targets: list[Target], number: signal.Signals, deadline_s: float
) -> None:
    """Signal the targets' processes and write down when each was gone."""
    clock = stage.recorder.clock.now

    async def one(target: Target) -> None:
        gone: list[float] = []
        watch = processes.ExitWatch(target.processes[0], lambda: gone.append(clock()))
        try:
            called_at = clock()
            graceful = number is signal.SIGTERM
            for process in target.processes[:1] if graceful else target.processes:
                processes.send(process, number)
            sent_at = clock()
            async with asyncio.timeout(deadline_s):
                await watch.gone.wait()
        except (TimeoutError, processes.Gone) as error:
            raise NotConfirmed(f"{target.what} did not end by {number.name}: {error}") from error
        finally:
            watch.close()
        # A graceful stop begins with the signal: the instance hands over before it exits.
        stage.hit(target, Interval(called_at, sent_at if graceful else gone[0]))

    async with asyncio.TaskGroup() as group:
        for target in targets:
            group.create_task(one(target))
