"""Measures the platform under load: what it takes, what that costs, how far it is from bare parts.

Ends with 0 when every target is met, with 1 when not, with 2 when the run does not count.
"""

import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import msgspec
import typer
import uvloop
from rich.console import Console

from chaos.adapters.consul import NotFound
from chaos.adapters.platform import NoPlatform, connect
from scripts.bench import bare, conditions, tables, verdict
from scripts.bench.ceiling import climb
from scripts.bench.figures import Report
from scripts.bench.k6 import GeneratorFailed
from scripts.bench.trial import Field
from scripts.cluster.instance import find
from scripts.tools.command import say

INVALID = 2
console = Console(highlight=False)
app = typer.Typer(add_completion=False)


class Refused(Exception):  # noqa: N818 - a refusal
    """The figures of a run do not count."""


@app.command(help=__doc__)
def bench(
    *,
    rate: Annotated[int, typer.Option(min=1, help="Messages a second.")] = 400,
    seconds: Annotated[int, typer.Option(min=1)] = 60,
    channel: Annotated[
        list[str] | None, typer.Option(help="Only this channel; may be repeated. Default: all.")
    ] = None,
    conversations: Annotated[int, typer.Option(min=1)] = 180,
    find_ceiling: Annotated[
        bool, typer.Option("--find-ceiling", help="Then look for the highest rate that holds.")
    ] = False,
    rung_seconds: Annotated[int, typer.Option(min=1, help="For each rate of that search.")] = 15,
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
    rungs_s = rung_seconds if find_ceiling else None
    try:
        report = uvloop.run(measure(rate, seconds, wanted, conversations, rungs_s))
    except (Refused, NoPlatform, NotFound, conditions.Unfit, GeneratorFailed) as error:
        console.print(f"[bold red]This run does not count:[/] {error}")
        raise typer.Exit(INVALID) from error
    except Exception as error:
        console.print_exception()
        console.print("[bold red]This run does not count:[/] it was not finished.")
        raise typer.Exit(INVALID) from error
    tables.show(console, report)
    console.print(f"[dim]{keep(report)}[/]")
    raise typer.Exit(0 if verdict.passed(report) else 1)


async def measure(
    rate: int,
    seconds: int,
    channels: list[str],
    conversations: int,
    rung_seconds: int | None,
) -> Report:
    """Measure the bare parts, the platform, and the bare parts again."""
    async with connect() as platform:
        found = await conditions.look(platform, channels, conversations)
        say(f"creating {conversations} conversations")
        field = await Field.prepare(platform, found, os.environ["CHAT4ALL_URL"])
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
    return Report(at=at, conditions=found, before=before, trial=trial, after=after, rungs=rungs)


def keep(report: Report) -> Path:
    """Write a report into the instance's folder; return where."""
    file = find(report.conditions.instance).folder / "bench" / f"{report.at}.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(msgspec.json.format(msgspec.json.encode(report)))
    return file


if __name__ == "__main__":
    app(prog_name="just bench")
