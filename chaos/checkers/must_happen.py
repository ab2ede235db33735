"""What must have happened for a run to prove anything: `fault-confirmed`, `rebalance >= 1`."""

import re
from collections.abc import Iterable, Mapping

from chaos.verdicts import Valid, Verdict

_CONDITION = re.compile(r"^(?P<name>[a-z][a-z-]*)(?:\s*>=\s*(?P<least>\d+))?$")


def parse(condition: str) -> tuple[str, int]:
    """Return the name of an event and how often it must have happened; raise ValueError."""
    found = _CONDITION.match(condition)
    if found is None:
        raise ValueError(f"{condition!r} is no condition: write `name` or `name >= number`")
    return found["name"], int(found["least"] or 1)


def check(conditions: Iterable[str], counts: Mapping[str, int]) -> list[Verdict]:
    """Return one verdict for each condition: true when it held, else unknown, never false."""
    found = []
    for condition in conditions:
        name, least = parse(condition)
        happened = counts.get(name, 0)
        held = happened >= least
        reason = "" if held else f"{name} happened {happened} times, and must {least} times"
        valid = Valid.TRUE if held else Valid.UNKNOWN
        found.append(Verdict(name=f"must happen: {condition}", valid=valid, reason=reason))
    return found
