"""How long a consumer waits between batches: what comes meanwhile shares the next one."""

import math
from dataclasses import dataclass
from typing import NamedTuple

REMEMBERED_S = 2.0
"""How long a consumer's rate of records goes by what came before."""


class Wave(NamedTuple):
    """From so many records a second in each partition on, batches begin so far apart.

    That is alike for all members of a group, and stays when one of them is lost.
    """

    rate_per_s: float
    apart_s: float


@dataclass(frozen=True, slots=True)
class Rest:
    """So many times as long as the batch took, up to `max_s`; with a wave until the next one.

    Waves begin at the same moments everywhere: who works on what several consumers publish has
    one batch of it instead of one from each. The last of those that the rate calls for counts.
    """

    ratio: float = 1.5
    max_s: float = 0.08
    waves: tuple[Wave, ...] = ()


class Pace:
    """Tells one consumer how long to rest."""

    def __init__(self, rest: Rest, now: float) -> None:
        self._rest = rest
        self._rate_per_s = 0.0
        self._counted_at = now

    def after(self, records: int, partitions: int, spent_s: float, now: float) -> float:
        """Return how long to rest after a batch of so many partitions.

        `now` is the time that all consumers have.
        """
        self._count(records / max(1, partitions), now)
        apart_s = 0.0
        for wave in self._rest.waves:
            if self._rate_per_s >= wave.rate_per_s:
                apart_s = wave.apart_s
        if apart_s:
            return apart_s - now % apart_s
        return min(self._rest.max_s, self._rest.ratio * spent_s)

    def _count(self, records: float, now: float) -> None:
        """Bring the rate up to date: what is long ago counts less and less."""
        elapsed_s = max(0.0, now - self._counted_at)
        self._rate_per_s *= math.exp(-elapsed_s / REMEMBERED_S)
        self._rate_per_s += records / REMEMBERED_S
        self._counted_at = now


USUAL = Rest()
