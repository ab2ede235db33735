"""What the faults of a link share: its proxy, the proof that traffic flows, the toxics' removal."""

import asyncio
from typing import Literal

from chaos.adapters.toxiproxy import NoProxy
from chaos.faults.fault import Fault
from chaos.stage import NotConfirmed, Refused, Stage, Target
from chaos.undo import AnyUndo, Cure
from chaos.waiting import SLOW_POLL_S, Late, until

Direction = Literal["both", "upstream", "downstream"]
TRAFFIC_DEADLINE_S = 10.0


class Link(Fault, frozen=True, kw_only=True):
    """A fault of the link from a service to what it depends on."""

    service: str
    dependency: str
    direction: Direction = "both"

    async def plan(self, stage: Stage) -> list[Target]:
        """Find the link's proxy; raise Refused when there is none, or no load flows through it."""
        link = stage.name(f"{self.service}--{self.dependency}")
        try:
            toxiproxy = await stage.platform.toxiproxy()
            await stage.platform.nomad.definition("toxiproxy")
            await toxiproxy.require(link)
            before = await toxiproxy.carried(link)
        except NoProxy as error:
            raise Refused(str(error)) from error

        async def flows() -> bool:
            return await toxiproxy.carried(link) > before

        if stage.loaded:
            try:
                await until(
                    f"traffic through the proxy {link}",
                    flows,
                    TRAFFIC_DEADLINE_S,
                    poll_s=SLOW_POLL_S,
                )
            except Late as error:
                raise Refused(f"{error}: links are not proxied, or nobody uses this one") from error
        what = f"the link {link} ({self.direction})"
        return [Target(what=what, job="toxiproxy", link=link, url=toxiproxy.url)]

    def undo(self, stage: Stage, targets: list[Target]) -> list[AnyUndo]:
        """Take the toxics away."""
        del stage
        return [
            Cure(target.url, [(target.link, f"chaos-{stream}") for stream in self._streams()])
            for target in targets
            if target.link and target.url
        ]

    async def poison(self, stage: Stage, targets: list[Target], kind: str, **values: int) -> None:
        """Put a toxic on each direction that is meant, and see it there."""
        toxiproxy = await stage.platform.toxiproxy()
        for target in targets:
            link = target.link or ""
            names = [f"chaos-{stream}" for stream in self._streams()]
            await asyncio.gather(
                *(
                    toxiproxy.poison(link, f"chaos-{stream}", kind, stream, values)
                    for stream in self._streams()
                )
            )
            if not set(names) <= set(await toxiproxy.toxics(link)):
                raise NotConfirmed(f"{target.what} has no toxic")

    def _streams(self) -> list[str]:
        return ["upstream", "downstream"] if self.direction == "both" else [self.direction]
