"""The command line: what is typed, what is answered, and the exit codes."""

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest

from chaos import __main__ as command
from chaos import archive, safety, scenario
from chaos.campaign import Options
from chaos.observations import Interval
from chaos.report import page
from chaos.results import Results, Row
from chaos.scenario import Scenario
from chaos.tests import campaigns
from chaos.verdicts import Valid

ENVIRONMENT = ("CHAT4ALL_URL", "CHAT4ALL_API_KEY", "NOMAD_ADDR", "CONSUL_HTTP_ADDR")


@pytest.fixture(autouse=True)
def _apart(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(safety, "folder", lambda: tmp_path)
    for name in ENVIRONMENT:
        monkeypatch.delenv(name, raising=False)


def results(scenario: str, values: list[float]) -> Results:
    """Return the results of a campaign with these failovers."""
    repeats = [
        campaigns.repeat(number, {"failover_s": Interval(value, value)})
        for number, value in enumerate(values, 1)
    ]
    return campaigns.results(repeats, scenario=scenario, title="A title with <angles>")


@pytest.mark.parametrize(
    ("typed", "code", "said"),
    [
        (["kil-router"], 254, "did you mean kill-router?"),
        (["run"], 254, "Missing"),
        (["kill-router", "--repeats", "0"], 254, "repeats"),
        (["report"], 254, "there is no run"),
        (["compare", "a", "b"], 254, "there is no run 'a'"),
        (["plan", "kill-router"], 2, "CHAT4ALL_URL is not set"),
        (["heal"], 0, "nothing was broken"),
        (["list"], 0, "kill-router"),
        (["all", "--tier", "9"], 254, "there is no such scenario"),
    ],
)
def test_every_answer_has_its_exit_code(
    typed: list[str], code: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Mistakes at the keyboard are 254, what proves nothing is 2, and each is told."""
    assert command.main(typed) == code
    told = capsys.readouterr()
    assert said in told.out + told.err


def test_a_campaign_that_is_refused_proves_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without a platform the verdict is unknown, with its reason in all that is written."""
    assert command.main(["baseline"]) == 2
    assert "CHAT4ALL_URL is not set" in capsys.readouterr().out.replace("\n", " ")
    (folder,) = tmp_path.glob("*-baseline")
    assert archive.read(folder).valid is Valid.UNKNOWN
    assert "CHAT4ALL_URL is not set" in (folder / archive.REPORT).read_text()
    assert "baseline" in (tmp_path / "index.html").read_text()


class FakeCampaign:
    """Plays the campaigns of `all`: how each scenario ends is set; all others pass."""

    ends: dict[str, Valid | Exception | None]
    """A verdict, an error of the harness, or None for an interruption."""
    begun: list[tuple[str, Options]]

    def __init__(self, found: Scenario, options: Options, _progress: Any, folder: Path) -> None:
        self._name = found.name
        self._folder = folder
        self.begun.append((found.name, options))

    async def run(self) -> Results:
        """Return results as they were set, or raise."""
        end = self.ends.get(self._name, Valid.TRUE)
        if isinstance(end, Exception):
            raise end
        valid, said = end or Valid.UNKNOWN, f"{self._name} ended so."
        row = Row(name="lost", target=0.0, unit="", measured=None, valid=valid)
        found = msgspec.structs.replace(
            results(self._name, [0.1]),
            valid=valid,
            sentence=said,
            interrupted=end is None,
            promises=[row],
        )
        self._folder.mkdir()
        archive.write(self._folder, found)
        return found


@pytest.fixture
def played(monkeypatch: pytest.MonkeyPatch) -> type[FakeCampaign]:
    """Lend the campaigns that are played."""
    monkeypatch.setattr(FakeCampaign, "ends", {}, raising=False)
    monkeypatch.setattr(FakeCampaign, "begun", [], raising=False)
    monkeypatch.setattr(command, "Campaign", FakeCampaign)
    return FakeCampaign


SMOKE = {
    "baseline": 1,
    "cut-router-kafka-both": 1,
    "kept-but-answer-lost": 1,
    "kill-router": 3,
    "latency-router-kafka-100ms": 1,
    "pause-router": 1,
}


def test_the_smoke_is_short_and_has_one_of_each_kind(played: type[FakeCampaign]) -> None:
    """The smoke runs these scenarios so often, with eviction, and passes when all do."""
    assert command.main(["all", "--smoke"]) == 0
    assert {name: options.repeats for name, options in played.begun} == SMOKE
    assert all(options.eviction for _, options in played.begun)


def test_all_scenarios_can_be_run_without_eviction(played: type[FakeCampaign]) -> None:
    """How often and with which setting can be chosen for all of a tier."""
    assert command.main(["all", "--tier", "2", "--no-eviction", "--repeats", "4"]) == 0
    wanted = {found.name for found in scenario.load_all() if found.tier == 2}
    assert {name for name, _ in played.begun} == wanted
    assert {options for _, options in played.begun} == {Options(4, eviction=False)}


@pytest.mark.parametrize(
    ("end", "code", "said"),
    [
        (Valid.FALSE, 1, "false: baseline ended so."),
        (Valid.UNKNOWN, 2, "unknown: baseline ended so."),
        (None, 2, "unknown: baseline ended so."),
        (RuntimeError("the preflight broke"), 2, "unknown: RuntimeError: the preflight broke"),
        (safety.Busy("a campaign is running"), 2, "unknown: Busy: a campaign is running"),
    ],
)
def test_one_bad_scenario_fails_the_smoke_and_ends_no_other(
    played: type[FakeCampaign],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    end: Valid | Exception | None,
    code: int,
    said: str,
) -> None:
    """Broken, unknown, interrupted, refused by an error: the rest is run, and the code tells."""
    played.ends["baseline"] = end
    assert command.main(["all", "--smoke"]) == code
    assert [name for name, _ in played.begun] == sorted(SMOKE)
    told = capsys.readouterr().out
    table = told[told.index("| scenario") :]
    assert f"- **baseline**: {said}\n" in table
    assert all(f"| {name} |" in table for name in SMOKE)
    assert (tmp_path / archive.SUMMARY).read_text() in told
    reports = {str(path) for path in tmp_path.glob(f"*-baseline/{archive.REPORT}")}
    assert set(re.findall(r"^/.*$", table, re.MULTILINE)) == reports


def test_a_broken_promise_counts_more_than_an_unknown_one(played: type[FakeCampaign]) -> None:
    """The exit code is that of the worst scenario."""
    played.ends |= {"baseline": Valid.FALSE, "pause-router": RuntimeError("x")}
    assert command.main(["all", "--smoke"]) == 1


def test_a_second_interruption_ends_all(played: type[FakeCampaign]) -> None:
    """Whoever interrupts twice wants no more scenarios."""
    played.ends |= {"cut-router-kafka-both": None, "baseline": None}
    assert command.main(["all", "--smoke"]) == 2
    assert [name for name, _ in played.begun] == ["baseline", "cut-router-kafka-both"]


def test_a_run_has_a_summary_beside_its_results(played: type[FakeCampaign], tmp_path: Path) -> None:
    """What a continuous integration shows lies where the results lie."""
    del played
    assert command.main(["kill-router"]) == 0
    (folder,) = tmp_path.glob("*-kill-router")
    assert "| kill-router | 1 | true |" in (folder / archive.SUMMARY).read_text()


@pytest.mark.parametrize(
    "broken",
    [
        "chaos.report.page.write",
        "chaos.report.index.write",
        "chaos.report.summary.write",
        "chaos.report.summary.markdown",
        "chaos.report.summary.worst",
        "chaos.archive.read",
        "chaos.archive.runs",
    ],
)
@pytest.mark.parametrize("typed", [["kill-router"], ["all", "--smoke"]])
@pytest.mark.parametrize(("valid", "code"), [(Valid.FALSE, 1), (Valid.UNKNOWN, 2), (Valid.TRUE, 0)])
def test_a_report_that_fails_changes_no_exit_code(
    played: type[FakeCampaign],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    broken: str,
    typed: list[str],
    valid: Valid,
    code: int,
) -> None:
    """The verdict decides; what could not be written or drawn is said in one sentence each."""

    def fail(*_: object) -> None:
        raise archive.NoSuchRun("was written by\n another version")

    monkeypatch.setattr(broken, fail)
    played.ends["kill-router"] = valid
    assert command.main(typed) == code
    told = [line for line in capsys.readouterr().err.splitlines() if "could not be" in line]
    reason = "(NoSuchRun: was written by another version); the verdict stands"
    assert all(line.endswith(f"could not be written {reason}") for line in told)
    unused = typed == ["kill-router"] and broken.endswith("markdown")
    assert bool(told) is not unused


@pytest.mark.parametrize(("typed", "code"), [("list", 0), ("baseline", 2), ("kil-router", 254)])
def test_nobody_who_listens_is_no_broken_promise(tmp_path: Path, typed: str, code: int) -> None:
    """A reader of the output that has gone, as `head` does, changes no exit code."""
    script = (
        "import sys; from pathlib import Path; from chaos import __main__ as command, safety; "
        "safety.folder = lambda: Path(sys.argv[1]); sys.exit(command.main(sys.argv[2:]))"
    )
    reader, writer = os.pipe()
    os.close(reader)
    result = subprocess.run(  # noqa: S603 - the suite itself
        [sys.executable, "-c", script, tmp_path, typed],
        stdout=writer,
        stderr=subprocess.PIPE,
        cwd=Path(command.__file__).parents[1],
        check=False,
    )
    os.close(writer)
    assert result.returncode == code, result.stderr.decode()


def test_a_crash_of_the_harness_is_no_verdict(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the suite itself does wrong ends with 255."""
    monkeypatch.setattr("chaos.scenario.load_all", lambda: 1 / 0)
    assert command.main(["list"]) == 255


def test_a_run_of_another_version_is_passed_over(tmp_path: Path) -> None:
    """An old run spoils neither the index nor a new report, and says why it cannot be read."""
    for name, text in (("old", '{"scenario": "x"}'), ("torn", '{"scen')):
        (tmp_path / name).mkdir()
        (tmp_path / name / archive.RESULTS).write_text(text)
        with pytest.raises(archive.NoSuchRun, match="another version"):
            archive.read(tmp_path / name)
    (tmp_path / "new").mkdir()
    archive.write(tmp_path / "new", results("kill-router", [0.1]))
    assert command.main(["report"]) == 0
    assert (tmp_path / "index.html").read_text().count("report.html") == 1


def test_runs_are_compared(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Two runs that differ are seen to differ, by name."""
    for name, shift in (("on", 0.0), ("off", 6.0)):
        folder = tmp_path / name
        folder.mkdir()
        archive.write(folder, results("kill-router", [shift + n / 100 for n in range(10)]))
    assert command.main(["compare", "on", "off"]) == 0
    told = capsys.readouterr().out
    assert "+6.0000" in told
    assert "differs" in told


def test_the_page_is_one_file_and_says_nothing_of_its_own() -> None:
    """Nothing is loaded from elsewhere, what was given is escaped, the data is inside."""
    found = results("kill-router", [0.1, 0.2])
    html = page.page(found, [found], [])
    assert "<angles>" not in html.partition('<script type="application/json"')[0]
    assert not re.search(r'(src|href)="(https?:)?//', html)
    data = re.search(r'id="results">(.*?)</script>', html)
    assert data is not None
    assert msgspec.json.decode(data[1].replace("<\\/", "</"), type=Results) == found
