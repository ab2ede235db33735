"""Tables in words: for the terminal, for Markdown."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from chaos import archive
from chaos.results import Measured, Results, Row
from chaos.units import show
from chaos.verdicts import Valid

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
    if value.lo is None:
        return "never"
    lo = figure(value.lo, unit)
    if value.hi is None:
        return f"over {lo}"
    hi = figure(value.hi, unit)
    return hi if lo == hi else f"{lo} to {hi}"


def worst(row: Row) -> str:
    """Return what was measured at worst."""
    return between(row.measured, row.unit)


def write(folder: Path, results: Results) -> Path:
    """Write the summary of one campaign beside its results."""
    path = folder / archive.SUMMARY
    lines = [f"**{results.valid.value}**: {results.sentence}", "", *_table([results]), ""]
    if results.promises:
        lines += ["| promise | target | measured, worst | kept |", "|---|---|---|---|"]
    lines += [
        f"| {row.name} | {figure(row.target, row.unit)} | {worst(row)} | {row.valid.value} |"
        for row in results.promises
    ]
    path.write_text("\n".join(lines) + "\n")
    return path


def markdown(found: Sequence[Results], ended: Mapping[str, str] | None = None) -> str:
    """Return one row for each campaign, and below why a promise was not kept or not proved.

    `ended` are scenarios that left no results, each with its reason: their verdict is unknown.
    """
    reasons = {r.scenario: (r.valid, r.sentence) for r in found if r.valid is not Valid.TRUE}
    reasons |= {name: (Valid.UNKNOWN, reason) for name, reason in (ended or {}).items()}
    lines = _table(found)
    for name in ended or {}:
        cells = [name, "0", Valid.UNKNOWN.value, *[""] * (len(_HEADINGS) - 3)]
        lines.append(f"| {' | '.join(cells)} |")
    if reasons:
        lines.append("")
    lines += [
        f"- **{name}**: {valid.value}: {' '.join(why.split())}"
        for name, (valid, why) in reasons.items()
    ]
    return "\n".join(lines) + "\n"


def _table(found: Sequence[Results]) -> list[str]:
    lines = [f"| {' | '.join(_HEADINGS)} |", "|---" * len(_HEADINGS) + "|"]
    for results in found:
        felt = next((results.metrics[n] for n in _FELT if n in results.metrics), None)
        detection = results.metrics.get("detection_s")
        counts = [
            str(sum(r.counts.get(name, 0) for r in results.repeats)) if results.repeats else ""
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
    return lines
