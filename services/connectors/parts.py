"""A delivery in parts: how a long text is split, and what its parts add up to."""

import unicodedata
from collections.abc import Callable, Sequence

from msgspec import Struct

from services.contracts.records import Attempt, Reason
from services.contracts.status import OUTCOME_UNKNOWN, Status, rank

JOINER = "\u200d"
_FLAG_LETTERS = ("\U0001f1e6", "\U0001f1ff")
_CHANGERS = (("\U0001f3fb", "\U0001f3ff"), ("\U000e0020", "\U000e007f"))
"""First and last of what changes the emoji before it: skin tones, and the tags of a flag."""
_BREAKS = ("\n", " ")
_SENT = rank(Status.SENT)
_BY_RANK = {rank(status): status for status in (Status.SENT, Status.DELIVERED, Status.READ)}


class Part(Struct, frozen=True, kw_only=True):
    """Where one part stands; `proven` is the rank of the highest status the provider gave."""

    part: int
    state: str
    replay_no: int = 0
    proven: int = 0
    reason: Reason | None = None
    attempts: tuple[Attempt, ...] = ()


class Standing(Struct, frozen=True):
    """Where a whole delivery stands; no status means that nothing is to be told yet.

    It is as often replayed as the part that was most often.
    """

    status: Status | None
    replay_no: int
    reason: Reason | None = None
    attempts: tuple[Attempt, ...] = ()


def split(text: str, fits: Callable[[str], bool]) -> list[str]:
    """Return a text in parts that fit; joined they are the text again, character by character.

    Cut behind a line or a word where there is one in the later half of what fits, and never
    inside what is drawn as one character if that can be avoided. Nor is the end left without a
    word, because providers refuse a message of spaces.
    """
    parts: list[str] = []
    while len(text) > 1 and not fits(text):
        longest = _longest(text, fits)
        last_word = len(text.rstrip()) - 1
        if 0 < last_word < longest and fits(text[last_word:]):
            longest = last_word
        end = _cut(text, longest)
        parts.append(text[:end])
        text = text[end:]
    return [*parts, text]


def combine(parts: Sequence[Part]) -> Standing:
    """Return what the parts of a delivery add up to: it is as far as its last part behind."""
    replay_no = max(part.replay_no for part in parts)
    worst = max(parts, key=_trouble)
    if _trouble(worst):
        status = Status.UNKNOWN if worst.state == "unknown" else Status.FAILED
        return Standing(status, replay_no, _named(worst, len(parts)), worst.attempts)
    if any(part.state != "sent" for part in parts):
        return Standing(None, replay_no)
    return Standing(_BY_RANK[min(max(part.proven, _SENT) for part in parts)], replay_no)


def _trouble(part: Part) -> int:
    """Return how bad it is: failed for certain, for lack of evidence, not known yet, none."""
    if part.state == "failed":
        given_up = part.reason is not None and part.reason.code == OUTCOME_UNKNOWN
        return 2 if given_up else 3
    return 1 if part.state == "unknown" else 0


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
    while end > longest // 2 and _joined(text, end):
        end -= 1
    return end if end > longest // 2 else longest


def _joined(text: str, at: int) -> bool:
    """Tell whether what stands on both sides of a place is drawn as one character."""
    before, after = text[at - 1], text[at]
    return (
        JOINER in (before, after)
        or unicodedata.category(after).startswith("M")
        or any(first <= after <= last for first, last in _CHANGERS)
        or (_is_flag_letter(after) and _flag_letters_before(text, at) % 2 == 1)
    )


def _flag_letters_before(text: str, at: int) -> int:
    start = at
    while start > 0 and _is_flag_letter(text[start - 1]):
        start -= 1
    return at - start


def _is_flag_letter(character: str) -> bool:
    return _FLAG_LETTERS[0] <= character <= _FLAG_LETTERS[1]
