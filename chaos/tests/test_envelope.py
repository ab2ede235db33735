"""What the settings predict of a scenario."""

import pytest

from chaos import scenario
from chaos.envelope import EVICTION_S, predicted


@pytest.mark.parametrize(
    ("name", "eviction", "at_least", "at_most"),
    [
        pytest.param("kill-router", True, 0.0, EVICTION_S, id="seen by a survivor"),
        pytest.param("kill-router", False, 3.0, 6.5, id="given up by the broker"),
        pytest.param("pause-router", True, 5.0, 6.5, id="silence is no death"),
    ],
)
def test_who_sees_a_death_says_how_soon(
    name: str,
    eviction: bool,  # noqa: FBT001
    at_least: float,
    at_most: float,
) -> None:
    """Survivors see a kill at once; silence lasts until the broker's session timeout."""
    found = predicted(scenario.load(name), eviction=eviction)
    assert (found["detection_s"].lo, found["detection_s"].hi) == (at_least, at_most)
    assert found["rebalance_s"].lo == 0.0


def test_nothing_is_predicted_where_nobody_survives() -> None:
    """How soon processes are started again is no setting of the suite's."""
    assert predicted(scenario.load("kill-routers-all"), eviction=True) == {}
    assert predicted(scenario.load("baseline"), eviction=True) == {}
