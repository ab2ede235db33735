"""What the ledger keeps, as values: lanes, rows, claims, results, reports."""

from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from msgspec import Struct

from services.connectors.base import StatusUpdate
from services.contracts.records import Attempt, Reason
from services.contracts.status import Status


class Lane(Struct, frozen=True):
    """Deliveries that keep their order: one conversation's to one recipient on this channel."""

    partition: int
    conversation_id: UUID
    recipient_id: UUID


Key = tuple[UUID, UUID, int]
"""What names a row of a channel: its message, recipient and part."""


class Row(Struct, frozen=True, kw_only=True):
    """A part of a delivery as the ledger has it."""

    message_id: UUID
    recipient_id: UUID
    part: int
    parts: int
    conversation_id: UUID
    partition: int
    account: str
    address: str
    content: str
    reply_to: UUID | None
    at_least_once: bool
    traceparent: str | None
    accepted_at: datetime
    state: str
    replay_no: int
    attempts: int
    attempt_id: UUID | None
    wait_s: float = 0.0
    """How long a pending row must wait, or a foreign claim is still to be respected."""

    @property
    def key(self) -> Key:
        """What names this row."""
        return (self.message_id, self.recipient_id, self.part)

    @property
    def lane(self) -> Lane:
        """The lane this delivery is in."""
        return Lane(self.partition, self.conversation_id, self.recipient_id)


class Report(Struct, frozen=True, kw_only=True):
    """What the users are to be told about a delivery; no status means nothing yet.

    `part` and `at` name the row and the result that led to it.
    """

    message_id: UUID
    recipient_id: UUID
    part: int
    parts: int
    conversation_id: UUID
    replay_no: int
    status: Status | None
    at: datetime
    reason: Reason | None = None
    attempts: tuple[Attempt, ...] = ()
    traceparent: str | None = None


class Claim(NamedTuple):
    """One attempt at a row under the epoch of its partition."""

    row: Row
    epoch: int
    attempt_id: UUID


class Taken(NamedTuple):
    """The provider took what was claimed, and named it."""

    row: Row
    attempt_id: UUID
    provider_id: str


class Settled(NamedTuple):
    """What a result led to: a report unless it was known before, and statuses that were early.

    These came before it was known whose they are.
    """

    account: str
    report: Report | None
    early: list[StatusUpdate]
