"""Takes a job down: its connections break, new ones are refused, until it is started again."""

from chaos.adapters.nomad import NoSuchJob
from chaos.faults.fault import Fault
from chaos.stage import NotConfirmed, Refused, Stage, Target
from chaos.undo import AnyUndo, StartJob
from chaos.waiting import SLOW_POLL_S, Late, until

STOP_DEADLINE_S = 30.0


class Down(Fault, frozen=True, kw_only=True, tag="down"):
    """Stop a job in Nomad for `hold`."""

    job: str

    async def plan(self, stage: Stage) -> list[Target]:
        """Choose the job."""
        job = stage.name(self.job)
        try:
            definition = await stage.platform.nomad.definition(job)
        except NoSuchJob as error:
            raise Refused(str(error)) from error
        return [Target(what=f"the job {job}", job=job, definition=definition)]

    def undo(self, stage: Stage, targets: list[Target]) -> list[AnyUndo]:
        """Register it again."""
        del stage
        return [StartJob(target.definition) for target in targets if target.definition]

    async def inject(self, stage: Stage, targets: list[Target]) -> None:
        """Stop the job and wait until no task of it runs."""
        nomad = stage.platform.nomad
        for target in targets:
            await nomad.stop(target.job)

            async def ended(job: str = target.job) -> bool:
                return not await nomad.running(job)

            try:
                await until(f"the end of {target.job}", ended, STOP_DEADLINE_S, poll_s=SLOW_POLL_S)
            except Late as error:
                raise NotConfirmed(str(error)) from error
