"""Tables in words: for the terminal, for Markdown."""

from collections.abc import Sequence

from chaos.results import Measured, Results, Row
from chaos.units import show

_HEADINGS = (
    "scenario",
    "repeats",
    "verdict",
    "detection",
    "failover or pause, median",
    "worst",
    "lost",
    "doubled",
    "reordered",
)
_FELT = ("failover_s", "unavailability_s")


def figure(value: float, unit: str) -> str:
    """Return a figure with its unit."""
    return show(value) if unit == "s" else f"{value:.0f}"


def between(value: Measured | None, unit: str) -> str:
    """Return an interval: one figure where both bounds read the same."""
    if value is None:
        return "not measured"
    lo = figure(value.lo, unit)
    if value.hi is None:
        return f"over {lo}"
    hi = figure(value.hi, unit)
    return hi if lo == hi else f"{lo} to {hi}"


def worst(row: Row) -> str:
    """Return what was measured at worst."""
    return between(row.measured, row.unit)


def markdown(found: Sequence[Results]) -> str:
    """Return one row for each campaign."""
    lines = [f"| {' | '.join(_HEADINGS)} |", "|---" * len(_HEADINGS) + "|"]
    for results in found:
        felt = next((results.metrics[n] for n in _FELT if n in results.metrics), None)
        detection = results.metrics.get("detection_s")
        counts = [
            str(sum(r.counts.get(name, 0) for r in results.repeats))
            for name in ("lost", "doubled", "reordered")
        ]
        cells = [
            results.scenario,
            str(len(results.repeats)),
            results.valid.value,
            show(detection.median) if detection is not None else "",
            show(felt.median) if felt is not None else "",
            show(felt.largest) if felt is not None else "",
            *counts,
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"
