"""The index of all runs, newest first, with a map of what each scenario came to."""

from collections.abc import Sequence
from datetime import UTC, datetime
from html import escape
from pathlib import Path

from chaos import archive
from chaos.report.page import STYLE
from chaos.report.summary import worst
from chaos.results import Results, Row
from chaos.units import show

_PROMISES = (
    "detection",
    "rebalance",
    "failover",
    "unavailability",
    "lost",
    "doubled",
    "reordered",
    "survivors",
)
_SIGNS = {"true": "✓", "false": "✗", "unknown": "?"}


def write(folder: Path, runs: Sequence[tuple[Path, Results]]) -> Path:
    """Write the index."""
    path = folder / "index.html"
    path.write_text(_page(runs))
    return path


def _page(runs: Sequence[tuple[Path, Results]]) -> str:
    rows = "".join(_row(path, results) for path, results in runs)
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>Chaos runs</title>'
        f"<style>{STYLE.read_text()}</style></head><body><h1>Chaos runs</h1>"
        f"{_map(runs)}<h2>All runs</h2>"
        '<div class="scroll"><table><tr><th>when</th><th>scenario</th><th></th>'
        '<th class="n">repeats</th><th class="n">median</th><th class="n">worst</th>'
        f"<th>in one sentence</th></tr>{rows}</table></div></body></html>\n"
    )


def _map(runs: Sequence[tuple[Path, Results]]) -> str:
    """Return the newest run of each scenario: how much of each promise it used up."""
    newest: dict[str, Results] = {}
    for _, results in runs:
        if results.eviction:
            newest.setdefault(results.scenario, results)
    rows = []
    for name, results in sorted(newest.items()):
        promised = {row.name: row for row in results.promises}
        cells = "".join(_share(promised.get(promise)) for promise in _PROMISES)
        rows.append(
            f"<tr><td>{escape(name)}</td>"
            f'<td class="{results.valid.value}">{_SIGNS[results.valid.value]}</td>{cells}</tr>'
        )
    head = "".join(f'<th class="n">{name.replace("_", " ")}</th>' for name in _PROMISES)
    return (
        "<h2>The newest run of each scenario</h2><p>How much of each promise was used up at "
        "worst; for counts, the count.</p>"
        f'<div class="scroll"><table><tr><th>scenario</th><th></th>{head}</tr>'
        f"{''.join(rows)}</table></div>"
    )


def _share(row: Row | None) -> str:
    if row is None:
        return '<td class="n soft">-</td>'
    text = worst(row)
    if row.unit == "s" and row.measured is not None and row.measured.hi is not None:
        text = f"{row.measured.hi / row.target:.1%}"
    return f'<td class="n {row.valid.value}">{_SIGNS[row.valid.value]} {text}</td>'


def _row(path: Path, results: Results) -> str:
    at = datetime.fromtimestamp(results.began_at, UTC).strftime("%Y-%m-%d %H:%M")
    felt = results.metrics.get("failover_s") or results.metrics.get("unavailability_s")
    figures = (show(felt.median), show(felt.largest)) if felt is not None else ("", "")
    off = "" if results.eviction else " (eviction off)"
    report = f"{path.name}/{archive.REPORT}"
    return (
        f"<tr><td>{at}</td>"
        f'<td><a href="{escape(report)}">{escape(results.scenario)}{off}</a></td>'
        f'<td class="{results.valid.value}">{_SIGNS[results.valid.value]} '
        f"{results.valid.value}</td>"
        f'<td class="n">{len(results.repeats)}</td><td class="n">{figures[0]}</td>'
        f'<td class="n">{figures[1]}</td><td>{escape(results.sentence)}</td></tr>'
    )
