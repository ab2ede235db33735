"""Statuses never go back, and the fewest survivors are counted at the worst moment."""

from uuid import UUID

import pytest

from chaos.checkers.statuses import StatusSeen, went_back
from chaos.checkers.survivors import fewest
from chaos.observations import Interval, Kind, Observation, Source
from services.contracts.status import Status

MESSAGE = UUID(int=1)


def seen(*statuses: tuple[Status, int]) -> list[StatusSeen]:
    """Return looks at one delivery, one per second."""
    return [
        StatusSeen(message_id=MESSAGE, recipient_id="r", at=at, status=status, replay_no=replay)
        for at, (status, replay) in enumerate(statuses)
    ]


@pytest.mark.parametrize(
    ("statuses", "wrong"),
    [
        ([(Status.PENDING, 0), (Status.SENT, 0), (Status.SENT, 0), (Status.READ, 0)], 0),
        ([(Status.UNKNOWN, 0), (Status.DELIVERED, 0)], 0),
        ([(Status.DELIVERED, 0), (Status.SENT, 0)], 1),
        ([(Status.READ, 0), (Status.DELIVERED, 0), (Status.PENDING, 0)], 2),
        ([(Status.FAILED, 0), (Status.PENDING, 1)], 0),
        ([(Status.PENDING, 1), (Status.READ, 0)], 1),
    ],
)
def test_a_status_that_goes_back_is_found(statuses: list[tuple[Status, int]], wrong: int) -> None:
    """Each step back is found, and a replay may begin again."""
    assert len(went_back(seen(*statuses))) == wrong


def change(kind: Kind, instance: str, lo: float, hi: float) -> Observation:
    """Return the exit or start of an instance of a job."""
    return Observation(
        source=Source.PIDFD,
        kind=kind,
        when=Interval(lo, hi),
        seen_at=hi,
        job="j",
        instance=instance,
    )


def test_survivors_are_counted_at_the_worst_moment() -> None:
    """An exit counts early, a start late, and other jobs do not count."""
    observations = [
        change(Kind.EXITED, "a", 1.0, 1.1),
        change(Kind.STARTED, "a", 1.9, 2.1),
        change(Kind.EXITED, "b", 2.0, 2.2),
    ]
    assert fewest("abc", observations, "j") == 1
    assert fewest("abc", observations[:2], "j") == 2
    assert fewest("abc", observations, "other") == 3
