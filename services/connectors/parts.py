"""A delivery in parts: how a long text is split, and what its parts add up to."""

import unicodedata
from collections.abc import Callable, Sequence

from msgspec import Struct

from services.contracts.records import Attempt, Reason
from services.contracts.status import Status, rank

JOINER = "\u200d"
_BREAKS = ("\n", " ")
_SENT = rank(Status.SENT)
_BY_RANK = {rank(status): status for status in (Status.SENT, Status.DELIVERED, Status.READ)}


class Part(Struct, frozen=True, kw_only=True):
    """Where one part stands; `proven` is the rank of the highest status the provider gave."""

    part: int
    state: str
    proven: int = 0
    reason: Reason | None = None
    attempts: tuple[Attempt, ...] = ()


class Standing(Struct, frozen=True):
    """Where a whole delivery stands; no status means that nothing is to be told yet."""

    status: Status | None
    reason: Reason | None = None
    attempts: tuple[Attempt, ...] = ()


def split(text: str, fits: Callable[[str], bool]) -> list[str]:
    """Return a text in parts that fit; joined they are the text again, character by character.

    Cut behind a line or a word where there is one in the later half of what fits, and never
    inside what is drawn as one character if that can be avoided.
    """
    parts: list[str] = []
    while not fits(text):
        end = _cut(text, _longest(text, fits))
        parts.append(text[:end])
        text = text[end:]
    return [*parts, text]


def combine(parts: Sequence[Part]) -> Standing:
    """Return what the parts of a delivery add up to: it is as far as its last part behind."""
    for part in parts:
        if part.state == "failed":
            return Standing(Status.FAILED, _named(part, len(parts)), part.attempts)
    for part in parts:
        if part.state == "unknown":
            return Standing(Status.UNKNOWN, _named(part, len(parts)), part.attempts)
    if any(part.state != "sent" for part in parts):
        return Standing(None)
    return Standing(_BY_RANK[min(max(part.proven, _SENT) for part in parts)])


def _named(part: Part, count: int) -> Reason | None:
    if part.reason is None or count == 1:
        return part.reason
    return Reason(part.reason.code, f"Part {part.part + 1} of {count}: {part.reason.detail}")


def _longest(text: str, fits: Callable[[str], bool]) -> int:
    """Return the length of the longest beginning that fits, at least one character."""
    low, high = 1, len(text)
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if fits(text[:middle]) else (low, middle - 1)
    return low


def _cut(text: str, longest: int) -> int:
    for mark in _BREAKS:
        end = text.rfind(mark, longest // 2, longest) + 1
        if end > 0:
            return end
    end = longest
    while end > longest // 2 and _joined(text[end - 1], text[end]):
        end -= 1
    return end or longest


def _joined(before: str, after: str) -> bool:
    return (
        JOINER in (before, after)
        or unicodedata.combining(after) != 0
        or "\ufe00" <= after <= "\ufe0f"
        or "\U0001f3fb" <= after <= "\U0001f3ff"
    )
