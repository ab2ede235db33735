"""The page of one campaign."""

from collections.abc import Sequence
from datetime import UTC, datetime
from html import escape
from pathlib import Path

import msgspec

from chaos import archive
from chaos.report import campaign_charts, lag_chart, order_chart, repeat_charts, spread_charts
from chaos.report.replay import Replay, replay, worst
from chaos.report.summary import between, figure
from chaos.report.summary import worst as worst_words
from chaos.results import Repeat, Results, Row
from chaos.units import show
from chaos.verdicts import Valid

STYLE = Path(__file__).with_name("style.css")
SHOWN_MAX = 4
_HATCH = (
    '<svg width="0" height="0" aria-hidden="true"><defs><pattern id="hatch" width="8" height="8" '
    'patternUnits="userSpaceOnUse" patternTransform="rotate(45)">'
    '<line class="hatchline" x1="0" y1="0" x2="0" y2="8"/></pattern></defs></svg>'
)
_SIGNS = {Valid.TRUE: "✓ kept", Valid.FALSE: "✗ broken", Valid.UNKNOWN: "? unknown"}
_GOALS = {Valid.TRUE: "✓ met", Valid.FALSE: "✗ missed", Valid.UNKNOWN: "? unknown"}
_WORDS = {
    "status_back": "statuses that went back",
    "manual_steps": "manual steps",
    "failover_median": "failover, median",
    "failover_worst": "failover, worst",
    "rebalance_worst": "rebalance, worst",
}


def write(folder: Path, every: Sequence[Results]) -> Path:
    """Write the page of a run, beside its other files."""
    results = archive.read(folder)
    path = folder / archive.REPORT
    shown = _shown(results)
    path.write_text(
        page(results, every, replay(folder, shown, results.partitions) if shown else [])
    )
    return path


def _shown(results: Results) -> list[Repeat]:
    """Choose the repeats that are drawn: the worst, and those that did not pass."""
    if not results.repeats:
        return []
    first = worst(results.repeats)
    bad = [r for r in results.repeats if r.valid is not Valid.TRUE and r is not first]
    return [first, *bad][:SHOWN_MAX]


def page(results: Results, every: Sequence[Results], replays: Sequence[Replay]) -> str:
    """Return the page."""
    body = [
        _head(results),
        _tiles(results),
        _targets(results),
        "<h2>All repeats</h2>",
        campaign_charts.anatomy(results),
        spread_charts.spread(results, every),
        campaign_charts.trend(results, every),
        *(_repeat(each, results) for each in replays),
        _every_repeat(results),
        _metrics(results),
        _raw(replays),
    ]
    data = msgspec.json.encode(results).decode().replace("</", "<\\/")
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(results.title)}: {results.valid.value}</title>"
        f"<style>{STYLE.read_text()}</style></head><body>{_HATCH}{''.join(body)}"
        f'<script type="application/json" id="results">{data}</script></body></html>\n'
    )


def _head(results: Results) -> str:
    at = datetime.fromtimestamp(results.began_at, UTC).strftime("%Y-%m-%d %H:%M UTC")
    times = f"{len(results.repeats)} repeats" if len(results.repeats) != 1 else "1 repeat"
    facts = [
        f"scenario {results.scenario}",
        times,
        at,
        f"commit {results.commit}",
        f"instance {results.instance}",
        f"eviction {'on' if results.eviction else 'off'}",
    ]
    sign = {Valid.TRUE: "✓ pass", Valid.FALSE: "✗ fail", Valid.UNKNOWN: "? unknown"}
    return (
        f'<span class="verdict {results.valid.value}">{sign[results.valid]}</span>'
        f"<h1>{escape(results.sentence)}</h1>"
        f"<p>{escape(results.hypothesis)}</p>"
        f'<p class="soft">{escape(" · ".join(facts))} · <a href="../index.html">all runs</a></p>'
    )


def _tiles(results: Results) -> str:
    def total(name: str) -> int:
        return sum(r.counts.get(name, 0) for r in results.repeats)

    tiles = [(str(total(n)), n) for n in ("lost", "doubled", "reordered")]
    tiles.append((f"{total('acknowledged'):,}", "messages promised"))
    for name, words in (("failover_s", "failover"), ("unavailability_s", "longest pause")):
        if name in results.metrics:
            found = results.metrics[name]
            tiles += [(show(found.median), f"{words}, median"), (show(found.largest), "worst")]
            break
    inner = "".join(f'<div class="tile"><b>{a}</b>{escape(b)}</div>' for a, b in tiles)
    return f'<div class="tiles">{inner}</div>'


def _targets(results: Results) -> str:
    rows = [_target(row, _SIGNS, "promise", results) for row in results.promises]
    rows += [_target(row, _GOALS, "our goal", results) for row in results.goals]
    doubts = [v for v in results.verdicts if v.name in ("preflight", "campaign", "doubled")]
    told = "".join(f'<p class="{v.valid.value}">{escape(v.reason)}</p>' for v in doubts)
    return (
        '<h2>Promised and measured</h2><div class="scroll"><table><tr><th></th><th></th>'
        '<th class="n">target</th><th class="n">measured, worst</th><th></th>'
        '<th class="n">one more repeat misses (95 % sure)</th></tr>'
        f"{''.join(rows)}</table></div>{told}"
    )


def _target(row: Row, signs: dict[Valid, str], kind: str, results: Results) -> str:
    chance = "" if row.miss_chance_at_most is None else f"≤ {row.miss_chance_at_most:.0%}"
    if row.name.endswith("_median"):
        chance = ""
    relation = "≥" if row.name == "survivors" else "≤"
    link = f"#repeat-{_worst_of(row.name, results)}"
    return (
        f'<tr><td>{escape(_WORDS.get(row.name, row.name))}</td><td class="soft">{kind}</td>'
        f'<td class="n">{relation} {figure(row.target, row.unit)}</td>'
        f'<td class="n"><a href="{link}">{worst_words(row)}</a></td>'
        f'<td class="{row.valid.value}">{signs[row.valid]}</td><td class="n">{chance}</td></tr>'
    )


def _worst_of(name: str, results: Results) -> int:
    """Return the number of the repeat with the worst value."""
    metric = f"{name.removesuffix('_worst').removesuffix('_median')}_s"

    def value(repeat: Repeat) -> float:
        if metric in repeat.metrics:
            return repeat.metrics[metric].interval.hi
        count = float(repeat.counts.get(name, 0))
        return -count if name == "survivors" else count

    return max(results.repeats, key=value).number if results.repeats else 0


def _repeat(found: Replay, results: Results) -> str:
    repeat = found.repeat
    which = "The worst repeat" if repeat.number == worst(results.repeats).number else "Repeat"
    problems = "".join(f'<p class="unknown">{escape(text)}</p>' for text in repeat.problems)
    lost = "".join(
        f"<li><code>{escape(key)}</code> {escape(story)}</li>"
        for key, story in repeat.stories.items()
    )
    targets = escape("; ".join(repeat.targets) or "nothing was broken")
    charts = (
        repeat_charts.swimlanes(found),
        repeat_charts.latency(found),
        repeat_charts.flow(found),
        lag_chart.lag(found),
        order_chart.findings(found),
        repeat_charts.evidence(found),
    )
    return (
        f"<h2>{which}: {repeat.number}</h2><p>Hit: {targets}</p>{problems}"
        f"{f'<ul>{lost}</ul>' if lost else ''}{''.join(charts)}"
    )


def _every_repeat(results: Results) -> str:
    names = [
        n
        for n in (
            "detection_s",
            "rebalance_s",
            "failover_s",
            "unavailability_s",
            "collateral_s",
            "restored_s",
            "latency_p99_s",
        )
        if n in results.metrics
    ]
    counts = ("acknowledged", "lost", "doubled", "reordered", "open", "repeated")
    head = "".join(f'<th class="n">{_title(name)}</th>' for name in (*names, *counts))
    rows = []
    for repeat in results.repeats:
        cells = [between(repeat.metrics.get(name), "s") for name in names]
        cells += [str(repeat.counts.get(name, "")) for name in counts]
        reason = next((v.reason for v in repeat.verdicts if v.reason), "")
        rows.append(
            f'<tr id="repeat-{repeat.number}"><td>{repeat.number}</td>'
            f'<td class="{repeat.valid.value}" title="{escape(reason)}">'
            f"{_SIGNS[repeat.valid].split()[0]}</td>"
            + "".join(f'<td class="n">{cell}</td>' for cell in cells)
            + f"<td>{escape(reason)}</td></tr>"
        )
    return (
        f'<h2>Every repeat</h2><div class="scroll"><table><tr><th></th><th></th>{head}<th></th>'
        f"</tr>{''.join(rows)}</table></div>"
        f'<p class="soft">The same in <a href="{archive.TIMINGS}">{archive.TIMINGS}</a> and '
        f'<a href="{archive.RESULTS}">{archive.RESULTS}</a>; what was sent and received in '
        f'<a href="{archive.HISTORY}">{archive.HISTORY}</a>.</p>'
    )


def _title(name: str) -> str:
    return escape(name.removesuffix("_s").replace("_", " "))


def _metrics(results: Results) -> str:
    rows = []
    for name, found in results.metrics.items():
        unit = name.endswith("_s")
        values = [found.smallest, found.median, found.p95, found.largest, found.mad]
        cells = [show(value) if unit else f"{value:.4g}" for value in values]
        sure = found.median_interval
        bounds = (
            ""
            if sure is None
            else (
                f"{show(sure.lo)} to {show(sure.hi)}" if unit else f"{sure.lo:.4g} to {sure.hi:.4g}"
            )
        )
        note = "*" if found.p95_is_max else ""
        cells[2] += note
        numbers = "".join(f'<td class="n">{cell}</td>' for cell in [*cells, bounds])
        expected = results.predicted.get(name)
        rows.append(
            f"<tr><td>{_title(name)}</td>{numbers}"
            f'<td class="n">{between(expected, "s") if expected is not None else ""}</td></tr>'
        )
    return (
        '<h2>All figures</h2><div class="scroll"><table><tr><th></th><th class="n">min</th>'
        '<th class="n">median</th><th class="n">p95</th><th class="n">max</th>'
        '<th class="n">MAD</th><th class="n">median lies within (95 %)</th>'
        f'<th class="n">predicted by the settings</th></tr>{"".join(rows)}</table></div>'
        '<p class="soft">* with fewer than 20 repeats p95 is the maximum. The median has an '
        "interval from six repeats on.</p>"
    )


def _raw(replays: Sequence[Replay]) -> str:
    tables = []
    for found in replays:
        rows = "".join(
            f'<tr id="obs-{o.number}"><td class="n">{o.number}</td>'
            f'<td class="n">{o.when.lo - found.zero:+.3f}</td>'
            f'<td class="n">{o.when.hi - found.zero:+.3f}</td>'
            f'<td class="n">{o.seen_at - found.zero:+.3f}</td><td>{o.source.value}</td>'
            f"<td>{escape(repeat_charts.label(o))}</td></tr>"
            for o in found.facts.observations
        )
        tables.append(
            f"<details><summary>Observations of repeat {found.repeat.number}</summary>"
            f'<div class="scroll"><table class="raw"><tr><th class="n">line of '
            f'{archive.OBSERVATIONS}</th><th class="n">from, s</th><th class="n">to, s</th>'
            f'<th class="n">arrived, s</th><th>source</th><th>what</th></tr>{rows}</table></div>'
            "</details>"
        )
    return f"<h2>Raw lines</h2>{''.join(tables)}" if tables else ""
