"""The command line: what is typed, what is answered, and the exit codes."""

import re
from pathlib import Path

import msgspec
import pytest

from chaos import __main__ as command
from chaos import archive, safety
from chaos.observations import Interval
from chaos.report import page
from chaos.results import Repeat, Results, measured, summaries
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
        Repeat(
            number=number,
            valid=Valid.TRUE,
            began_at=0.0,
            ended_at=1.0,
            load_ended_at=1.0,
            verdicts=[],
            metrics={"failover_s": measured(Interval(value, value))},
            counts={"lost": 0},
        )
        for number, value in enumerate(values, 1)
    ]
    return Results(
        scenario=scenario,
        title="A title with <angles>",
        hypothesis="It holds.",
        valid=Valid.TRUE,
        sentence="All was well.",
        began_at=0.0,
        ended_at=1.0,
        instance="dev",
        commit="abc",
        eviction=True,
        interrupted=False,
        tier=1,
        verdicts=[],
        promises=[],
        goals=[],
        metrics=summaries(repeats),
        predicted={},
        repeats=repeats,
        partitions={},
    )


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
