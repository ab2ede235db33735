"""Pictures of how the figures of a campaign are spread: every value, and the share reached."""

import math
from collections.abc import Sequence

from msgspec import Struct

from chaos.report.svg import Plot
from chaos.results import Results, careful
from chaos.units import show

FLOOR_S = 0.001
DOTS_WIDTH, SHARES_WIDTH = 610, 382
ROW, ROWS_MIN = 30, 5
SHARES_LEFT = 52
SHARES_TOP = 119
"""Above 100 % there is room for the names of the targets."""
METRICS = (
    ("detection_s", "detection"),
    ("rebalance_s", "rebalance"),
    ("failover_s", "failover"),
    ("unavailability_s", "unavailability"),
)
FELT = ("failover_s", "unavailability_s", "rebalance_s", "detection_s")
"""What is told by shares: the first of these that was measured."""


class Run(Struct, frozen=True):
    """A campaign that is drawn, its name in the picture, and its colours."""

    results: Results
    name: str
    dot: str
    line: str


def spread(results: Results, others: Sequence[Results]) -> str:
    """Draw every value as a dot, and beside them the share of repeats over time.

    The newest run of the same scenario with the other setting of eviction is drawn too.
    """
    names = {True: "eviction on", False: "eviction off"}
    runs = [Run(results, "this run", "fill c4", "c4")]
    contrast = [o for o in others if o.scenario == results.scenario and o.repeats]
    contrast = [o for o in contrast if o.eviction is not results.eviction]
    if contrast:
        runs = [Run(results, names[results.eviction], "fill c4", "c4")]
        runs.append(Run(contrast[0], names[contrast[0].eviction], "fill c2", "c2 dashed"))
    if not any(name in results.metrics for name, _ in METRICS):
        return ""
    return f'<div class="pair">{_dots(runs)}{_shares(runs)}</div>'


def _dots(runs: Sequence[Run]) -> str:
    rows = [
        (f"{words}, {run.name}", run, name)
        for name, words in METRICS
        for run in runs
        if name in run.results.metrics
    ]
    every = [v for _, run, name in rows for v in run.results.metrics[name].values]
    every += [target for _, run, name in rows for target, _ in _targets(run.results, name)]
    plot = Plot(
        "Every value of every repeat",
        _decades(every),
        (0, len(rows) + 1),
        height=60 + ROW * max(ROWS_MIN, len(rows)),
        width=DOTS_WIDTH,
        log_x=True,
    )
    for number, (label, run, name) in enumerate(rows, 1):
        row, summary = len(rows) + 1 - number, run.results.metrics[name]
        plot.row(row, label)
        for target, words in _targets(run.results, name):
            plot.whisker(target, target, row, "goal solid", words)
        sure = summary.median_interval
        if sure is not None:
            words = f"median between {show(sure.lo)} and {show(sure.hi)} ({sure.confidence:.0%})"
            plot.bar(max(sure.lo, FLOOR_S), max(sure.hi, FLOOR_S), row, 16, "sure", words)
        for repeat in run.results.repeats:
            if name in repeat.metrics and math.isfinite(careful(repeat.metrics[name].interval)):
                value = careful(repeat.metrics[name].interval)
                link = f"#repeat-{repeat.number}" if run is runs[0] else ""
                plot.dot(max(value, FLOOR_S), row, run.dot, f"{label}: {show(value)}", link)
        middle = max(summary.median, FLOOR_S)
        plot.whisker(middle, middle, row, "ink", f"median {show(summary.median)}")
    return plot.drawn(
        "A dot is a repeat, the upright the median; the box holds it with at least 95 % (from six "
        "repeats on, whatever the distribution). Orange marks: our goal and the promise. "
        "Logarithmic."
    )


def _shares(runs: Sequence[Run]) -> str:
    """Draw which share of the repeats was over by when: an empirical distribution."""
    name = next(n for n in FELT if n in runs[0].results.metrics)
    words = dict(METRICS)[name]
    runs = [run for run in runs if name in run.results.metrics]
    targets = _targets(runs[0].results, name)
    every = [v for run in runs for v in run.results.metrics[name].values]
    span = _decades([*every, *(target for target, _ in targets)])
    rows = sum(n in run.results.metrics for n, _ in METRICS for run in runs)
    plot = Plot(
        f"Share of repeats whose {words} was over",
        span,
        (0, SHARES_TOP),
        height=60 + ROW * max(ROWS_MIN, rows),
        width=SHARES_WIDTH,
        left=SHARES_LEFT,
        log_x=True,
    )
    plot.y_axis(" %")
    open_ones = 0
    for run in reversed(runs):
        repeats = run.results.repeats
        ended = reached(run.results, name)
        open_ones += len(repeats) - len(ended)
        steps = [(span[0], 0.0)]
        for count, value in enumerate(ended, 1):
            at = max(value, FLOOR_S)
            steps += [(at, steps[-1][1]), (at, 100 * count / len(repeats))]
        label = f"{run.name}: {len(ended)} of {len(repeats)} repeats"
        plot.line([*steps, (span[1], steps[-1][1])], f"{run.line} bold", label)
    for target, label in targets:
        plot.mark(target, "goal", label)
    keys = " ".join(
        f'<span class="key {run.line}"></span>{run.name} ({len(run.results.repeats)} repeats)'
        for run in runs
    )
    never = f" In {open_ones} of them it was not seen to end." if open_ones else ""
    return plot.drawn(f"{keys}. By the upper bound of each measurement. Logarithmic.{never}")


def reached(results: Results, name: str) -> list[float]:
    """Return the upper bounds that a metric has, in order: what never ended has none."""
    found = [r.metrics[name].interval.hi for r in results.repeats if name in r.metrics]
    return sorted(value for value in found if math.isfinite(value))


def _targets(results: Results, name: str) -> list[tuple[float, str]]:
    """Return our goal and the promise for a metric, with words."""
    promise = name.removesuffix("_s")
    goals = [row for row in results.goals if row.name == f"{promise}_worst"]
    promises = [row for row in results.promises if row.name == promise]
    return [(row.target, f"goal {show(row.target)}") for row in goals] + [
        (row.target, f"promise {show(row.target)}") for row in promises
    ]


def _decades(values: Sequence[float]) -> tuple[float, float]:
    lo, hi = max(min(values), FLOOR_S), max(*values, FLOOR_S)
    return 10 ** math.floor(math.log10(lo)), 10 ** math.ceil(math.log10(hi * 1.1))
