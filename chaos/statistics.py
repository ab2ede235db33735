"""Statistics of repeats that assume no distribution: order statistics, ranks, resampling."""

import math
import random
from collections.abc import Sequence
from itertools import product
from statistics import NormalDist, median

from msgspec import Struct

CONFIDENCE = 0.95
P95_VALUES_MIN = 20
RESAMPLES = 2000


class MedianInterval(Struct, frozen=True):
    """Two values of the sample that hold the true median with at least this confidence."""

    lo: float
    hi: float
    confidence: float


class Summary(Struct, frozen=True, kw_only=True):
    """One metric over the repeats; `p95_is_max` says that there are too few for a real p95."""

    values: list[float]
    smallest: float
    median: float
    largest: float
    p95: float
    p95_is_max: bool
    mad: float
    median_interval: MedianInterval | None


class Comparison(Struct, frozen=True, kw_only=True):
    """How the values of one campaign differ from another's: median of B minus median of A."""

    difference: float
    lo: float
    hi: float
    p_value: float

    @property
    def seen(self) -> bool:
        """True when both methods see a difference."""
        return self.p_value < 1 - CONFIDENCE and not self.lo <= 0 <= self.hi


def quantile(values: Sequence[float], share: float) -> float:
    """Return the smallest value that at least this share of the values does not exceed."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def summarise(values: Sequence[float]) -> Summary:
    """Describe the values of one metric; there must be at least one."""
    centre = median(values)
    few = len(values) < P95_VALUES_MIN
    return Summary(
        values=list(values),
        smallest=min(values),
        median=centre,
        largest=max(values),
        p95=max(values) if few else quantile(values, 0.95),
        p95_is_max=few,
        mad=median(abs(value - centre) for value in values),
        median_interval=median_interval(values),
    )


def median_interval(
    values: Sequence[float], confidence: float = CONFIDENCE
) -> MedianInterval | None:
    """Return the tightest symmetric pair of order statistics; None when there are too few."""
    ordered = sorted(values)
    n = len(ordered)
    found = None
    for k in range(1, n // 2 + 1):
        coverage = 1 - 2 * _binomial_at_most(k - 1, n, 0.5)
        if coverage < confidence:
            break
        found = MedianInterval(ordered[k - 1], ordered[n - k], coverage)
    return found


def miss_chance_at_most(repeats: int, misses: int, confidence: float = CONFIDENCE) -> float:
    """Return the upper bound of the chance that one more repeat misses its target."""
    if misses >= repeats:
        return 1.0
    lo, hi = 0.0, 1.0
    for _ in range(60):
        chance = (lo + hi) / 2
        if _binomial_at_most(misses, repeats, chance) > 1 - confidence:
            lo = chance
        else:
            hi = chance
    return hi


def _binomial_at_most(k: int, n: int, chance: float) -> float:
    return sum(math.comb(n, i) * chance**i * (1 - chance) ** (n - i) for i in range(k + 1))


def compare(a: Sequence[float], b: Sequence[float], seed: int = 1) -> Comparison:
    """Compare two samples by their medians (bootstrap) and by ranks (Mann-Whitney)."""
    dice = random.Random(seed)  # noqa: S311 - repeatable resampling
    differences = [
        median(dice.choices(b, k=len(b))) - median(dice.choices(a, k=len(a)))
        for _ in range(RESAMPLES)
    ]
    return Comparison(
        difference=median(b) - median(a),
        lo=quantile(differences, (1 - CONFIDENCE) / 2),
        hi=quantile(differences, (1 + CONFIDENCE) / 2),
        p_value=mann_whitney(a, b),
    )


def mann_whitney(a: Sequence[float], b: Sequence[float]) -> float:
    """Return the two-sided p-value that both samples have one distribution (ties corrected)."""
    wins = sum((x > y) + (x == y) / 2 for x, y in product(a, b))
    n = len(a) + len(b)
    counts: dict[float, int] = {}
    for value in (*a, *b):
        counts[value] = counts.get(value, 0) + 1
    ties = sum(count**3 - count for count in counts.values()) / (n * (n - 1))
    spread = math.sqrt(len(a) * len(b) / 12 * (n + 1 - ties))
    if spread == 0:
        return 1.0
    z = max(0.0, abs(wins - len(a) * len(b) / 2) - 0.5) / spread
    return 2 * (1 - NormalDist().cdf(z))
