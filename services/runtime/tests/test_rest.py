"""How long a consumer rests after a batch."""

import pytest

from services.runtime.kafka.rest import Pace, Rest, Wave

NOW = 1000.0
WAVES = Rest(waves=(Wave(40, 0.1), Wave(100, 0.25)))


@pytest.mark.parametrize(
    ("spent_s", "expected_s"),
    [
        pytest.param(0.01, 0.015, id="as long as the batch took, and half"),
        pytest.param(1.0, 0.08, id="however slow it was, no longer than that"),
    ],
)
def test_a_rest_goes_by_what_the_batch_took(spent_s: float, expected_s: float) -> None:
    """What took longer is followed by a longer rest, within a bound."""
    assert Pace(Rest(), NOW).after(500, 1, spent_s, NOW) == pytest.approx(expected_s)


@pytest.mark.parametrize(
    ("rate_per_s", "apart_s"),
    [
        pytest.param(20, None, id="few records come in no waves"),
        pytest.param(60, 0.1, id="more come in waves"),
        pytest.param(140, 0.25, id="many come in longer ones"),
    ],
)
def test_waves_go_by_the_rate(rate_per_s: int, apart_s: float | None) -> None:
    """Once a rate has held for some seconds, a rest ends where its waves begin."""
    pace, now = Pace(WAVES, NOW), NOW
    for _ in range(5 * rate_per_s):
        now += 1 / rate_per_s
        rest_s = pace.after(1, 1, 0.01, now)
    expected_s = 0.015 if apart_s is None else apart_s - now % apart_s
    assert rest_s == pytest.approx(expected_s)


def test_a_rate_is_that_of_a_partition() -> None:
    """Who has more partitions, and so more records, rests as the others do."""
    few, many, now = Pace(WAVES, NOW), Pace(WAVES, NOW), NOW
    for _ in range(500):
        now += 0.01
        rests = few.after(1, 2, 0.01, now), many.after(2, 4, 0.01, now)
    assert rests[0] == rests[1] == pytest.approx(0.1 - now % 0.1)


def test_waves_are_the_same_for_all() -> None:
    """Whoever rests, and since whenever, they all go on at one moment."""
    ends = []
    for late_s in (0.0, 0.03, 0.11):
        pace = Pace(WAVES, NOW)
        pace.after(500, 1, 0.01, NOW)
        now = NOW + 0.26 + late_s
        ends.append(now + pace.after(1, 1, 0.01, now))
    assert ends == pytest.approx([NOW + 0.5] * 3)


def test_a_load_that_is_over_is_forgotten() -> None:
    """A while after many records a single one comes in no wave."""
    pace = Pace(WAVES, NOW)
    pace.after(500, 1, 0.01, NOW)
    assert pace.after(1, 1, 0.01, NOW + 20) == pytest.approx(0.015)
