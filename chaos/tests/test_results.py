"""Whatever was measured can be written, read again and told, also what never ended."""

import csv
import math
from pathlib import Path

import msgspec
import pytest

from chaos import archive, scenario
from chaos.checkers.deliveries import judge
from chaos.checking import Found, check
from chaos.observations import Interval
from chaos.report import page, summary
from chaos.results import Results, measured, row
from chaos.tests.campaigns import repeat, results
from chaos.verdicts import Valid

NEVER = Interval(math.inf, math.inf)
INTERVALS = {
    "failover_s": Interval(0.1, 0.2),
    "caught_up_s": Interval(3.0, math.inf),
    "latency_p99_s": NEVER,
    "latency_max_s": NEVER,
}


def campaign(*repeats: dict[str, Interval]) -> Results:
    """Return the results of a campaign whose repeats have these figures."""
    done = [repeat(n, found, valid=Valid.FALSE, lost=1) for n, found in enumerate(repeats, 1)]
    worst = [row(n, 60.0, "s", [i], [Valid.FALSE]) for n, i in repeats[0].items()]
    return results(done, scenario="provider-500", valid=Valid.FALSE, promises=worst)


@pytest.mark.parametrize("interval", [*INTERVALS.values(), Interval(0.0, 0.0)])
def test_a_measurement_is_the_same_after_it_was_written(interval: Interval) -> None:
    """Bounds that are not finite are null in JSON, and infinite again when they are read."""
    assert measured(interval).interval == interval


def test_a_run_with_a_delivery_that_never_came_can_be_read_again(tmp_path: Path) -> None:
    """Results, times and page tell of it; what has no value is in no summary."""
    wrote = campaign(INTERVALS, {"failover_s": NEVER})
    archive.write(tmp_path, wrote)
    assert archive.read(tmp_path) == wrote
    found = msgspec.json.decode((tmp_path / archive.RESULTS).read_bytes())
    assert found["repeats"][0]["metrics"]["latency_p99_s"] == {"lo": None, "hi": None}
    with (tmp_path / archive.TIMINGS).open(newline="") as file:
        rows = list(csv.reader(file))
    assert ["1", "latency_p99_s", "", ""] in rows
    assert wrote.metrics["failover_s"].values == [0.2]
    assert wrote.metrics.keys() == {"failover_s", "caught_up_s"}
    html = page.write(tmp_path, [wrote]).read_text()
    assert "never" in html
    assert "| latency_p99_s | 60 s | never | false |" in summary.write(tmp_path, wrote).read_text()


def test_bounds_are_told_in_words() -> None:
    """One figure where both read the same, and words where a bound is missing."""
    told = {name: summary.between(measured(found), "s") for name, found in INTERVALS.items()}
    assert told["failover_s"] == "100 ms to 200 ms"
    assert told["caught_up_s"] == "over 3.00 s"
    assert told["latency_p99_s"] == "never"
    assert summary.between(None, "s") == "not measured"


@pytest.mark.parametrize(
    ("interval", "reason"),
    [
        (Interval(61.0, 62.0), "failover took 61 s to 62 s, and 60 s was promised"),
        (Interval(9.0, math.inf), "failover had not ended after 9.00 s, and 60 s was promised"),
        (Interval(9.0, 9.1), ""),
        (None, "failover could not be measured"),
    ],
)
def test_a_missed_promise_has_its_reason(interval: Interval | None, reason: str) -> None:
    """A verdict that is no plain yes says what was measured, or that it had not ended."""
    found = Found(
        judgement=judge([], [], {}),
        metrics={} if interval is None else {"failover_s": interval},
        counts={},
        happened={},
        problems=[],
    )
    verdicts = {v.name: v.reason for v in check(scenario.load("kill-router"), found)}
    assert verdicts["failover"] == reason
