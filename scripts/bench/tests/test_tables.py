"""The tables say at a glance what was measured, and reports can be kept and compared."""

import io
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from msgspec.structs import replace
from rich.console import Console
from typer.testing import CliRunner, Result

from scripts.bench import tables
from scripts.bench.__main__ import app
from scripts.bench.figures import Report, Rung
from scripts.bench.tests.conftest import latency, with_delivery, with_load

WIDTH = 100


@pytest.fixture
def console() -> Console:
    """Return a console that keeps what is printed."""
    return Console(file=io.StringIO(), width=WIDTH, highlight=False)


def printed(console: Console) -> str:
    """Return what was printed."""
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_a_good_report_says_so(console: Console, good: Report) -> None:
    """Every target is met, and the figures, conditions and processes are there."""
    tables.show(console, good)
    text = printed(console)
    assert "MISSED" not in text
    assert "All targets are met." in text
    for words in ("400/s for 60 s", "the real ones: PAGER 1/s", "12.0", "3.0 x", "message"):
        assert words in text


def test_a_missed_target_is_seen(console: Console, good: Report) -> None:
    """A missed target is marked in its line."""
    tables.show(console, with_delivery(good, lost=2, latency=None, by_channel={}))
    lines = [line for line in printed(console).splitlines() if "MISSED" in line]
    assert ["lost" in line for line in lines] == [False, True]
    assert "Not all targets are met." in printed(console)


def test_the_ceiling_is_told(console: Console, good: Report) -> None:
    """The highest rate that held, what broke above it, and what the limit was."""
    over = with_load(good, offered_per_s=500, acceptance=latency(9, 70, 90, 99)).trial
    rungs = [
        Rung(trial=good.trial, broken=[], stopped_by=""),
        Rung(trial=over, broken=["acceptance p95 70.0 ms"], stopped_by="the machine"),
    ]
    tables.show(console, replace(good, rungs=rungs))
    text = printed(console)
    assert "Ceiling: 400/s" in text
    assert "At 500/s acceptance p95 70.0 ms." in text
    assert "What stops it: the machine." in text


def test_reports_are_compared(console: Console, good: Report) -> None:
    """Each figure of both, and how much the second differs."""
    slower = with_load(good, acceptance=latency(9.0, 12.0, 30.0, 80.0))
    tables.compare(console, good, slower)
    rows = [line.replace("│", " ").split() for line in printed(console).splitlines()]
    assert ["acceptance", "p50", "ms", "4.50", "9.00", "+100%"] in rows
    assert ["acceptance", "p95", "ms", "12.00", "12.00", "+0%"] in rows
    assert ["lost", "0.00", "0.00"] in rows


def test_a_report_survives_its_file(good: Report) -> None:
    """What is written is what is read."""
    assert msgspec.json.decode(msgspec.json.encode(good), type=Report) == good


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """Return the command, in an environment that names no platform."""
    monkeypatch.delenv("CHAT4ALL_URL", raising=False)
    return lambda *words: CliRunner().invoke(app, words)


def test_without_a_platform_nothing_counts(bench: Callable[..., Result]) -> None:
    """Exit code 2 and one sentence, when the environment names no platform."""
    found = bench()
    assert found.exit_code == 2
    assert "CHAT4ALL_URL is not set" in found.output


def test_a_hang_and_a_ceiling_are_two_runs(bench: Callable[..., Result]) -> None:
    """Asked for both at once the command begins neither; a hang needs a platform as well."""
    found = bench("--hang", "pager", "--find-ceiling")
    assert found.exit_code == 2
    assert "two runs" in found.output
    found = bench("--hang", "pager")
    assert found.exit_code == 2
    assert "CHAT4ALL_URL is not set" in found.output


def test_files_are_compared_by_the_command(
    bench: Callable[..., Result], tmp_path: Path, good: Report
) -> None:
    """Two files that are reports are compared; anything else ends with 2."""
    file, wrong = tmp_path / "a.json", tmp_path / "b.json"
    file.write_bytes(msgspec.json.encode(good))
    wrong.write_text("{}")
    found = bench("--compare", str(file), str(file))
    assert found.exit_code == 0
    assert "acceptance p95 ms" in found.output
    for other in (wrong, tmp_path / "none.json"):
        found = bench("--compare", str(file), str(other))
        assert found.exit_code == 2
        assert "This is no report" in found.output
