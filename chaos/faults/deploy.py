"""Deploys jobs anew, one after the other, as a release does."""

from chaos.adapters.nomad import DeployFailed
from chaos.faults.fault import Fault
from chaos.stage import NotConfirmed, Stage, Target
from chaos.units import Seconds
from chaos.waiting import SLOW_POLL_S, Late, until


class Deploy(Fault, frozen=True, kw_only=True, tag="deploy"):
    """Register each job with a changed meta and wait until its deployment has succeeded."""

    jobs: list[str]
    patience: Seconds = Seconds(120)

    async def plan(self, stage: Stage) -> list[Target]:
        """Name the jobs."""
        found = []
        for name in map(stage.name, self.jobs):
            definition = await stage.platform.nomad.definition(name)
            found.append(Target(what=f"the job {name}", job=name, definition=definition))
        return found

    async def inject(self, stage: Stage, targets: list[Target]) -> None:
        """Roll every job."""
        nomad, now = stage.platform.nomad, stage.recorder.clock.now
        for target in targets:
            definition = target.definition or {}
            meta = {**(definition.get("Meta") or {}), "rolled": f"{now():.3f}"}
            await nomad.start({**definition, "Meta": meta})

            async def deployed(job: str = target.job) -> bool:
                return await nomad.deployed(job)

            try:
                await until(
                    f"the deployment of {target.job}", deployed, self.patience, poll_s=SLOW_POLL_S
                )
            except (Late, DeployFailed) as error:
                raise NotConfirmed(str(error)) from error
