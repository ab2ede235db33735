"""The order of delivery statuses: a status is the maximum of all evidence seen.

PENDING < UNKNOWN < FAILED(outcome_unknown) < SENT < FAILED < DELIVERED < READ, compared as
(replay_no, rank), so that any order, repetition or late arrival of evidence ends in one state.
"""

from collections.abc import Iterable
from enum import StrEnum

OUTCOME_UNKNOWN = "outcome_unknown"
"""Reason code of a delivery given up without evidence; any later evidence corrects it."""


class Status(StrEnum):
    """What is known of one delivery."""

    PENDING = "PENDING"
    UNKNOWN = "UNKNOWN"
    SENT = "SENT"
    FAILED = "FAILED"
    DELIVERED = "DELIVERED"
    READ = "READ"


_RANK = {
    Status.PENDING: 0,
    Status.UNKNOWN: 1,
    Status.SENT: 3,
    Status.FAILED: 4,
    Status.DELIVERED: 5,
    Status.READ: 6,
}
_RANK_OUTCOME_UNKNOWN = 2


def rank(status: Status, reason_code: str | None = None) -> int:
    """Return the place of a status (with the reason of its failure) in the order."""
    if status is Status.FAILED and reason_code == OUTCOME_UNKNOWN:
        return _RANK_OUTCOME_UNKNOWN
    return _RANK[status]


def aggregate(statuses: Iterable[Status]) -> Status:
    """Return the status of a message: the lowest of those not failed, FAILED when all are."""
    standing = [status for status in statuses if status is not Status.FAILED]
    return min(standing, key=rank) if standing else Status.FAILED
