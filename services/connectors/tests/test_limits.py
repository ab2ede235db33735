"""Limits ahead of the provider: in no window more than the provider takes."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.connectors import limits
from services.connectors.limits import AccountLimits
from services.connectors.tests.doubles import Clock
from services.contracts.channels import Limits

LIMITS = Limits(account_per_s=10, account_burst=20, recipient_interval_s=2.0, recipient_burst=3)
TOLERANCE_S = 1e-6


def most_within(taken: list[float], interval_s: float, burst: int) -> None:
    """Assert that every window holds no more than its length allows beyond the burst."""
    for first, start in enumerate(taken):
        for last in range(first, len(taken)):
            allowed = burst + (taken[last] - start + TOLERANCE_S) / interval_s
            assert last - first + 1 <= allowed


@given(
    st.lists(st.floats(0, 3), min_size=1, max_size=80),
    st.sampled_from([0.1, 0.3, 0.5, 1.0]),
    st.booleans(),
)
def test_no_window_holds_more(pauses: list[float], share: float, patient: bool) -> None:  # noqa: FBT001
    """Whenever deliveries come and whether or not they wait, account and recipient are kept."""
    clock = Clock()
    account = AccountLimits(LIMITS, clock)
    sent: list[float] = []
    received: list[float] = []
    takes: list[tuple[Callable[[], float], list[float]]] = [
        (lambda: account.take(share), sent),
        (lambda: account.take_to("55"), received),
    ]
    for pause in pauses:
        clock.now += pause
        for take, times in takes:
            wait_s = take()
            if wait_s > 0 and patient:
                clock.now += wait_s + TOLERANCE_S
                wait_s = take()
                assert wait_s == 0, "a wait that is told is enough"
            if wait_s <= 0:
                times.append(clock.now)
    most_within(sent, 1 / (LIMITS.account_per_s * share), int(LIMITS.account_burst * share))
    most_within(received, LIMITS.recipient_interval_s, LIMITS.recipient_burst)


def test_one_recipient_does_not_hold_back_another() -> None:
    """Each has a pace of its own."""
    account = AccountLimits(LIMITS, Clock())
    while account.take_to("first") == 0:
        pass
    assert account.take_to("second") == 0


def test_recipients_of_the_past_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory is bounded by those whose time has not passed."""
    monkeypatch.setattr(limits, "RECIPIENTS_MAX", 10)
    clock = Clock()
    account = AccountLimits(LIMITS, clock)
    for number in range(100):
        assert account.take_to(str(number)) == 0
        clock.now += LIMITS.recipient_interval_s
        assert len(account._recipients) <= 10
