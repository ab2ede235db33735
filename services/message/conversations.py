"""A conversation as MongoDB keeps it, and who may take part."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from msgspec import Struct, field

from services.contracts.people import Kind, Person
from services.contracts.problems import Problem

PARTICIPANTS_MIN, PARTICIPANTS_MAX = 2, 100


class Participant(Struct, frozen=True, kw_only=True):
    """A person in a conversation and since when."""

    user_id: UUID
    kind: Kind
    joined_at: datetime


class Conversation(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A thread of messages; `version` counts the changes of who takes part and how they write.

    `accounts` are those of ours that the customer wrote to, by channel. `contact_key` marks the
    conversation that a customer's first message opened.
    """

    id: UUID = field(name="_id")
    participants: tuple[Participant, ...]
    primary_channel: str
    created_at: datetime
    last_activity_at: datetime
    version: int
    seq: int
    message_count: int
    title: str | None = None
    account: str | None = None
    accounts: dict[str, str] = {}
    contact_key: str | None = None
    archived_at: datetime | None = None

    def participant(self, user_id: UUID) -> Participant | None:
        """Return somebody who takes part, None when they do not."""
        return next((one for one in self.participants if one.user_id == user_id), None)

    def others(self, user_id: UUID, kind: Kind) -> tuple[UUID, ...]:
        """Return those of a kind who take part, without one."""
        return tuple(
            one.user_id for one in self.participants if one.kind is kind and one.user_id != user_id
        )

    def account_on(self, channel: str) -> str | None:
        """Return the account that messages on a channel go through; None means any of ours."""
        own = self.account if channel == self.primary_channel else None
        return own or self.accounts.get(channel)


def open_conversation(
    conversation_id: UUID,
    people: Sequence[Person],
    channel: str,
    at: datetime,
    *,
    title: str | None = None,
    account: str | None = None,
    contact_key: str | None = None,
) -> Conversation:
    """Return a conversation in which nothing was said yet."""
    return Conversation(
        id=conversation_id,
        participants=tuple(
            Participant(user_id=person.user_id, kind=person.kind, joined_at=at) for person in people
        ),
        primary_channel=channel,
        created_at=at,
        last_activity_at=at,
        version=0,
        seq=0,
        message_count=0,
        title=title,
        account=account,
        contact_key=contact_key,
    )


def check_participants(user_ids: Sequence[UUID]) -> None:
    """Raise the Problem when these cannot be the participants of a conversation."""
    if not PARTICIPANTS_MIN <= len(user_ids) <= PARTICIPANTS_MAX:
        raise Problem(
            "invalid_field",
            f"Name {PARTICIPANTS_MIN} to {PARTICIPANTS_MAX} participants.",
            field="participants",
        )
    if len(set(user_ids)) != len(user_ids):
        raise Problem("invalid_field", "Name each participant once.", field="participants")
