"""A message as MongoDB keeps it."""

import hashlib
from datetime import UTC, datetime
from enum import StrEnum
from uuid import UUID

import msgspec
from msgspec import Struct, field

from services.contracts.records import (
    ConversationChanged,
    MessageAccepted,
    PlannedDelivery,
    Reason,
)
from services.contracts.status import Status


class Direction(StrEnum):
    """Which way a message goes, seen from the platform."""

    OUTBOUND = "OUTBOUND"
    INBOUND = "INBOUND"


class Order(StrEnum):
    """Which end of a history comes first."""

    ASC = "asc"
    DESC = "desc"


class Evidence(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One thing that was learned of a delivery. `at` is the provider's time if it gave one."""

    status: Status
    at: datetime
    observed_at: datetime
    reason: Reason | None = None
    replay_no: int = 0


class Delivery(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One recipient on one channel: the highest evidence, and all of it, the highest last."""

    recipient_id: UUID
    channel: str
    status: Status
    updated_at: datetime
    history: tuple[Evidence, ...]
    reason: Reason | None = None
    replay_no: int = 0


class Message(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A message, its deliveries frozen at acceptance, `rev` counting every change."""

    id: UUID = field(name="_id")
    conversation_id: UUID
    seq: int
    direction: Direction
    sender_id: UUID
    channel: str
    accepted_at: datetime
    status: Status
    rev: int
    content: str | None = None
    account: str | None = None
    reply_to: UUID | None = None
    deliveries: tuple[Delivery, ...] = ()
    at_least_once: bool = False
    body_hash: str | None = None
    idempotency_key: str | None = None
    sweep_at: datetime | None = None
    provider_message_id: str | None = None
    provider_at: datetime | None = None
    raw: str | None = None
    read_at: datetime | None = None

    def accepted(self) -> MessageAccepted:
        """Return the record that sends what is pending of the message on its way."""
        return MessageAccepted(
            message_id=self.id,
            conversation_id=self.conversation_id,
            sender_id=self.sender_id,
            content=self.content or "",
            deliveries=tuple(
                PlannedDelivery(
                    recipient_id=delivery.recipient_id,
                    channel=delivery.channel,
                    replay_no=delivery.replay_no,
                    account=self.account if delivery.channel == self.channel else None,
                )
                for delivery in self.deliveries
                if delivery.status is Status.PENDING
            ),
            accepted_at=self.accepted_at,
            reply_to=self.reply_to,
            at_least_once=self.at_least_once,
        )

    def changed(self) -> ConversationChanged:
        """Return the record that tells watchers of the conversation where the message stands."""
        return ConversationChanged(
            conversation_id=self.conversation_id,
            message_id=self.id,
            seq=self.seq,
            rev=self.rev,
            direction=self.direction,
            status=self.status,
            at=now(),
        )


def now() -> datetime:
    """Return the time as MongoDB keeps it, in milliseconds."""
    time = datetime.now(UTC)
    return time.replace(microsecond=time.microsecond // 1000 * 1000)


def fingerprint(body: Struct) -> str:
    """Return what two bodies have in common only when they ask for the same."""
    return hashlib.sha256(msgspec.json.encode(body)).hexdigest()
