"""The search for the ceiling ends, and at the right rate."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scripts.bench.ceiling import (
    PRECISION,
    RUNGS_MAX,
    Tried,
    climb,
    highest_held,
    next_rate,
    tried,
)
from scripts.bench.figures import Report, Trial
from scripts.bench.tests.conftest import latency, with_delivery, with_load


def search(ceiling: float, first: int) -> list[Tried]:
    """Search a platform that holds up to a rate."""
    found: list[Tried] = []
    while (rate := next_rate(found, first)) is not None:
        found.append(Tried(rate, rate <= ceiling))
    return found


@given(ceiling=st.integers(15, 5000), first=st.integers(10, 1000))
def test_the_ceiling_is_found(ceiling: int, first: int) -> None:
    """From any first rate on, the highest that held is within the precision of the truth."""
    found = search(ceiling, first)
    held = highest_held(found)
    assert held is not None
    if len(found) < RUNGS_MAX:
        assert held <= ceiling <= max(held * PRECISION, held + 1)


def test_a_platform_that_holds_nothing_ends_the_search() -> None:
    """Where no rate holds, the search goes down to the least rate and gives up."""
    found = search(0, 400)
    assert highest_held(found) is None
    assert len(found) < RUNGS_MAX


def test_a_rate_that_held_above_one_that_did_not_does_not_count() -> None:
    """Luck at a higher rate is no ceiling."""
    assert (
        highest_held([Tried(400, held=True), Tried(450, held=False), Tried(500, held=True)]) == 400
    )


@pytest.mark.parametrize(
    ("before", "then"),
    [
        ([], 400),
        ([Tried(400, held=True)], 500),
        ([Tried(400, held=False)], 320),
        ([Tried(400, held=True), Tried(500, held=False)], 450),
        ([Tried(490, held=True), Tried(500, held=False)], None),
    ],
)
def test_the_next_rate(before: list[Tried], then: int | None) -> None:
    """Up by a quarter, down by a fifth, then halving what is left until it is small."""
    assert next_rate(before, 400) == then


def at(good: Report, rate: int) -> Trial:
    """Return what a platform does that takes 600/s, and more only slowly."""
    p95_ms = 20.0 if rate <= 600 else 80.0
    load = with_load(
        good, offered_per_s=rate, achieved_per_s=rate, acceptance=latency(5, p95_ms, 90, 99)
    )
    return load.trial


async def test_a_platform_is_climbed(good: Report) -> None:
    """Rates are tried for their time until the highest that holds is known."""
    asked: list[int] = []

    async def load(rate: int, seconds: int) -> Trial:
        assert seconds == 15
        asked.append(rate)
        return at(good, rate)

    rungs = await climb(load, at(good, 400), 15)
    assert asked == [500, 625, 562, 593, 609]
    assert highest_held(tried(rungs)) == 593
    assert rungs[2].broken == ["acceptance p95 80.0 ms"]
    assert rungs[2].stopped_by.startswith("no CPU")


async def test_a_backlog_that_stays_ends_the_climb(good: Report) -> None:
    """No rate is tried behind the backlog of another."""

    async def load(rate: int, _seconds: int) -> Trial:
        return with_delivery(with_load(good, offered_per_s=rate), emptied_after_s=None).trial

    rungs = await climb(load, at(good, 400), 15)
    assert tried(rungs) == [Tried(400, held=True), Tried(500, held=False)]


async def test_a_generator_at_its_limit_is_no_ceiling_of_the_platform(good: Report) -> None:
    """A rate that k6 could not keep did not hold, and the reason is told."""

    async def load(rate: int, _seconds: int) -> Trial:
        return with_load(good, offered_per_s=rate, achieved_per_s=rate, late_p99_ms=90.0).trial

    rungs = await climb(load, at(good, 400), 15)
    assert highest_held(tried(rungs)) == 400
    assert rungs[1].broken == ["k6 was the limit"]
    assert "90 ms late" in rungs[1].stopped_by
