"""A picture of one repeat: how far a consumer group was behind, and through which generations."""

import math
from collections.abc import Sequence

from msgspec import Struct

from chaos.observations import Kind, Observation, Source
from chaos.report.repeat_charts import bands, span
from chaos.report.replay import Replay
from chaos.report.svg import Plot

ROW = 26
PEAK = 16
SHADES = ("shade", "shade other")


class Generation(Struct, frozen=True):
    """A generation of a group: from the assignment until the group stopped for the next one."""

    number: int
    since: float
    until: float


def lag(replay: Replay) -> str:
    """Draw the groups that were hit, else all that were sampled."""
    hit = {h.group for h in replay.facts.hits}
    sampled = sorted({s.group for s in _samples(replay) if s.group is not None})
    wanted = [group for group in sampled if group in hit] or sampled
    return "".join(_drawn(replay, group) for group in wanted)


def _drawn(replay: Replay, group: str) -> str:
    since, until = span(replay)
    samples = [
        s
        for s in _samples(replay)
        if s.group == group and since <= s.when.middle - replay.zero <= until
    ]
    partitions = sorted({p for s in samples for p in s.partitions})
    if not partitions:
        return ""
    most = max(count for s in samples for count in s.lag)
    told = generations(replay.facts.observations, group)
    plot = Plot(
        f"Lag of the group {group}: records not yet committed",
        (since, until),
        (0, len(partitions) + 1 + bool(told)),
        height=60 + ROW * (len(partitions) + bool(told)),
    )
    orphans = replay.line.orphans if any(h.group == group for h in replay.facts.hits) else ()
    _steps(plot, replay, told, len(partitions) + 1)
    for number, partition in enumerate(partitions, 1):
        row = len(partitions) + 1 - number
        curve = _curve(samples, partition, replay.zero)
        peak = max(count for _, count in curve)
        lost = partition in orphans
        plot.row(row, f"partition {partition}{', orphaned' if lost else ''}: {peak}")
        columns = [(at, count / max(1, most)) for at, count in curve]
        words = f"partition {partition}: at most {peak} records"
        plot.columns(columns, row, PEAK, "c6" if lost else "c1", words)
    bands(plot, replay)
    plot.mark(0.0, "ink", "fault")
    top = "On top: the generation of the group, with a gap while it rebalanced." if told else ""
    return plot.drawn(
        '<span class="key c6"></span>partitions that lost their owner <span class="key c1"></span>'
        f"others. A column is a sample, two each second: full height is {max(1, most)}, a flat one "
        "is 0, and where Kafka did not answer there is none. The figure beside each partition is "
        f"its peak. {top}"
    )


def _samples(replay: Replay) -> list[Observation]:
    return [o for o in replay.facts.observations if o.kind is Kind.LAG]


def _curve(samples: Sequence[Observation], partition: int, zero: float) -> list[tuple[float, int]]:
    return [
        (s.when.middle - zero, count)
        for s in samples
        for p, count in zip(s.partitions, s.lag, strict=True)
        if p == partition
    ]


def _steps(plot: Plot, replay: Replay, found: Sequence[Generation], row: float) -> None:
    """Draw the generations as bars in a row, and where each began as a line through all rows."""
    since, until = span(replay)
    if found:
        plot.row(row, "generation")
    for number, each in enumerate(found):
        began = max(each.since - replay.zero, since)
        ended = min(each.until - replay.zero, until)
        if ended <= began:
            continue
        words = f"generation {each.number}"
        plot.bar(began, ended, row, 14, SHADES[number % len(SHADES)], words)
        plot.text((began + ended) / 2, row, str(each.number))
        if began > since:
            plot.rule(began, "step")


def generations(observations: Sequence[Observation], group: str) -> list[Generation]:
    """Return the generations of a group as the broker told them, first to last."""
    told = sorted(
        (
            o
            for o in observations
            if o.source is Source.BROKER and o.group == group and o.generation is not None
        ),
        key=lambda o: o.when.lo,
    )
    began: dict[int, float] = {}
    ended: dict[int, float] = {}
    for o in told:
        if o.generation is None:
            continue
        if o.kind is Kind.ASSIGNED:
            began.setdefault(o.generation, o.when.hi)
        elif o.kind is Kind.REBALANCING:
            ended.setdefault(o.generation, o.when.lo)
    return [
        Generation(
            number, began.get(number, -math.inf), ended.get(number, began.get(number + 1, math.inf))
        )
        for number in sorted(began.keys() | ended.keys())
    ]
