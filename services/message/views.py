"""What the API shows of messages, conversations and channels."""

from datetime import datetime
from typing import Annotated
from uuid import UUID

from msgspec import Meta, Struct

from services.contracts.channels import AccountState, AccountStatus, ChannelState, Quota
from services.contracts.people import Kind
from services.contracts.records import Reason
from services.contracts.status import Status
from services.contracts.times import rfc3339
from services.message.conversations import Conversation
from services.message.messages import Delivery, Direction, Message
from services.runtime.http.routes import Timestamp


class AcceptedView(Struct, frozen=True):
    """The answer to a message that was accepted."""

    message_id: UUID
    status: Annotated[Status, Meta(examples=["PENDING"])]
    timestamp: Timestamp


class EvidenceView(Struct, frozen=True, kw_only=True):
    """One thing that was learned of a delivery."""

    status: Status
    at: Timestamp
    observed_at: Timestamp
    reason: Reason | None
    replay_no: int


class DeliveryView(Struct, frozen=True, kw_only=True):
    """Where one delivery stands and all that led there, the decisive evidence last."""

    recipient_id: UUID
    channel: str
    status: Status
    reason: Reason | None
    replay_no: int
    updated_at: Timestamp
    history: list[EvidenceView]


class StatusView(Struct, frozen=True, kw_only=True):
    """Where a message stands: the lowest status of its deliveries that did not fail."""

    message_id: UUID
    status: Status
    rev: int
    deliveries: list[DeliveryView]


class MessageView(Struct, frozen=True, kw_only=True):
    """A message in a history; `content` is null for a kind that cannot be shown yet."""

    message_id: UUID
    conversation_id: UUID
    seq: int
    direction: Direction
    sender_id: UUID
    channel: str
    account: str | None
    content: str | None
    unsupported: bool
    reply_to: UUID | None
    status: Status
    rev: int
    timestamp: Timestamp
    provider_at: Timestamp | None
    read_at: Timestamp | None


class ParticipantView(Struct, frozen=True):
    """Somebody in a conversation and since when."""

    user_id: UUID
    kind: Kind
    joined_at: Timestamp


class ConversationView(Struct, frozen=True, kw_only=True):
    """A conversation and what is counted of it."""

    conversation_id: UUID
    title: str | None
    participants: list[ParticipantView]
    primary_channel: str
    account: str | None
    message_count: int
    created_at: Timestamp
    last_activity_at: Timestamp
    archived_at: Timestamp | None


class AccountErrorView(Struct, frozen=True):
    """Something that held an account up, not just one of its messages."""

    at: Timestamp
    code: str
    detail: str


class AccountView(Struct, frozen=True):
    """What the provider last said of an account's credentials, and the last trouble with it."""

    account: str
    status: AccountStatus
    checked_at: Timestamp
    detail: str | None
    last_error: AccountErrorView | None


class CapabilitiesView(Struct, frozen=True):
    """What a channel can do."""

    receipts: list[Status]
    text_length_max: int


class ChannelView(Struct, frozen=True, kw_only=True):
    """A channel; messages are taken for it while it is enabled."""

    channel: str
    enabled: bool
    capabilities: CapabilitiesView
    quota: Quota | None
    accounts: list[AccountView]


def _optional(time: datetime | None) -> str | None:
    return None if time is None else rfc3339(time)


def accepted_view(message: Message) -> AcceptedView:
    """Return the answer that a message was accepted with, the same whenever it is asked for."""
    return AcceptedView(message.id, Status.PENDING, rfc3339(message.accepted_at))


def status_view(message: Message) -> StatusView:
    """Show where a message stands."""
    return StatusView(
        message_id=message.id,
        status=message.status,
        rev=message.rev,
        deliveries=[_delivery_view(delivery) for delivery in message.deliveries],
    )


def message_view(message: Message) -> MessageView:
    """Show a message."""
    return MessageView(
        message_id=message.id,
        conversation_id=message.conversation_id,
        seq=message.seq,
        direction=message.direction,
        sender_id=message.sender_id,
        channel=message.channel,
        account=message.account,
        content=message.content,
        unsupported=message.content is None,
        reply_to=message.reply_to,
        status=message.status,
        rev=message.rev,
        timestamp=rfc3339(message.accepted_at),
        provider_at=_optional(message.provider_at),
        read_at=_optional(message.read_at),
    )


def conversation_view(conversation: Conversation) -> ConversationView:
    """Show a conversation."""
    return ConversationView(
        conversation_id=conversation.id,
        title=conversation.title,
        participants=[
            ParticipantView(one.user_id, one.kind, rfc3339(one.joined_at))
            for one in conversation.participants
        ],
        primary_channel=conversation.primary_channel,
        account=conversation.account_on(conversation.primary_channel),
        message_count=conversation.message_count,
        created_at=rfc3339(conversation.created_at),
        last_activity_at=rfc3339(conversation.last_activity_at),
        archived_at=_optional(conversation.archived_at),
    )


def channel_view(state: ChannelState, *, enabled: bool) -> ChannelView:
    """Show a channel and its accounts, without anything secret."""
    return ChannelView(
        channel=state.channel,
        enabled=enabled,
        capabilities=CapabilitiesView(
            list(state.capabilities.receipts), state.capabilities.text_length_max
        ),
        quota=state.quota,
        accounts=[_account_view(name, account) for name, account in sorted(state.accounts.items())],
    )


def _account_view(name: str, state: AccountState) -> AccountView:
    error = state.last_error
    return AccountView(
        account=name,
        status=state.status,
        checked_at=rfc3339(state.checked_at),
        detail=state.detail,
        last_error=AccountErrorView(rfc3339(error.at), error.code, error.detail) if error else None,
    )


def _delivery_view(delivery: Delivery) -> DeliveryView:
    return DeliveryView(
        recipient_id=delivery.recipient_id,
        channel=delivery.channel,
        status=delivery.status,
        reason=delivery.reason,
        replay_no=delivery.replay_no,
        updated_at=rfc3339(delivery.updated_at),
        history=[
            EvidenceView(
                status=entry.status,
                at=rfc3339(entry.at),
                observed_at=rfc3339(entry.observed_at),
                reason=entry.reason,
                replay_no=entry.replay_no,
            )
            for entry in delivery.history
        ],
    )
