"""Verdicts with three values: a promise is kept, broken, or it cannot be told."""

from collections.abc import Iterable
from enum import StrEnum

from msgspec import Struct

from chaos.observations import Interval


class Valid(StrEnum):
    """Whether a promise was kept."""

    TRUE = "true"
    FALSE = "false"
    UNKNOWN = "unknown"


EXIT_CODES = {Valid.TRUE: 0, Valid.FALSE: 1, Valid.UNKNOWN: 2}
EXIT_BAD_ARGUMENTS = 254
EXIT_CRASHED = 255
_PRIORITY = (Valid.FALSE, Valid.UNKNOWN, Valid.TRUE)


class Verdict(Struct, frozen=True, kw_only=True):
    """A judgement by name, with its reason when it is not a plain yes."""

    name: str
    valid: Valid
    reason: str = ""


def overall(verdicts: Iterable[Valid]) -> Valid:
    """Return the worst of some verdicts: false before unknown before true; none is unknown."""
    found = set(verdicts)
    return next((valid for valid in _PRIORITY if valid in found), Valid.UNKNOWN)


def at_most(measured: Interval | None, target: float) -> Valid:
    """Hold an interval against an upper target: only what lies wholly on one side is decided."""
    if measured is None:
        return Valid.UNKNOWN
    if measured.hi <= target:
        return Valid.TRUE
    return Valid.FALSE if measured.lo > target else Valid.UNKNOWN


def at_least(measured: Interval | None, target: float) -> Valid:
    """Hold an interval against a lower target."""
    if measured is None:
        return Valid.UNKNOWN
    return at_most(Interval(-measured.hi, -measured.lo), -target)
