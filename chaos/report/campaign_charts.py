"""Pictures of all repeats: the anatomy of each failover, and how the figures are spread."""

import math
from collections.abc import Sequence
from itertools import pairwise

from chaos.report.svg import Plot
from chaos.results import Results, careful
from chaos.units import show

ROW = 18
CAUGHT_UP = "caught_up_s"
STAGES = (
    ("detection_s", "noticed by the group", "c1"),
    ("rebalanced_s", "rebalanced", "c2"),
    ("processed_s", "first processed", "c3"),
    ("failover_s", "first delivered everywhere", "c4"),
    (CAUGHT_UP, "caught up", "c5"),
)


def anatomy(results: Results) -> str:
    """Draw one bar per repeat, cut into the stages of its failover."""
    bars = [
        [
            (name, words, css, r.metrics[name].interval)
            for name, words, css in STAGES
            if name in r.metrics and r.metrics[name].lo is not None
        ]
        for r in results.repeats
    ]
    ends = [(name, careful(interval)) for bar in bars for name, _, _, interval in bar]
    if not ends:
        return ""
    # Catching up takes many times as long and may be cut; the failover is what is to be seen.
    shown = [end for name, end in ends if name != CAUGHT_UP] or [end for _, end in ends]
    rows = len(results.repeats)
    goal = next((g.target for g in results.goals if g.name == "failover_worst"), None)
    last = max([*shown, goal or 0.0]) * 1.05
    plot = Plot(
        "Anatomy of each failover", (0, last), (0, rows + 1), height=60 + ROW * max(2, rows)
    )
    for number, (repeat, bar) in enumerate(zip(results.repeats, bars, strict=True), 1):
        row, began = rows + 1 - number, 0.0
        cold = " (cold)" if number == 1 and rows > 1 else ""
        plot.row(row, f"repeat {repeat.number}{cold}")
        for _, words, css, interval in bar:
            end = interval.hi if math.isfinite(interval.hi) else last
            label = f"repeat {repeat.number}: {words} after {show(interval.lo)} to {show(end)}"
            if end > began:
                plot.bar(began, end, row, ROW * 0.6, f"fill {css}", label)
                began = end
    expected = results.predicted.get("detection_s")
    if expected is not None and expected.hi is not None and expected.hi < last:
        plot.mark(expected.hi, "predicted", f"detection predicted by {show(expected.hi)}")
    if goal is not None:
        plot.mark(goal, "goal", f"goal {show(goal)}")
    legend = " ".join(f'<span class="key {css}"></span>{words}' for _, words, css in STAGES)
    late = "The promises (60 s, 10 s) lie far to the right." if last < 10 else ""  # noqa: PLR2004
    cut = "Bars are cut at the right edge." if any(end > last for _, end in ends) else ""
    caption = f"{legend}. Each stage ends at the latest bound of its interval. {cut} {late}"
    return plot.drawn(caption)


def trend(results: Results, others: Sequence[Results]) -> str:
    """Draw the median of the failover of this scenario's runs over time."""
    mine = [o for o in others if o.scenario == results.scenario and o.eviction is results.eviction]
    name = "failover_s" if "failover_s" in results.metrics else "unavailability_s"
    runs = sorted((o for o in mine if name in o.metrics), key=lambda o: o.began_at)
    if len(runs) < 2:  # noqa: PLR2004
        return ""
    top = max(o.metrics[name].largest for o in runs) * 1.1 or 1.0
    plot = Plot("This scenario, run after run", (0, len(runs) + 1), (0, top), height=180)
    plot.y_axis(" s")
    points = [(n, o.metrics[name].median) for n, o in enumerate(runs, 1)]
    for before, after in pairwise(points):
        plot.line([before, after], "c4", "median")
    for n, o in enumerate(runs, 1):
        found = o.metrics[name]
        words = f"{o.commit}: median {show(found.median)}, worst {show(found.largest)}"
        plot.line([(n, found.smallest), (n, found.largest)], "ink", words)
        plot.dot(n, found.median, "fill c4", words)
    return plot.drawn(
        "Median (dot) and range of each run, oldest first; hover for the commit.", x_axis=False
    )
