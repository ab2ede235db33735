"""Pauses instances, as a stalled machine does: SIGSTOP, and SIGCONT when healed."""

import signal

from chaos.adapters import processes
from chaos.faults.fault import Fault
from chaos.faults.kill import Select
from chaos.observations import Interval
from chaos.stage import NotConfirmed, Stage, Target
from chaos.undo import AnyUndo, Resume
from chaos.waiting import Late, until

CONFIRM_DEADLINE_S = 2.0


class Pause(Fault, frozen=True, kw_only=True, tag="pause"):
    """Stop some instances of a job for `hold`; they wake in the middle of their work."""

    job: str
    select: Select = "one"

    async def plan(self, stage: Stage) -> list[Target]:
        """Choose the victims."""
        return await stage.select(self.job, self.select)

    def undo(self, stage: Stage, targets: list[Target]) -> list[AnyUndo]:
        """Let them go on."""
        del stage
        return [Resume([process for target in targets for process in target.processes])]

    async def inject(self, stage: Stage, targets: list[Target]) -> None:
        """Stop them and see in the kernel that they stand."""
        clock = stage.recorder.clock.now
        for target in targets:
            called_at = clock()
            try:
                for process in target.processes:
                    processes.send(process, signal.SIGSTOP)
            except processes.Gone as error:
                raise NotConfirmed(f"{target.what} ended before it was stopped") from error

            async def stands(target: Target = target) -> bool:
                return all(processes.state(process) == "T" for process in target.processes)

            try:
                await until(f"the stop of {target.what}", stands, CONFIRM_DEADLINE_S, poll_s=0.001)
            except Late as error:
                raise NotConfirmed(str(error)) from error
            stage.hit(target, Interval(called_at, clock()))
