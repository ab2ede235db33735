"""The order of statuses."""

from itertools import permutations

from hypothesis import given
from hypothesis import strategies as st

from services.contracts.status import OUTCOME_UNKNOWN, Status, aggregate, rank

statuses = st.sampled_from(Status)


def test_the_order_is_the_one_documented() -> None:
    """PENDING < UNKNOWN < FAILED(outcome_unknown) < SENT < FAILED < DELIVERED < READ."""
    order = [
        rank(Status.PENDING),
        rank(Status.UNKNOWN),
        rank(Status.FAILED, OUTCOME_UNKNOWN),
        rank(Status.SENT),
        rank(Status.FAILED, "provider_1"),
        rank(Status.DELIVERED),
        rank(Status.READ),
    ]
    assert order == sorted(set(order))


@given(st.lists(statuses, min_size=1, max_size=5))
def test_the_aggregate_does_not_depend_on_order(given_statuses: list[Status]) -> None:
    """Whatever order the deliveries stand in, the message has one status."""
    found = {aggregate(order) for order in permutations(given_statuses)}
    assert len(found) == 1


def test_the_aggregate_is_the_lowest_that_stands() -> None:
    """A failed delivery does not hold the others back, and all failed is FAILED."""
    assert aggregate([Status.READ, Status.SENT, Status.FAILED]) is Status.SENT
    assert aggregate([Status.FAILED, Status.FAILED]) is Status.FAILED
    assert aggregate([]) is Status.FAILED
