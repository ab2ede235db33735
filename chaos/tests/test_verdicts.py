"""Verdicts have three values, and only what is certain is true or false."""

import math

import pytest

from chaos.checkers.must_happen import check
from chaos.observations import Interval
from chaos.verdicts import EXIT_CODES, Valid, at_least, at_most, overall


@pytest.mark.parametrize(
    ("measured", "valid"),
    [
        (Interval(1.0, 2.0), Valid.TRUE),
        (Interval(2.0, 3.0), Valid.UNKNOWN),
        (Interval(2.5, 3.0), Valid.FALSE),
        (Interval(1.0, math.inf), Valid.UNKNOWN),
        (Interval(9.0, math.inf), Valid.FALSE),
        (None, Valid.UNKNOWN),
    ],
)
def test_an_interval_is_held_against_a_target(measured: Interval | None, valid: Valid) -> None:
    """Only an interval that lies wholly on one side of the target decides."""
    assert at_most(measured, 2.0) is valid


def test_a_lower_target_is_held_the_other_way_round() -> None:
    """At least means that the lower bound reaches it."""
    assert at_least(Interval(1.0, 1.0), 1.0) is Valid.TRUE
    assert at_least(Interval(0.0, 0.0), 1.0) is Valid.FALSE
    assert at_least(None, 1.0) is Valid.UNKNOWN


def test_false_goes_before_unknown_before_true() -> None:
    """The worst verdict counts, nothing judged is unknown, and each has its exit code."""
    assert overall([Valid.TRUE, Valid.UNKNOWN, Valid.FALSE]) is Valid.FALSE
    assert overall([Valid.TRUE, Valid.UNKNOWN]) is Valid.UNKNOWN
    assert overall([Valid.TRUE]) is Valid.TRUE
    assert overall([]) is Valid.UNKNOWN
    assert [EXIT_CODES[v] for v in (Valid.TRUE, Valid.FALSE, Valid.UNKNOWN)] == [0, 1, 2]


def test_what_must_happen_and_did_not_makes_a_run_unknown() -> None:
    """A missing event is never a failure of the platform and never a pass."""
    conditions = ["fault-confirmed", "rebalance >= 2"]
    found = check(conditions, {"fault-confirmed": 1, "rebalance": 1})
    assert [verdict.valid for verdict in found] == [Valid.TRUE, Valid.UNKNOWN]
    assert "rebalance happened 1 times" in found[1].reason
    with pytest.raises(ValueError, match="no condition"):
        check(["rebalance => 2"], {})
