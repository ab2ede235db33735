"""The command line of the chaos suite: `just chaos kill-router`."""

import asyncio
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import aiohttp
import typer
import uvloop
from rich.markup import escape
from rich.table import Table
from typer.exceptions import TyperException

from chaos import archive, safety, scenario
from chaos.campaign import REFUSED, Campaign, Options, preflight, stage_of
from chaos.clock import Clock
from chaos.progress import Output, Progress
from chaos.recorder import Recorder
from chaos.report import index, page, summary
from chaos.results import Results
from chaos.scenario import BadScenario, Scenario
from chaos.statistics import compare as compare_values
from chaos.units import show
from chaos.verdicts import EXIT_BAD_ARGUMENTS, EXIT_CODES, EXIT_CRASHED, Valid, overall

app = typer.Typer(add_completion=False, no_args_is_help=True, help=__doc__)
console = Output(highlight=False)
INTERRUPTIONS_MAX = 2
"""The first Ctrl-C ends one scenario, the second one all of them."""
Repeats = Annotated[int | None, typer.Option("--repeats", "-n", min=1, help="How often.")]
Eviction = Annotated[bool, typer.Option(help="Let survivors evict the dead.")]


@app.command("list")
def list_scenarios() -> None:
    """Show every scenario: its tier and what it expects."""
    table = Table("scenario", "tier", "repeats", "hypothesis")
    for found in scenario.load_all():
        smoke = " smoke" if found.smoke else ""
        table.add_row(
            found.name, f"{found.tier}{smoke}", str(found.repeats.default), found.hypothesis
        )
    console.print(table)


@app.command()
def plan(name: str) -> None:
    """Show what a scenario would break, without breaking it."""
    asyncio.run(_plan(scenario.load(name)))


@app.command()
def run(name: str, *, repeats: Repeats = None, eviction: Eviction = True) -> None:
    """Run a scenario (the default: `chaos kill-router`)."""
    found = scenario.load(name)
    options = Options(repeats or found.repeats.default, eviction)
    with Progress(console) as progress:
        results, folder = _campaign(found, options, progress)
    _spare_verdict(f"the table of {folder}", lambda: _tell(results, folder))
    raise typer.Exit(EXIT_CODES[results.valid])


@app.command("all")
def run_all(
    *,
    tier: Annotated[int | None, typer.Option(help="Only this tier.")] = None,
    smoke: Annotated[bool, typer.Option(help="Only the smoke test, with its repeats.")] = False,
    repeats: Repeats = None,
    eviction: Eviction = True,
) -> None:
    """Run every scenario, or those of a tier or of the smoke test; print their table.

    One that cannot be run proves nothing, and the others are run all the same.
    """
    every = scenario.load_all()
    chosen = [s for s in every if (s.smoke or not smoke) and tier in (None, s.tier)]
    if not chosen:
        raise BadScenario("there is no such scenario: `chaos list` shows all")
    found: list[tuple[Results, Path]] = []
    ended: dict[str, str] = {}
    with Progress(console) as progress:
        for each in chosen:
            often = repeats or (each.repeats.smoke if smoke else each.repeats.default)
            try:
                results, folder = _campaign(each, Options(often, eviction), progress)
            except Exception as error:  # noqa: BLE001 - the others are run all the same
                ended[each.name] = f"{type(error).__name__}: {error}"
                console.print_exception()
                continue
            found.append((results, folder))
            progress.line(f"{results.valid.value}: {results.sentence}")
            if sum(results.interrupted for results, _ in found) >= INTERRUPTIONS_MAX:
                break
    _spare_verdict(f"the table below {safety.folder()}", lambda: _tell_all(found, ended))
    verdicts = [results.valid for results, _ in found] + [Valid.UNKNOWN] * len(ended)
    raise typer.Exit(EXIT_CODES[overall(verdicts)])


@app.command()
def heal() -> None:
    """Take back whatever an earlier campaign has left broken."""
    healed = asyncio.run(_heal())
    console.print(f"healed {healed} faults" if healed else "nothing was broken")


@app.command()
def report(name: Annotated[str | None, typer.Argument()] = None) -> None:
    """Write the report of a run again (the newest, when not named) and the index of all."""
    folder = archive.find(safety.folder(), name)
    console.print(str(_write_report(folder)), soft_wrap=True)


@app.command()
def compare(a: str, b: str) -> None:
    """Compare the metrics of two runs: by how much B differs from A, and how sure that is."""
    first, second = (archive.read(archive.find(safety.folder(), name)) for name in (a, b))
    table = Table("metric", f"A {a}", f"B {b}", "B - A", "95 %", "p", "")
    for name in sorted(first.metrics.keys() & second.metrics.keys()):
        before, after = first.metrics[name].values, second.metrics[name].values
        found = compare_values(before, after)
        table.add_row(
            name,
            f"{first.metrics[name].median:.4f}",
            f"{second.metrics[name].median:.4f}",
            f"{found.difference:+.4f}",
            f"{found.lo:+.4f} to {found.hi:+.4f}",
            f"{found.p_value:.3f}",
            "differs" if found.seen else "no difference seen",
        )
    console.print(table)


def _campaign(found: Scenario, options: Options, progress: Progress) -> tuple[Results, Path]:
    """Run a campaign and write its report; the report cannot spoil the results."""
    stamp = time.strftime("%Y%m%d-%H%M%S")
    off = "" if options.eviction else "-without-eviction"
    folder = safety.folder() / f"{stamp}-{found.name}{off}"
    results = uvloop.run(Campaign(found, options, progress, folder).run())
    _spare_verdict(f"the report of {folder}", lambda: _write_report(folder))
    return results, folder


def _spare_verdict(what: str, tell: Callable[[], object]) -> None:
    """Tell of a verdict that is known; where that fails it is said, and the verdict stands."""
    try:
        tell()
    except Exception as error:  # noqa: BLE001 - whatever it is, the exit code is the verdict's
        words = " ".join(f"{type(error).__name__}: {error}".split())
        with suppress(OSError):
            sys.stderr.write(f"{what} could not be written ({words}); the verdict stands\n")


def _write_report(folder: Path) -> Path:
    runs = archive.runs(safety.folder())
    summary.write(folder, archive.read(folder))
    path = page.write(folder, [found for _, found in runs])
    index.write(safety.folder(), runs)
    return path


def _tell_all(found: Sequence[tuple[Results, Path]], ended: Mapping[str, str]) -> None:
    """Print and keep the table of all campaigns; name the reports of those that did not pass."""
    text = summary.markdown([results for results, _ in found], ended)
    (safety.folder() / archive.SUMMARY).write_text(text)
    sys.stdout.write(text)
    for results, folder in found:
        if results.valid is not Valid.TRUE:
            sys.stdout.write(f"{folder / archive.REPORT}\n")


def _tell(results: Results, folder: Path) -> None:
    colour = {Valid.TRUE: "green", Valid.FALSE: "red", Valid.UNKNOWN: "yellow"}[results.valid]
    console.print(f"[{colour}]{results.valid.value}[/] {escape(results.sentence)}")
    table = Table("", "target", "measured", "", "one more misses, at most")
    for row in (*results.promises, *results.goals):
        table.add_row(
            row.name,
            _figure(row.target, row.unit),
            summary.worst(row),
            row.valid.value,
            "" if row.miss_chance_at_most is None else f"{row.miss_chance_at_most:.0%}",
        )
    console.print(table)
    console.print(str(folder / archive.REPORT), soft_wrap=True)


def _figure(value: float, unit: str) -> str:
    return show(value) if unit == "s" else f"{value:.0f}"


async def _plan(found: Scenario) -> None:
    async with stage_of(found, Recorder(Clock())) as stage:
        wanted = await preflight(stage, found)
        console.print(f"{found.title}: {found.hypothesis}", soft_wrap=True)
        running = ", ".join(f"{count} {job}" for job, count in wanted.items())
        console.print(f"watches {running}", soft_wrap=True)
        stage.begin(0)
        for fault in found.faults:
            kind = type(fault).__name__.lower()
            targets = await fault.plan(stage)
            for target in targets:
                console.print(f"{kind}: {target.what}, held {show(fault.hold)}", soft_wrap=True)
            for undo in fault.undo(stage, targets):
                console.print(f"  taken back by: {type(undo).__name__}")


async def _heal() -> int:
    healed = 0
    async with aiohttp.ClientSession() as session:
        for path in sorted(safety.folder().glob("undo-*.jsonl")):
            healed += await safety.heal(safety.UndoLog(path), session)
    return healed


_REFUSALS: tuple[tuple[tuple[type[BaseException], ...], int], ...] = (
    ((TyperException, BadScenario, archive.NoSuchRun, safety.Busy), EXIT_BAD_ARGUMENTS),
    (REFUSED, EXIT_CODES[Valid.UNKNOWN]),
    ((KeyboardInterrupt, typer.Abort), EXIT_CODES[Valid.UNKNOWN]),
    ((safety.Broken,), EXIT_CRASHED),
)


def main(arguments: list[str]) -> int:
    """Run a command; a word that is none is the name of a scenario to be run."""
    commands = {c.name or c.callback.__name__ for c in app.registered_commands if c.callback}
    if arguments and not arguments[0].startswith("-") and arguments[0] not in commands:
        arguments = ["run", *arguments]
    try:
        return int(app(arguments, standalone_mode=False) or 0)
    except BaseException as error:  # noqa: BLE001 - whatever it is becomes an exit code
        for kinds, code in _REFUSALS:
            if isinstance(error, kinds):
                text = error.format_message() if isinstance(error, TyperException) else str(error)
                return _refuse(text or "interrupted", code)
        console.print_exception()
        return EXIT_CRASHED


def _refuse(text: str, code: int) -> int:
    sys.stderr.write(f"{text}\n")
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
