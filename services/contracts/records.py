"""The records on Kafka. A change of any of them is a change of the wire: see snapshots/."""

from datetime import datetime
from typing import Annotated
from uuid import UUID

import msgspec
from msgspec import Meta, Struct

from services.contracts.status import Status

VERSION = 1

ChannelName = Annotated[str, Meta(pattern=r"\A[A-Z][A-Z0-9_]{0,31}\Z")]


class Record(Struct, frozen=True, kw_only=True, tag_field="type", tag=True):
    """What all records carry: their type (the tag) and the version of the contract."""

    v: int = VERSION


class Reason(Struct, frozen=True):
    """Why something failed: a stable code and one sentence."""

    code: str
    detail: str


class Attempt(Struct, frozen=True):
    """An attempt to send that failed: when, a stable code and one sentence."""

    at: datetime
    code: str
    detail: str


class PlannedDelivery(Struct, frozen=True, kw_only=True):
    """One recipient on one channel, frozen when the message was accepted.

    `account` is which of ours it goes through; none means any.
    """

    recipient_id: UUID
    channel: ChannelName
    replay_no: int = 0
    account: str | None = None


class MessageAccepted(Record, frozen=True, kw_only=True):
    """A stored message that is to be delivered (chat-events)."""

    message_id: UUID
    conversation_id: UUID
    sender_id: UUID
    content: str
    deliveries: tuple[PlannedDelivery, ...]
    accepted_at: datetime
    reply_to: UUID | None = None
    at_least_once: bool = False


class DeliveryRequested(Record, frozen=True, kw_only=True):
    """One delivery with the address it goes to (outbound.<channel>).

    `at_least_once` says that an unknown outcome is tried again rather than waited for.
    """

    message_id: UUID
    conversation_id: UUID
    recipient_id: UUID
    channel: ChannelName
    address: str
    content: str
    accepted_at: datetime
    account: str | None = None
    reply_to: UUID | None = None
    replay_no: int = 0
    at_least_once: bool = False


class StatusChanged(Record, frozen=True, kw_only=True):
    """Evidence about one delivery (status-updates). `at` is the provider's time if it gave one.

    `attempts` tells of the failed attempts behind a failure.
    """

    message_id: UUID
    conversation_id: UUID
    recipient_id: UUID
    channel: ChannelName
    status: Status
    at: datetime
    observed_at: datetime
    reason: Reason | None = None
    replay_no: int = 0
    attempts: tuple[Attempt, ...] = ()


class MessageReceived(Record, frozen=True, kw_only=True):
    """A message that a customer wrote (inbound-messages).

    `account_scoped` says that the address means somebody only within this account.
    `content` is None for a kind this version cannot show; `raw` then keeps what came.
    """

    channel: ChannelName
    account: str
    account_scoped: bool
    address: str
    provider_message_id: str
    provider_at: datetime
    received_at: datetime
    content: str | None
    sender_name: str | None = None
    reply_to: UUID | None = None
    raw: str | None = None


class ConversationChanged(Record, frozen=True, kw_only=True):
    """The state of a message after something happened to it (conversation-events)."""

    conversation_id: UUID
    message_id: UUID
    seq: int
    rev: int
    direction: str
    status: Status
    at: datetime


class DeadLetter(Record, frozen=True, kw_only=True):
    """A record that could not be parsed or routed (chat-events-dlq), with where it stood."""

    topic: str
    partition: int
    offset: int
    key: bytes
    value: bytes
    reason: Reason
    at: datetime


AnyRecord = (
    MessageAccepted
    | DeliveryRequested
    | StatusChanged
    | MessageReceived
    | ConversationChanged
    | DeadLetter
)


class Poison(ValueError):  # noqa: N818 - the field's word
    """A record that no version of ours can read; its text says why without quoting content."""


_encoder = msgspec.json.Encoder()
_decoder: msgspec.json.Decoder[AnyRecord] = msgspec.json.Decoder(AnyRecord)


def encode(record: AnyRecord) -> bytes:
    """Return the bytes of a record as they stand on Kafka."""
    return _encoder.encode(record)


def decode(value: bytes) -> AnyRecord:
    """Read a record; raise Poison when it is not JSON, of no known type, shape or version."""
    try:
        record = _decoder.decode(value)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Poison(f"unreadable record: {error}") from error
    if record.v != VERSION:
        raise Poison(f"unknown version {record.v} of {type(record).__name__}")
    return record
