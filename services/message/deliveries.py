"""Freezes what a message will be delivered as, at its acceptance and for ever."""

from collections.abc import Mapping
from datetime import datetime
from uuid import UUID

from services.contracts.channels import ChannelState
from services.contracts.people import Person
from services.contracts.problems import Problem
from services.message.conversations import Conversation
from services.message.messages import Delivery
from services.message.statuses import pending


def check_channel(channel: str, state: ChannelState | None, content: str, *, usable: bool) -> None:
    """Raise the Problem when a channel cannot carry this text now."""
    if state is None:
        raise Problem("unknown_channel", "Choose one of GET /api/v1/channels.", field="channel")
    if not usable:
        raise Problem("channel_disabled", "Choose another or enable it first.", field="channel")
    longest = state.capabilities.text_length_max
    if len(content) > longest:
        raise Problem(
            "text_too_long", f"{channel} takes at most {longest} characters.", field="content"
        )


def recipients_of(conversation: Conversation, sender_id: UUID) -> tuple[UUID, ...]:
    """Return whom a message of this sender goes to; raise the Problem when it cannot go."""
    if conversation.participant(sender_id) is None:
        raise Problem("not_a_participant", "Add the sender first.", field="sender_id")
    recipients = conversation.customers_but(sender_id)
    if not recipients:
        raise Problem("no_recipient", "Add a customer to the conversation first.")
    return recipients


def freeze(
    recipients: tuple[UUID, ...], channel: str, people: Mapping[UUID, Person], at: datetime
) -> tuple[Delivery, ...]:
    """Return one delivery for each recipient; raise the Problem when one cannot be reached."""
    for recipient_id in recipients:
        person = people.get(recipient_id)
        if person is None or person.address_on(channel) is None:
            raise Problem(
                "no_identity", f"Link an identity on {channel} to user {recipient_id} first."
            )
    return tuple(pending(recipient_id, channel, at) for recipient_id in recipients)
