"""What every fault has: a plan, an undo record, an injection that confirms itself."""

from msgspec import Struct

from chaos.stage import Stage, Target
from chaos.undo import AnyUndo
from chaos.units import Seconds


class Fault(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind"):
    """A fault as a scenario describes it.

    It is injected `after` a time from the fault before it, and held for `hold` once all are in.
    Each kind has two methods of its own. `plan(stage)` returns the targets without touching
    anything and raises Refused when they may not be hit; `inject(stage, targets)` breaks them,
    returns once that is confirmed and raises NotConfirmed otherwise.
    """

    after: Seconds = Seconds(0)
    hold: Seconds = Seconds(0)

    def undo(self, stage: Stage, targets: list[Target]) -> list[AnyUndo]:
        """Return what will take it back; nothing where the platform does by itself."""
        del stage, targets
        return []

    async def confirm_end(self, stage: Stage) -> None:
        """Confirm, before the heal, that it did something; raise NotConfirmed otherwise."""
