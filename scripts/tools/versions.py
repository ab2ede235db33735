"""Versions as numbers, and the range of versions that were tested."""

import re
from dataclasses import dataclass

_VERSION = re.compile(r"(?<![\w.])v?(?:go)?(\d+(?:\.\d+)+)")


def find_version(text: str) -> str | None:
    """Return the first dotted version in what a program says about itself."""
    match = _VERSION.search(text)
    return match.group(1) if match else None


@dataclass(frozen=True, slots=True)
class Accepted:
    """The versions of a part that were tested: `since` and newer, but older than `before`."""

    since: str
    before: str

    def __contains__(self, version: str) -> bool:
        return _numbers(self.since) <= _numbers(version) < _numbers(self.before)

    def __str__(self) -> str:
        return f"at least {self.since} and below {self.before}"


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))
