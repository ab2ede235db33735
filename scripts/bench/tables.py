"""The tables that people read: a verdict first, then where it comes from."""

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from scripts.bench import hang, verdict
from scripts.bench.ceiling import highest_held, tried
from scripts.bench.figures import (
    BENCH,
    GENERATOR,
    Conditions,
    Latency,
    Machine,
    Report,
    Rung,
    Trial,
    Use,
)
from scripts.bench.hang import HangReport
from scripts.bench.verdict import Line

MET = {True: "[green]met[/]", False: "[bold red]MISSED[/]", None: ""}


def show(console: Console, report: Report) -> None:
    """Print a whole report."""
    load = report.trial.load
    what = f"{load.offered_per_s:.0f}/s for {load.seconds:.0f} s"
    _conditions(console, what, report.conditions, report.warm_up)
    console.print(_targets(verdict.lines_of(report), "to bare parts, or of all"))
    console.print(_latencies(report))
    console.print(_bare(report))
    console.print(_machine(report.trial.machine, load.achieved_per_s))
    if report.rungs:
        console.print(_rungs(report.rungs))
        show_ceiling(console, report.rungs)
    _close(console, verdict.warnings(report), passed=verdict.passed(report))


def show_hang(console: Console, report: HangReport) -> None:
    """Print a whole report of a provider that hung."""
    load, seconds = report.load, report.before.seconds
    what = f"{load.offered_per_s:.0f}/s for 2 x {seconds:.1f} s"
    _conditions(console, what, report.conditions, report.warm_up)
    console.print(
        f"[bold]In the second window the provider of {report.channel} hung[/]: "
        f"{report.met} requests met that, none was kept or answered"
    )
    console.print(_targets(hang.lines_of(report), "change"))
    console.print(_windows(report))
    console.print(_machine(report.machine, load.achieved_per_s))
    _close(console, hang.warnings(report), passed=hang.passed(report))


def _conditions(console: Console, what: str, conditions: Conditions, warm_up: Trial | None) -> None:
    warmed = f"{warm_up.load.seconds:.0f} s" if warm_up else "none"
    console.print(
        f"[bold]{what}[/] (warm-up: {warmed}) on {conditions.instance}, "
        f"release {conditions.release}, {conditions.links} links, MongoDB {conditions.mongodb}, "
        f"{conditions.conversations} conversations on {', '.join(conditions.channels)}"
    )
    quotas = "; ".join(f"{name} {quota}" for name, quota in conditions.real_quotas.items())
    console.print(
        f"[dim]{conditions.quota_profile} profile: connectors keep no limits, providers have none; "
        f"the real ones: {quotas}[/]"
    )


def _close(console: Console, warnings: Sequence[str], *, passed: bool) -> None:
    for warning in warnings:
        console.print(f"[yellow]doubtful: {warning}[/]")
    if passed:
        console.print("[bold green]All targets are met.[/]")
    else:
        console.print("[bold red]Not all targets are met.[/]")


def show_ceiling(console: Console, rungs: Sequence[Rung]) -> None:
    """Print the highest rate that held, and what stops the next."""
    held = highest_held(tried(rungs))
    console.print(
        f"[bold]Ceiling: {'none of these rates held' if held is None else f'{held}/s'}[/]"
    )
    broken = [rung for rung in rungs if rung.broken]
    if broken:
        first = min(broken, key=lambda rung: rung.trial.load.offered_per_s)
        rate = first.trial.load.offered_per_s
        console.print(f"  At {rate:.0f}/s {', '.join(first.broken)}.")
        console.print(f"  What stops it: {first.stopped_by}.")


def _targets(lines: Sequence[Line], ratio: str) -> Table:
    table = Table("figure", title="Targets", title_justify="left")
    for name in ("measured", "target"):
        table.add_column(name, justify="right")
    table.add_column("")
    table.add_column(ratio, justify="right")
    for line in lines:
        table.add_row(line.name, line.value, line.target, MET[line.met], line.ratio)
    return table


def _latencies(report: Report) -> Table:
    columns = ("p50", "p95", "p99", "max", "p50 to bare", "p95 to bare", "p99 to bare")
    table = _table("Times in ms", "", *columns)
    parts = verdict.mean_of(report.before, report.after)
    load, delivery = report.trial.load, report.trial.delivery
    delivered = {"delivery": delivery.latency} if delivery.latency else {}
    delivered |= {f"  {channel}": latency for channel, latency in delivery.by_channel.items()}
    for latencies, steps in (
        ({"acceptance": load.acceptance}, verdict.ACCEPTANCE_STEPS),
        (delivered, verdict.DELIVERY_STEPS),
    ):
        floor = verdict.floor_of(parts, steps)
        for name, latency in latencies.items():
            _add(table, name, latency, floor=floor)
        _add(table, "  its bare steps", floor, style="dim")
    table.caption = (
        f"after the last answer: {delivery.backlog} messages and {delivery.backlog_records} "
        f"records not worked off; k6 began 99 % within {load.late_p99_ms:.0f} ms"
    )
    return table


def _windows(report: HangReport) -> Table:
    """Return the times of both windows, those of the channel that hung for completeness."""
    table = _table("Times in ms, by when it was begun", "", "p50", "p95", "p99", "max")
    windows = {"before": report.before, "during the hang": report.during}
    for when, window in windows.items():
        _add(table, f"acceptance {when}", window.acceptance)
    for channel in report.conditions.channels:
        for when, window in windows.items():
            if (latency := window.delivery.get(channel)) is not None:
                style = "dim" if channel == report.channel else None
                _add(table, f"{channel} {when}", latency, style)
    table.caption = (
        f"{report.before.requests} and {report.during.requests} requests; "
        f"k6 began 99 % within {report.load.late_p99_ms:.0f} ms"
    )
    return table


def _add(
    table: Table,
    name: str,
    latency: Latency,
    style: str | None = None,
    floor: Latency | None = None,
) -> None:
    shown = [f"{value:.1f}" for value in _percentiles(latency)]
    if floor is not None:
        pairs = list(zip(_percentiles(latency), _percentiles(floor), strict=True))[:-1]
        shown += [verdict.times(value, bare) for value, bare in pairs]
    table.add_row(name, *shown, style=style)


def _percentiles(latency: Latency) -> tuple[float, ...]:
    return latency.p50_ms, latency.p95_ms, latency.p99_ms, latency.max_ms


def _bare(report: Report) -> Table:
    table = _table("Bare parts", "", "before /s", "after /s", "one p50 ms", "one p95 ms", "rate is")
    means = verdict.mean_of(report.before, report.after)
    for name, part in means.items():
        before, after = report.before[name].per_s, report.after[name].per_s
        table.add_row(
            name,
            f"{before:,.0f}",
            f"{after:,.0f}",
            f"{part.alone.p50_ms:.2f}",
            f"{part.alone.p95_ms:.2f}",
            verdict.percent(report.trial.load.achieved_per_s / part.per_s),
        )
    return table


def _machine(machine: Machine, messages_per_s: float) -> Table:
    columns = ("processes", "CPU %", "busiest %", "of all", "ms/message", "MiB", "of all")
    table = _table(f"CPU (100 % is one of {machine.cores} cores) and memory", "job", *columns)
    for use in machine.uses:
        _add_use(table, machine, use, messages_per_s)
    busiest = max((use.busiest_percent for use in machine.platform), default=0.0)
    whole = Use(
        name="the platform",
        processes=sum(use.processes for use in machine.platform),
        cpu_percent=machine.platform_percent,
        busiest_percent=busiest,
        memory_mb=sum(use.memory_mb for use in machine.platform),
    )
    table.add_section()
    _add_use(table, machine, whole, messages_per_s)
    for name, percent in (
        ("others, not of this", machine.others_percent),
        ("taken by its host", machine.stolen_percent),
        ("the machine", machine.cpu_percent),
    ):
        table.add_row(name, "", f"{percent:.0f}", "", f"{percent / 100 / machine.cores:.0%}")
    return table


def _add_use(table: Table, machine: Machine, use: Use, messages_per_s: float) -> None:
    table.add_row(
        use.name,
        str(use.processes),
        f"{use.cpu_percent:.0f}",
        f"{use.busiest_percent:.0f}",
        f"{use.cpu_percent / 100 / machine.cores:.1%}",
        f"{10 * use.cpu_percent / messages_per_s:.2f}" if messages_per_s else "",
        f"{use.memory_mb:,.0f}",
        f"{use.memory_mb / machine.memory_mb:.1%}" if machine.memory_mb else "",
        style="dim" if use.name in (GENERATOR, BENCH) else None,
    )


def _rungs(rungs: Sequence[Rung]) -> Table:
    table = _table(
        "Search for the ceiling", "offered /s", "achieved /s", "p50", "p95", "p99", "CPU"
    )
    table.add_column("did not hold")
    for rung in sorted(rungs, key=lambda r: r.trial.load.offered_per_s):
        load, machine = rung.trial.load, rung.trial.machine
        table.add_row(
            f"{load.offered_per_s:.0f}",
            f"{load.achieved_per_s:.1f}",
            *(f"{ms:.1f}" for ms in (load.acceptance.p50_ms, load.acceptance.p95_ms)),
            f"{load.acceptance.p99_ms:.1f}",
            f"{machine.busy_share:.0%}",
            f"[red]{', '.join(rung.broken)}[/]",
        )
    return table


def compare(console: Console, a: Report, b: Report) -> None:
    """Print two reports side by side, and how the second differs."""
    table = _table(f"{a.at} and {b.at}", "", "A", "B", "B to A")
    for name, x, y in _pairs(a, b):
        table.add_row(name, f"{x:,.2f}", f"{y:,.2f}", f"{y / x - 1:+.0%}" if x else "")
    console.print(table)


def _pairs(a: Report, b: Report) -> list[tuple[str, float, float]]:
    """Return the figures of both; those of the bare parts tell how much is the machine's."""
    of_a, of_b = comparable(a), comparable(b)
    return [(name, of_a[name], of_b[name]) for name in of_a if name in of_b]


def comparable(report: Report) -> dict[str, float]:
    """Return a report's figures by name, as ratios to the bare parts too."""
    parts = verdict.mean_of(report.before, report.after)
    load, delivery, machine = report.trial.load, report.trial.delivery, report.trial.machine
    accept = verdict.floor_of(parts, verdict.ACCEPTANCE_STEPS)
    deliver = verdict.floor_of(parts, verdict.DELIVERY_STEPS)
    found = {
        "offered /s": load.offered_per_s,
        "achieved /s": load.achieved_per_s,
        "errors": float(sum(load.errors.values()) + load.dropped),
        **_named("acceptance", load.acceptance, accept),
        **(_named("delivery", delivery.latency, deliver) if delivery.latency else {}),
        "lost": float(delivery.lost),
        "duplicated": float(delivery.duplicated),
        "reordered": float(delivery.reordered),
        "CPU % the machine": machine.cpu_percent,
        "CPU % the platform": machine.platform_percent,
        "CPU ms a message": verdict.cpu_ms(report.trial),
        **{f"CPU % {use.name}": use.cpu_percent for use in machine.uses},
        **{f"{name} /s": part.per_s for name, part in parts.items()},
    }
    if delivery.emptied_after_s is not None:
        found["backlog empty after s"] = delivery.emptied_after_s
    return found


def _named(name: str, latency: Latency, floor: Latency) -> dict[str, float]:
    return {
        f"{name} p50 ms": latency.p50_ms,
        f"{name} p95 ms": latency.p95_ms,
        f"{name} p99 ms": latency.p99_ms,
        f"{name} p50 to its bare steps": latency.p50_ms / floor.p50_ms,
        f"{name} p95 to its bare steps": latency.p95_ms / floor.p95_ms,
        f"{name} p99 to its bare steps": latency.p99_ms / floor.p99_ms,
    }


def _table(title: str, first: str, *columns: str) -> Table:
    table = Table(first, title=title, title_justify="left", caption_justify="left")
    for column in columns:
        table.add_column(column, justify="right")
    return table
