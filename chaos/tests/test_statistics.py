"""The statistics give the figures of the tables, and see a difference only where there is one."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chaos.statistics import compare, mann_whitney, median_interval, miss_chance_at_most, summarise


@pytest.mark.parametrize(
    ("repeats", "place", "confidence"),
    [(6, 1, 0.969), (10, 2, 0.979), (20, 6, 0.959), (30, 10, 0.957)],
)
def test_the_median_lies_between_two_values(repeats: int, place: int, confidence: float) -> None:
    """The pair of order statistics is the one of the tables."""
    found = median_interval([float(n) for n in range(1, repeats + 1)])
    assert found is not None
    assert (found.lo, found.hi) == (place, repeats + 1 - place)
    assert found.confidence == pytest.approx(confidence, abs=0.001)


def test_five_values_say_nothing_of_the_median() -> None:
    """With five repeats there is no interval at 95 %."""
    assert median_interval([1.0, 2.0, 3.0, 4.0, 5.0]) is None


@pytest.mark.parametrize(
    ("repeats", "chance"), [(5, 0.45), (10, 0.26), (20, 0.14), (30, 0.095), (59, 0.05)]
)
def test_so_many_repeats_bound_the_chance_of_a_miss(repeats: int, chance: float) -> None:
    """Zero misses bound the chance as in the tables; a miss raises the bound."""
    assert miss_chance_at_most(repeats, 0) == pytest.approx(chance, abs=0.006)
    assert miss_chance_at_most(repeats, 1) > miss_chance_at_most(repeats, 0)
    assert miss_chance_at_most(repeats, repeats) == 1.0


def test_few_values_have_their_maximum_as_p95() -> None:
    """Below twenty values p95 is the maximum, and says so."""
    assert summarise([1.0, 2.0, 9.0]).p95_is_max
    full = summarise([float(n) for n in range(1, 21)])
    assert (full.p95, full.p95_is_max, full.median, full.mad) == (19.0, False, 10.5, 5.0)


@settings(max_examples=20)
@given(st.lists(st.floats(0, 100), min_size=6, max_size=20))
def test_a_sample_does_not_differ_from_itself(values: list[float]) -> None:
    """Equal samples show no difference."""
    assert not compare(values, values).seen
    assert mann_whitney(values, values) > 0.9


def test_a_clear_difference_is_seen() -> None:
    """Samples that lie apart differ, by the right amount."""
    a = [6.0 + n / 10 for n in range(10)]
    found = compare(a, [value - 5.9 for value in a])
    assert found.seen
    assert found.difference == pytest.approx(-5.9)
    assert found.hi < 0
