"""What happened, as facts: what clients did and what the provider received."""

from enum import StrEnum
from uuid import UUID

from msgspec import Struct


class Outcome(StrEnum):
    """How a client's operation ended, from the client's view."""

    OK = "ok"
    """Answered 202: a promise."""
    FAIL = "fail"
    """Definitely refused, or never sent."""
    INFO = "info"
    """It may or may not have happened."""


class Send(Struct, frozen=True, kw_only=True, gc=False):
    """One POST of a message. Times are seconds of the harness's monotonic clock."""

    message_id: UUID
    lane: str
    sequence: int
    content: str
    invoked_at: float
    returned_at: float
    outcome: Outcome
    answer: str


class Receipt(Struct, frozen=True, kw_only=True, gc=False):
    """A message as the provider received it. Times are seconds since the epoch."""

    seq: int
    received_at: float
    answered_at: float | None
    to: str
    text: str
    kept: bool
    provider_id: str | None = None


class FinalState(Struct, frozen=True, kw_only=True):
    """What the API says of a message at the end."""

    status: str
    reason: str | None = None
