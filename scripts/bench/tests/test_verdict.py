"""The verdict: a run counts or not, meets its targets or not, and names what the limit was."""

from typing import Any

import pytest
from msgspec.structs import replace

from scripts.bench import verdict
from scripts.bench.figures import HTTP, Latency, Report
from scripts.bench.tests.conftest import latency, use, with_delivery, with_load, with_machine

FINE = latency(4.5, 12.0, 30.0, 80.0)


def missed(report: Report) -> list[str]:
    """Return the targets that are not met."""
    return [line.name for line in verdict.verdict(report.trial) if line.met is False]


def test_a_good_run_passes(good: Report) -> None:
    """A run within every target passes, counts, and is not doubted."""
    assert missed(good) == []
    assert verdict.passed(good)
    assert verdict.refusal(good.trial.load, good.trial.machine) is None
    assert verdict.warnings(good) == []


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"achieved_per_s": 395.9}, "achieved"),
        ({"acceptance": replace(FINE, p50_ms=15.1)}, "acceptance p50"),
        ({"acceptance": replace(FINE, p95_ms=50.1)}, "acceptance p95"),
        ({"acceptance": replace(FINE, p99_ms=100.1)}, "acceptance p99"),
        ({"errors": {"503": 1}}, "errors"),
        ({"dropped": 1}, "errors"),
    ],
)
def test_a_spoiled_load_misses_its_target(good: Report, changes: dict[str, Any], name: str) -> None:
    """Each target is missed by a little too much, and no other with it."""
    assert missed(with_load(good, **changes)) == [name]


def test_a_slow_warm_up_is_told_and_passes(good: Report) -> None:
    """It is not what is measured, so its latency has no target; it may be left out, too."""
    slow = with_load(good, acceptance=latency(100, 200, 300, 400)).trial
    report = replace(good, warm_up=slow)
    told = {line.name: line for line in verdict.lines_of(report)}
    assert told["warm-up: acceptance p95"] == (
        "warm-up: acceptance p95",
        "200.0 ms",
        "",
        None,
        "66.7 x",
    )
    assert verdict.passed(report)
    assert verdict.passed(replace(good, warm_up=None))


def test_a_warm_up_that_breaks_a_promise_does_not_pass(good: Report) -> None:
    """Nothing may be refused, lost, doubled or reordered only because it was early."""
    for spoiled in (
        with_load(good, errors={"503": 1}),
        with_load(good, dropped=1),
        with_delivery(good, lost=1),
        with_delivery(good, duplicated=1),
        with_delivery(good, reordered=1),
    ):
        assert not verdict.passed(replace(good, warm_up=spoiled.trial))


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"latency": latency(1, 1000.0, 1000.0, 1000.0)}, "delivery p95"),
        ({"latency": None}, "delivery p95"),
        ({"lost": 1}, "lost"),
        ({"duplicated": 1}, "duplicated"),
        ({"reordered": 1}, "reordered"),
        ({"emptied_after_s": 5.1}, "backlog empty after"),
        ({"emptied_after_s": None}, "backlog empty after"),
    ],
)
def test_spoiled_deliveries_miss_their_target(
    good: Report, changes: dict[str, Any], name: str
) -> None:
    """Each target is missed by a little too much, and no other with it."""
    report = with_delivery(good, **changes)
    assert missed(report) == [name]
    assert not verdict.passed(report)


def test_targets_hold_at_their_limits(good: Report) -> None:
    """What is exactly at a limit that may be reached is met."""
    report = with_load(good, achieved_per_s=396.0, acceptance=latency(15, 50, 100, 100))
    assert missed(with_delivery(report, emptied_after_s=5.0)) == []


def test_a_late_generator_is_refused(good: Report) -> None:
    """Requests that began late for lack of CPU were not the load that was asked for."""
    report = with_load(good, late_p99_ms=verdict.LATE_MAX_MS + 1)
    assert "late" in (verdict.refusal(report.trial.load, report.trial.machine) or "")


def test_drops_that_no_answer_explains_are_refused(good: Report) -> None:
    """Where no answer took long enough to keep all users waiting, k6 itself was too slow."""
    report = with_load(good, dropped=5, acceptance=replace(FINE, max_ms=999.0))
    assert "dropped 5" in (verdict.refusal(report.trial.load, report.trial.machine) or "")


def test_drops_behind_slow_answers_are_the_platform_s(good: Report) -> None:
    """Where answers kept all users waiting, the run counts, against the platform.

    After drops the due times of later requests are not known, so lateness says nothing.
    """
    slow = replace(FINE, max_ms=1000.0)
    report = with_load(good, dropped=5, acceptance=slow, late_p99_ms=400.0)
    assert verdict.refusal(report.trial.load, report.trial.machine) is None
    assert missed(report) == ["errors"]
    assert any("percentiles lack" in warning for warning in verdict.warnings(report))


def test_a_generator_that_eats_the_machine_is_refused(good: Report) -> None:
    """A k6 with more than half of all cores measures itself."""
    report = with_machine(good, uses=[use("k6", 101.0, 101.0)])
    assert "k6 itself" in (verdict.refusal(report.trial.load, report.trial.machine) or "")
    report = with_machine(good, uses=[use("k6", 99.0, 99.0)])
    assert verdict.refusal(report.trial.load, report.trial.machine) is None


@pytest.mark.parametrize(
    ("cpu_percent", "uses", "words"),
    [
        (190.0, [use("k6", 80, 80), use("message", 70, 36), use("kafka", 40, 40)], "the machine"),
        (130.0, [use("k6", 20, 20), use("message", 97, 96)], "message: one process uses 96 %"),
        (90.0, [use("k6", 95, 95), use("kafka", 30, 30)], "no CPU"),
        (90.0, [], "unknown"),
    ],
)
def test_what_stops_it(good: Report, cpu_percent: float, uses: list[Any], words: str) -> None:
    """The machine when it is full, else a process that fills its core, else no CPU at all."""
    report = with_machine(good, cpu_percent=cpu_percent, uses=uses)
    assert verdict.stopped_by(report.trial).startswith(words)


def test_the_full_machine_names_whom_it_works_for(good: Report) -> None:
    """The largest user and the busiest process may be two; the generator is neither."""
    uses = [use("k6", 80, 80), use("message", 70, 36), use("kafka", 40, 40)]
    told = verdict.stopped_by(with_machine(good, cpu_percent=199.0, uses=uses).trial)
    assert "most for message (70 % of a core)" in told
    assert "one of kafka with 40 %" in told


def test_a_rate_limit_is_named(good: Report) -> None:
    """Refusals for the rate are no lack of strength."""
    assert "rate limit" in verdict.stopped_by(with_load(good, errors={"429": 3}).trial)


def test_the_ceiling_looks_at_p95(good: Report) -> None:
    """A rate breaks by p95, errors or a backlog, not by the other percentiles."""
    assert verdict.broken_at(with_load(good, acceptance=latency(20, 45, 200, 300)).trial) == []
    found = verdict.broken_at(with_load(good, acceptance=latency(20, 55, 200, 300)).trial)
    assert found == ["acceptance p95 55.0 ms"]


def test_ratios_are_to_the_bare_steps(good: Report) -> None:
    """An acceptance is compared with its three steps, a delivery with its six."""
    ratios = {line.name: line.ratio for line in verdict.lines_of(good)}
    assert ratios["acceptance p50"] == "3.0 x"
    assert ratios["acceptance p95"] == "4.0 x"
    assert ratios["delivery p95"] == "10.0 x"
    assert ratios["achieved"] == "8.0 % of the slowest"
    assert ratios["CPU of the platform"] == "0.8 x"


def test_every_figure_is_a_ratio_too(good: Report) -> None:
    """Times and rates of bare parts, counts of all messages."""
    lines = verdict.lines_of(with_delivery(good, lost=3, emptied_after_s=1.2))
    assert [line.name for line in lines if not line.ratio] == []
    ratios = {line.name: line.ratio for line in lines}
    assert (ratios["lost"], ratios["errors"]) == ("0.013 % of all", "0.000 % of all")
    assert ratios["backlog empty after"] == "200.0 x"


def test_the_rate_is_told_in_messages_and_as_a_share(good: Report) -> None:
    """What was offered, and what of that was accepted."""
    lines = {line.name: line for line in verdict.lines_of(with_load(good, achieved_per_s=398.0))}
    assert lines["offered"].value == "400.0/s"
    assert lines["achieved"].value == "398.0/s, 99.5 %"


def test_bare_parts_are_those_around_the_load(good: Report) -> None:
    """What a part could do is the mean of before and after."""
    after = {**good.after, HTTP: replace(good.after[HTTP], per_s=7e3)}
    means = verdict.mean_of(good.before, after)
    assert means[HTTP].per_s == 6e3
    assert isinstance(means[HTTP].alone, Latency)


def test_a_machine_is_full_when_its_host_leaves_no_more(good: Report) -> None:
    """What the host took away was not there to be used."""
    assert verdict.stopped_by(with_machine(good, cpu_percent=150.0).trial).startswith("no CPU")
    full = with_machine(good, cpu_percent=150.0, stolen_percent=40.0)
    assert verdict.stopped_by(full.trial).startswith("the machine: its 2 cores are 94% busy")


def test_a_machine_that_was_not_calm_is_told(good: Report) -> None:
    """Drift of the bare parts, strangers on the machine and its host make figures doubtful."""
    after = {**good.after, HTTP: replace(good.after[HTTP], per_s=3.7e3)}
    (warning,) = verdict.warnings(replace(good, after=after))
    assert warning.startswith("bare POST did -26%")
    (warning,) = verdict.warnings(with_machine(good, cpu_percent=160.0))
    assert "45 % of a core" in warning
    (warning,) = verdict.warnings(with_machine(good, stolen_percent=21.0))
    assert "host of this machine took 21 % of a core" in warning
