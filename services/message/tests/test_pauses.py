"""The parts of a batch of statuses leave room for others, and a batch that is late catches up."""

import pytest

from services.message.consumer import PAUSE_RATIO, SPREAD_S, pause_s


@pytest.mark.parametrize("spent_s", [0.002, 0.01, 0.03, 0.2])
@pytest.mark.parametrize("parts", [1, 2, 8, 40])
def test_pauses_fit_in_the_time_of_a_batch(parts: int, spent_s: float) -> None:
    """With its pauses a batch takes no longer than that, or than its parts alone do."""
    took_s = 0.0
    for left in reversed(range(parts)):
        took_s += spent_s
        if left:
            took_s += pause_s(spent_s, (SPREAD_S - took_s) / left)
    assert took_s <= max(SPREAD_S, parts * spent_s) + 1e-9


def test_a_pause_is_measured_by_the_part_before() -> None:
    """Where there is time, others have twice as long as a part took; where not, nothing waits."""
    assert pause_s(0.01, 1.0) == pytest.approx(PAUSE_RATIO * 0.01)
    assert pause_s(0.03, 0.04) == pytest.approx(0.01)
    assert pause_s(0.05, 0.04) == 0.0
