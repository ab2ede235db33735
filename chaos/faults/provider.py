"""Lets a provider misbehave: its simulator does what providers do on bad days."""

from typing import Any

import aiohttp
import msgspec

from chaos.adapters.consul import NotFound
from chaos.faults.fault import Fault
from chaos.stage import NotConfirmed, Refused, Stage, Target
from chaos.undo import AnyUndo, Behave
from chaos.units import Seconds

_OWN = ("kind", "after", "hold", "does")


class Provider(Fault, frozen=True, kw_only=True, tag="provider"):
    """A fault of the provider's own: what it `does`, to how many requests, and whether it keeps."""

    does: str
    count: int | None = None
    keep: bool | None = None
    status: int | None = None
    code: int | None = None
    retry_after: Seconds | None = None
    delay: Seconds | None = None

    async def plan(self, stage: Stage) -> list[Target]:
        """Find the simulator of the first channel's provider."""
        job = stage.name("provider-{channel}")
        await stage.platform.nomad.definition(job)
        try:
            await stage.platform.provider(stage.channels[0])
        except NotFound as error:
            raise Refused(str(error)) from error
        return [Target(what=f"{job} ({self.does})", job=job)]

    def undo(self, stage: Stage, targets: list[Target]) -> list[AnyUndo]:
        """Let it behave again."""
        del stage
        return [Behave(target.job) for target in targets]

    async def inject(self, stage: Stage, targets: list[Target]) -> None:
        """Set the fault and see that it is set."""
        provider = await stage.platform.provider(stage.channels[0])
        try:
            number = await provider.set_fault(self._body())
        except aiohttp.ClientResponseError as error:
            raise NotConfirmed(f"{targets[0].what} was refused: {error.status}") from error
        if number not in await provider.faults():
            raise NotConfirmed(f"{targets[0].what} is not set")

    async def confirm_end(self, stage: Stage) -> None:
        """See that it happened to at least one request."""
        provider = await stage.platform.provider(stage.channels[0])
        if not any((await provider.faults()).values()):
            raise NotConfirmed(f"no request met the fault {self.does}")

    def _body(self) -> dict[str, Any]:
        values = {"kind": self.does, **msgspec.structs.asdict(self)}
        body = {name: v for name, v in values.items() if v is not None and name not in _OWN[1:]}
        for name, field in (("retry_after", "retry_after_s"), ("delay", "delay_s")):
            if name in body:
                seconds = float(body.pop(name))
                body[field] = int(seconds) if name == "retry_after" else seconds
        return body
