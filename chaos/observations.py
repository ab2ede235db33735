"""Observations: what independent sources saw, each with the interval it must have happened in.

All times are seconds on the harness's axis: the epoch, carried on by the monotonic clock.
"""

import math
from collections.abc import Iterable
from enum import StrEnum

from msgspec import Struct


class Interval(Struct, frozen=True, order=True):
    """Something that is only known to lie between two bounds; `hi` is inf when it never ended."""

    lo: float
    hi: float

    def minus(self, earlier: "Interval") -> "Interval":
        """Return how long after another it was, at least and at most."""
        return Interval(self.lo - earlier.hi, self.hi - earlier.lo)

    def at_least(self, floor: float) -> "Interval":
        """Return it with bounds not below a floor: no duration is negative."""
        return Interval(max(self.lo, floor), max(self.hi, floor))

    @property
    def middle(self) -> float:
        """The best single figure; the lower bound when there is no upper one."""
        return (self.lo + self.hi) / 2 if math.isfinite(self.hi) else self.lo


def around(at: float, error_s: float) -> Interval:
    """Return the interval of a time with an error."""
    return Interval(at - error_s, at + error_s)


def hull(intervals: Iterable[Interval]) -> Interval:
    """Return the smallest interval that holds all of these."""
    every = list(intervals)
    return Interval(min(i.lo for i in every), max(i.hi for i in every))


def common(intervals: Iterable[Interval], tolerance_s: float = 0.0) -> Interval | None:
    """Return what all sources agree on; None when two contradict each other beyond a tolerance."""
    every = list(intervals)
    lo, hi = max(i.lo for i in every), min(i.hi for i in every)
    if lo > hi + tolerance_s:
        return None
    return Interval(min(lo, hi), max(lo, hi))


class Source(StrEnum):
    """Who saw it."""

    HARNESS = "harness"
    PIDFD = "pidfd"
    NOMAD = "nomad"
    CONSUL = "consul"
    BROKER = "broker"
    GROUP = "group"
    WORKER = "worker"


class Kind(StrEnum):
    """What was seen."""

    CONFIRMED = "confirmed"
    HEALED = "healed"
    OWNS = "owns"
    EXITED = "exited"
    TERMINATED = "terminated"
    STARTED = "started"
    HEALTHY = "healthy"
    UNHEALTHY = "unhealthy"
    MEMBER_LEFT = "member_left"
    REVOKED = "revoked"
    REBALANCING = "rebalancing"
    ASSIGNED = "assigned"
    PROCESSED = "processed"
    RESTORED = "restored"
    LAG = "lag"


class Observation(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One fact from one source; `seen_at` is when it reached the harness."""

    source: Source
    kind: Kind
    when: Interval
    seen_at: float
    number: int = 0
    job: str | None = None
    instance: str | None = None
    group: str | None = None
    member: str | None = None
    generation: int | None = None
    partitions: tuple[int, ...] = ()
    lag: tuple[int, ...] = ()
    """How many records of each of these partitions were not committed."""
    detail: str = ""
