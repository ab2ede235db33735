"""Measures the platform under load: what it takes, what that costs, how far it is from bare parts.

Ends with 0 when every target is met, with 1 when not, with 2 when the run does not count.
"""

import os
from collections.abc import Coroutine
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, NoReturn, TypeVar

import msgspec
import typer
import uvloop
from rich.console import Console

from chaos.adapters.consul import NotFound
from chaos.adapters.platform import NoPlatform, connect
from scripts.bench import bare, conditions, hang, tables, verdict
from scripts.bench.ceiling import climb
from scripts.bench.figures import Report
from scripts.bench.hang import HangReport
from scripts.bench.k6 import GeneratorFailed
from scripts.bench.trial import Field
from scripts.bench.verdict import Refused
from scripts.cluster.instance import find
from scripts.tools.command import say

INVALID = 2
RATE_PER_S, HANG_RATE_PER_S = 400, 200
WARM_UP_S = 60
T = TypeVar("T")
console = Console(highlight=False)
app = typer.Typer(add_completion=False)


@app.command(help=__doc__)
def bench(
    *,
    rate: Annotated[
        int | None,
        typer.Option(
            min=1, help=f"Messages a second. Default: {RATE_PER_S}, {HANG_RATE_PER_S} with --hang."
        ),
    ] = None,
    seconds: Annotated[int, typer.Option(min=1, help="With --hang for each window.")] = 60,
    warm_up: Annotated[
        int, typer.Option(min=0, metavar="SECONDS", help="With the same load, before it counts.")
    ] = WARM_UP_S,
    channel: Annotated[
        list[str] | None, typer.Option(help="Only this channel; may be repeated. Default: all.")
    ] = None,
    conversations: Annotated[int, typer.Option(min=1)] = 180,
    find_ceiling: Annotated[
        bool, typer.Option("--find-ceiling", help="Then look for the highest rate that holds.")
    ] = False,
    rung_seconds: Annotated[int, typer.Option(min=1, help="For each rate of that search.")] = 15,
    hangs: Annotated[
        str | None,
        typer.Option(
            "--hang",
            metavar="CHANNEL",
            help="Instead: send on all, then on while its provider hangs; compare the others.",
        ),
    ] = None,
    compare: Annotated[
        tuple[Path, Path] | None, typer.Option(help="Compare two earlier reports; measure nothing.")
    ] = None,
) -> None:
    """Measure, print, keep; the exit code is the verdict."""
    if compare is not None:
        try:
            first, second = (msgspec.json.decode(p.read_bytes(), type=Report) for p in compare)
        except (OSError, msgspec.MsgspecError) as error:
            console.print(f"[bold red]This is no report:[/] {error}")
            raise typer.Exit(INVALID) from error
        tables.compare(console, first, second)
        return
    wanted = [name.upper() for name in channel or ()]
    if hangs is not None:
        if find_ceiling:
            raise typer.BadParameter("--hang and --find-ceiling are two runs")
        rate = rate or HANG_RATE_PER_S
        found = _run(measure_hang(hangs.upper(), rate, seconds, warm_up, wanted, conversations))
        tables.show_hang(console, found)
        _end(found, f"{found.at}-hang", passed=hang.passed(found))
    rungs_s = rung_seconds if find_ceiling else None
    rate = rate or RATE_PER_S
    report = _run(measure(rate, seconds, warm_up, wanted, conversations, rungs_s))
    tables.show(console, report)
    _end(report, report.at, passed=verdict.passed(report))


def _run(measuring: Coroutine[Any, Any, T]) -> T:
    """Measure; end with 2 when the figures do not count."""
    try:
        return uvloop.run(measuring)
    except (Refused, NoPlatform, NotFound, conditions.Unfit, GeneratorFailed) as error:
        console.print(f"[bold red]This run does not count:[/] {error}")
        raise typer.Exit(INVALID) from error
    except Exception as error:
        console.print_exception()
        console.print("[bold red]This run does not count:[/] it was not finished.")
        raise typer.Exit(INVALID) from error


def _end(report: Report | HangReport, name: str, *, passed: bool) -> NoReturn:
    console.print(f"[dim]{keep(report, name)}[/]")
    raise typer.Exit(0 if passed else 1)


async def measure(
    rate: int,
    seconds: int,
    warm_up_s: int,
    channels: list[str],
    conversations: int,
    rung_seconds: int | None,
) -> Report:
    """Warm the platform up; measure the bare parts, the platform, and the bare parts again."""
    async with connect() as platform:
        found = await conditions.look(platform, channels, conversations)
        say(f"creating {conversations} conversations")
        field = await Field.prepare(platform, found, os.environ["CHAT4ALL_URL"])
        warm_up = await field.warm_up(rate, warm_up_s)
        say("measuring the bare parts")
        before = await bare.measure_all(platform)
        say(f"sending {rate}/s for {seconds} s")
        trial = await field.load(rate, seconds)
        if reason := verdict.refusal(trial.load, trial.machine):
            raise Refused(f"the load generator was the limit: {reason}.")
        rungs = await climb(field.load, trial, rung_seconds) if rung_seconds else []
        say("measuring the bare parts again")
        after = await bare.measure_all(platform)
    at = datetime.now(UTC).strftime("%Y-%m-%dT%H-%M-%SZ")
    return Report(
        at=at,
        conditions=found,
        warm_up=warm_up,
        before=before,
        trial=trial,
        after=after,
        rungs=rungs,
    )


async def measure_hang(
    channel: str,
    rate: int,
    seconds: int,
    warm_up_s: int,
    channels: list[str],
    conversations: int,
) -> HangReport:
    """Measure the platform before and while one channel's provider hangs."""
    async with connect() as platform:
        found = await conditions.look(platform, channels, conversations)
        hang.require_others(found.channels, channel)
        say(f"creating {conversations} conversations")
        field = await Field.prepare(platform, found, os.environ["CHAT4ALL_URL"])
        return await hang.measure(field, found, channel, rate, seconds, warm_up_s)


def keep(report: Report | HangReport, name: str) -> Path:
    """Write a report into the instance's folder; return where."""
    file = find(report.conditions.instance).folder / "bench" / f"{name}.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(msgspec.json.format(msgspec.json.encode(report)))
    return file


if __name__ == "__main__":
    app(prog_name="just bench")
