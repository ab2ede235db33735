"""What a campaign found, as it is written to `results.json`. Durations are in seconds."""

import math
from collections.abc import Sequence

from msgspec import Struct

from chaos.observations import Interval
from chaos.statistics import Summary, miss_chance_at_most, summarise
from chaos.timeline import Hit
from chaos.verdicts import Valid, Verdict, overall


class Measured(Struct, frozen=True):
    """A value between two bounds; `hi` is null without an upper one, both for what never came."""

    lo: float | None
    hi: float | None

    @property
    def interval(self) -> Interval:
        """The bounds as an interval."""
        return Interval(
            math.inf if self.lo is None else self.lo, math.inf if self.hi is None else self.hi
        )


def measured(interval: Interval) -> Measured:
    """Return an interval as it can be written: JSON knows no infinity."""
    lo, hi = (bound if math.isfinite(bound) else None for bound in (interval.lo, interval.hi))
    return Measured(lo, hi)


class Phase(Struct, frozen=True):
    """A phase of a repeat, in seconds since the epoch."""

    name: str
    began_at: float
    ended_at: float


class Repeat(Struct, frozen=True, kw_only=True):
    """One repeat: its verdicts, its figures, and what went wrong with it."""

    number: int
    valid: Valid
    began_at: float
    ended_at: float
    load_ended_at: float
    verdicts: list[Verdict]
    metrics: dict[str, Measured]
    counts: dict[str, int]
    phases: list[Phase] = []
    problems: list[str] = []
    stories: dict[str, str] = {}
    """What became of the messages that were lost, doubled or reordered."""
    targets: list[str] = []
    hits: list[Hit] = []
    fault: Measured | None = None


class Row(Struct, frozen=True, kw_only=True):
    """A target and what was measured: `worst` of all repeats, or their `median`."""

    name: str
    target: float
    unit: str
    measured: Measured | None
    valid: Valid
    misses: int = 0
    miss_chance_at_most: float | None = None


class Results(Struct, frozen=True, kw_only=True):
    """A campaign: N repeats of one scenario."""

    scenario: str
    title: str
    hypothesis: str
    valid: Valid
    sentence: str
    began_at: float
    ended_at: float
    instance: str
    commit: str
    eviction: bool
    interrupted: bool
    tier: int
    verdicts: list[Verdict]
    promises: list[Row]
    goals: list[Row]
    metrics: dict[str, Summary]
    """Every metric over the repeats; a value is the upper bound of its interval."""
    predicted: dict[str, Measured]
    repeats: list[Repeat]
    partitions: dict[str, int]
    """The partition of each lane."""


def values(repeats: Sequence[Repeat], metric: str) -> list[Interval]:
    """Return a metric of all repeats that could tell it."""
    return [r.metrics[metric].interval for r in repeats if metric in r.metrics]


def summaries(repeats: Sequence[Repeat]) -> dict[str, Summary]:
    """Describe every metric over the repeats, each value by its upper bound where it has one.

    What never ended has no value: a delivery that did not arrive has no latency.
    """
    names = sorted({name for repeat in repeats for name in repeat.metrics})
    bounds = {name: [careful(found) for found in values(repeats, name)] for name in names}
    finite = {name: [v for v in found if math.isfinite(v)] for name, found in bounds.items()}
    return {name: summarise(found) for name, found in finite.items() if found}


def careful(interval: Interval) -> float:
    """Return the upper bound of a measurement, or what is known where it has none."""
    return interval.hi if math.isfinite(interval.hi) else interval.lo


def row(
    name: str, target: float, unit: str, each: Sequence[Interval], judged: Sequence[Valid]
) -> Row:
    """Return the row of a promise: the worst repeat, and how sure one may be of the next."""
    misses = sum(valid is not Valid.TRUE for valid in judged)
    worst = Interval(max(i.lo for i in each), max(i.hi for i in each)) if each else None
    return Row(
        name=name,
        target=target,
        unit=unit,
        measured=measured(worst) if worst is not None else None,
        valid=overall(judged),
        misses=misses,
        miss_chance_at_most=miss_chance_at_most(len(judged), misses) if judged else None,
    )
