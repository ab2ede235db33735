"""What every fault has: a plan, an undo record, an injection that confirms itself."""

from msgspec import Struct

from chaos.stage import Stage, Target
from chaos.undo import AnyUndo
from chaos.units import Seconds


class Fault(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind"):
    """A fault as a scenario describes it.

    It is injected `after` a time from the fault before it, and held for `hold` once all are in.
    """

    after: Seconds = Seconds(0)
    hold: Seconds = Seconds(0)

    async def plan(self, stage: Stage) -> list[Target]:
        """Choose what will be hit without touching anything; raise Refused when it may not be."""
        raise NotImplementedError

    def undo(self, stage: Stage, targets: list[Target]) -> list[AnyUndo]:
        """Return what will take it back; nothing where the platform does by itself."""
        del stage, targets
        return []

    async def inject(self, stage: Stage, targets: list[Target]) -> None:
        """Break it and return once that is confirmed; raise NotConfirmed otherwise."""
        raise NotImplementedError

    async def confirm_end(self, stage: Stage) -> None:
        """Confirm, before the heal, that it did something; raise NotConfirmed otherwise."""
